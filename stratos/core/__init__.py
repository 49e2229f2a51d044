"""Shared foundations: errors, files, engines, redaction, formatting."""
