"""What is in a file of logged conversations: `stratos logs <file>`."""
