"""What is in a file of logged conversations: `python -m stratos.logs <file>`."""
