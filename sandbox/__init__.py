"""Simulated surroundings of the bot, for the demo and the tests. Knows the providers' contracts, not the bot's code."""
