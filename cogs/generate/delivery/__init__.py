"""From a state of the job to the message that shows it."""
