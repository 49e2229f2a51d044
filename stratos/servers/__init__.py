"""What was started from this machine, and ending it."""
