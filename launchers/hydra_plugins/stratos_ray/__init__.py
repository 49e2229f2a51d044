"""The launcher of Ray: it goes with `stratos/contrib/ray`."""
