"""The application: image orders, money, providers. Discord is unknown here except in app.py."""
