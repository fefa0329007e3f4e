"""Review: moderators see images before everybody else, and approve or refuse them."""
