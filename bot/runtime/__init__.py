"""What any long-running service needs: supervision, retries, logs, metrics, an HTTP server."""
