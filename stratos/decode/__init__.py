"""Decoding of local models in batches: below teachers, evaluation and training."""
