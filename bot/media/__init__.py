"""Bytes from outside: downloading, decoding in separate processes, and storing images."""
