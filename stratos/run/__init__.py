"""A run: its stages in order, what is done already, and what is shown and kept of it."""
