"""What the bot does by the clock and not for one order: retention, bills, alerts, the catalogue."""
