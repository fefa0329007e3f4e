"""SQL statements by table group, as functions that run inside a transaction of the caller."""
