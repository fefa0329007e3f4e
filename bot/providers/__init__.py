"""Hosted image APIs, one file each, and what they share: HTTP, parsing, polling."""
