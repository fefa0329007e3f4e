"""The SQLite engine: one file, one writing and one reading connection."""
