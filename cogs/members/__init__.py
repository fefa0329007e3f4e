"""Commands about a member's own account: usage, history, privacy, help."""
