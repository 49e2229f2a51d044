"""What most users never need: packages that the core finds by hooks and never imports."""
