"""Stratos: a narrow task and a budget in, a small, hosted, measured language model out."""

__version__ = "0.1.0"
