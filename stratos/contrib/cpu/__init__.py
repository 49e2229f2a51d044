"""Faster training and decoding of small students on a CPU."""
