"""Serving engines: programs that serve a bundle as an OpenAI-compatible server."""
