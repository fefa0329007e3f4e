"""The application: image orders, money and providers. Only app.py, discord_client.py and cli.py know Discord."""
