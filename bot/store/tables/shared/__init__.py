"""Tables of what the processes of the bot share."""
