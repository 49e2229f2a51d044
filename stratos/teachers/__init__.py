"""Teachers: hosted models, servers and local weights."""
