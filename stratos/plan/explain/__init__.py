"""Explain a plan: reasons, worth of each limit, and changes that make a plan feasible."""
