"""Tables of money: the ledger, every limit on it, and its sums."""
