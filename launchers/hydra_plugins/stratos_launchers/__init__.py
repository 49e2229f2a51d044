"""Hydra launchers of Stratos: where and how the jobs of a sweep run."""
