"""The commands of /settings, one file per subject; `cogs/moderation/settings.py` puts them together."""
