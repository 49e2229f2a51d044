"""What `--help` prints: one page of choices, and the keys of a group."""
