"""The HTTP port of the bot: health, metrics and webhooks."""
