"""Which job goes to its provider next: queues, slots, circuit breakers, rate limits."""
