"""The story of a job, from admission to the settled charge."""
