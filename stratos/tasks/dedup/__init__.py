"""Copies, near duplicates and leaks, and the splits that they are of: one place for all of them."""
