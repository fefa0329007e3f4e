"""The connections to Discord: events that the library cannot read, and shards that change hands between processes."""
