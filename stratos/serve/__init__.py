"""`python -m stratos.serve`: host a student on this machine, see how it does, stop it."""
