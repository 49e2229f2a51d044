"""The comparison of a sweep as a W&B workspace and report."""
