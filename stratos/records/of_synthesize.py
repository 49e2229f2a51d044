"""The training data that were made."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Corpus:
    """Verified training data on disk, and what was refused."""

    task: str
    strategy: str
    path: str
    """Parquet file with columns id, family, slice, question, rationale, answer, completion."""
    n_items: int
    n_by_slice: dict[str, int]
    refused: dict[str, int]
    """Reason to count: duplicates, held out, unverified …"""
    answer_sizes: dict[str, dict[str, int]]
    """Slice to a table: size of the answer to the number of items."""
    items_per_s: float
    """By the clock, waiting for the teacher included."""
    sha256: str
    seconds: float
    cpu_seconds: float
    teacher_tokens: int = 0
    usd: float = 0.0
    cut_at_usd: float | None = None
    """Budget at which questions were left out; None where none were."""
    n_answers: int = 0
    """Answers of the teacher, those that were refused too."""
    n_truncated: int = 0
    """Those of them that were cut at the longest length."""
    n_by_source: dict[str, int] = field(default_factory=dict)
    """Where a teacher added rows to those of a file: how each came about, to how many there are."""
    rows_to_label: str | None = None
    """File that lists rows worth labelling by hand; None where there are none."""
    n_rows_to_label: int = 0
    drawn_in_vain: dict[str, int] = field(default_factory=dict)
    """Draws that made no item (of a tools task: by tool and reason), which cost nothing."""
