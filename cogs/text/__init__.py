"""All texts that users read, one file per subject, and their translations."""
