"""From a command, form or button to an accepted order."""
