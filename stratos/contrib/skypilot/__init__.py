"""Rented servers through SkyPilot: an executor, and the service file of a student."""
