"""How the bot is run: its database, its processes and their roles."""
