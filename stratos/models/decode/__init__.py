"""Batched decoding of local models for teachers, evaluation and training."""
