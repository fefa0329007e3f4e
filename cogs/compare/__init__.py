"""/compare: one prompt, up to four models, and votes for the best image."""
