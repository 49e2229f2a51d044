"""What a query may take, and how one that gives no rows is told, whatever database it is for."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Protocol

LONGEST_QUERY = 20_000
"""Characters of a query."""
DIGITS = 9
"""Significant digits of a number that count."""


class QueryError(Exception):
    """A query that fails, is not allowed, takes too long, or has too many rows."""


@dataclass(frozen=True)
class QueryLimits:
    """What one query may take."""

    seconds: float
    most_rows: int


class Database(Protocol):
    """A file that queries are run on."""

    def rows(self, query: str, limits: QueryLimits) -> tuple[Hashable, ...]:
        """Run one query that reads, and return its rows in their order, as they are compared.

        Raises:
            QueryError: it gives no rows.
        """
        ...
