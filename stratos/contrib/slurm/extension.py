"""What SLURM adds: its nodes as offers of `cloud=slurm`."""

from stratos.core.extensions import Extension

EXTENSION = Extension(clusters={"slurm": "stratos.contrib.slurm.limits:SlurmNodes"})
