"""The application: image orders, money and providers. Only app.py, cli.py and gateway/ know Discord."""

__version__ = "1.0.0"
