"""The mixed-integer program, its exact reductions, the frontier, and mixes of servers."""
