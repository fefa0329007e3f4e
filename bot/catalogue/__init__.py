"""What can be ordered and what it costs: models, request bodies, quotes, styles."""
