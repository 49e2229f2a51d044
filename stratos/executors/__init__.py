"""Where a stage runs: in this process, in one of its own, or as a job of a cluster."""
