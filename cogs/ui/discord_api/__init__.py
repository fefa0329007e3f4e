"""Requests to Discord: messages, deletions, errors and pace."""
