"""A SLURM cluster: its nodes as offers, its queue as an executor."""
