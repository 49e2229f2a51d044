"""Predicted accuracy of a student, from runs and pilots, or unknown."""
