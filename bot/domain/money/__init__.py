"""Money in integer micro-dollars: quotas, what may be spent, and bills."""
