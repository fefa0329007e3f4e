"""Everything that speaks Discord: commands, buttons, the one reply of a job, and all words that users read."""
