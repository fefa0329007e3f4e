"""The PostgreSQL engine: connections, notifications and the reply queue."""
