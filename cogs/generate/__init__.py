"""Commands and buttons that order images, and the reply that shows them."""
