"""A SLURM cluster: its nodes as offers, its queue as an executor."""

from stratos.core.extensions import Extension

EXTENSION = Extension(clusters={"slurm": "stratos.contrib.slurm.limits:SlurmNodes"})
