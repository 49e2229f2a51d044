"""Past runs: whether predictions came true, and a sweep as a W&B workspace."""
