"""Why a query or its database cannot be used, and what is doubtful about gold queries."""

from __future__ import annotations

from collections.abc import Mapping

from stratos.core.extras import install
from stratos.core.formats import listed
from stratos.core.reasons import Reason


class QueryFails(Reason):
    """A gold query cannot be run."""

    error: str

    says = "its query fails ({error})"


class DuckDbIsMissing(Reason):
    """The file is one of DuckDB, whose package is not installed."""

    def __str__(self) -> str:
        return f"it is a DuckDB file, and the package duckdb is not installed: {install('duckdb')}"


class EmptyGolds(Reason):
    """Gold queries give no rows, so that many wrong queries are right there."""

    database: str
    """File that they are run on."""
    n_empty: Mapping[str, int]
    """Split to how many of its gold queries give none."""
    n_rows: Mapping[str, int]
    """Split to its rows."""

    def __str__(self) -> str:
        splits = [
            f"{n:,} of {self.n_rows[split]:,} {split} rows"
            for split, n in self.n_empty.items()
            if n
        ]
        return (
            f"The gold queries of {listed(splits)} give no rows on {self.database}. There, every "
            "query without rows counts as right, also a wrong one, so that the accuracy is too "
            "high. Take these questions out, or put rows into the database that they find."
        )
