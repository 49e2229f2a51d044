"""Questions whose answers are queries: they are run, and their rows compared (`metric=sql`)."""
