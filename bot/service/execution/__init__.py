"""What happens to an accepted reply: submitted, polled, settled, and found again when an answer was lost."""
