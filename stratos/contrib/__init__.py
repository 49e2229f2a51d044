"""What most users never need: rooms that the core finds by hooks and never imports."""
