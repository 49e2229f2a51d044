"""What this room adds: the metric `sql`."""

from stratos.core.extensions import Extension

EXTENSION = Extension(metrics={"sql": "stratos.contrib.sql.same_rows:SqlResult"})
