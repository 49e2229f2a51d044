"""Where metrics, tables, charts and artifacts of a run go besides its own folder."""
