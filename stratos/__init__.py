"""Stratos: distil a small language model for a narrow task, within a budget."""

__version__ = "0.1.0"
