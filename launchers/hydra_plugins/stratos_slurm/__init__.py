"""The launcher of SLURM: it goes with `stratos/contrib/slurm`."""
