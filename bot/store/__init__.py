"""The only package that speaks SQL: one store on SQLite or PostgreSQL."""
