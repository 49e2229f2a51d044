"""Whether a student is worse than another by more than is allowed: a check for CI."""
