"""What a refusal gives back: the typed command, and orders near it that would be possible."""
