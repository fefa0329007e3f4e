"""Every word that users read, one file per subject, and its translations."""
