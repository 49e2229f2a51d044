"""Questions whose answers are queries: they are run, and their rows compared (`metric=sql`)."""

from stratos.contrib.sql.same_rows import SqlResult

__all__ = ["SqlResult"]
