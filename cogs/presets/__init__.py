"""Presets and defaults: what members and moderators set once for later orders."""
