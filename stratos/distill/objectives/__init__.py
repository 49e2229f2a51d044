"""Distillation objectives, their gradients, and the teacher's signals."""
