"""What the runs of a folder are at: stage, money, accuracy."""
