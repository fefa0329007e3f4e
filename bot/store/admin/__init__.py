"""The operator's tools for a database: verify, migrate, read-only access, readiness."""
