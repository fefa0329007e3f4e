"""Messages without a command: spending alerts, the log channel, notices to the operator."""
