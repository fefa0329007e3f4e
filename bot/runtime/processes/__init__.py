"""Child processes and what the system allows them and us."""
