"""Charts as data, and the process that draws them."""
