"""Questions whose answers are queries: they are run, and their rows compared (`metric=sql`)."""

from stratos.core.extensions import Extension

EXTENSION = Extension(metrics={"sql": "stratos.contrib.sql.same_rows:SqlResult"})
