"""The options of each role: its work on each server, with cost and time."""
