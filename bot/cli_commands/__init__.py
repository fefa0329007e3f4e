"""The commands of `python -m bot` that need a file of their own."""
