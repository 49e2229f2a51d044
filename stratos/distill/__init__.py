"""Distil: train a student on the corpus with Lightning."""

from stratos.distill.stage import distill

__all__ = ["distill"]
