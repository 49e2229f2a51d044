"""A training whose teacher's signal there was no money for, as its folder remembers it."""

from __future__ import annotations

from pathlib import Path

_CUT = "cut_at_usd.txt"
"""Beside the checkpoints: at which cap of the budget the money ended."""


def note(folder: Path, cut_at_usd: float | None) -> None:
    """Remember at which cap the money for the signal ended; None where it did not end."""
    if cut_at_usd is not None:
        (folder / _CUT).write_text(repr(cut_at_usd))
    else:
        (folder / _CUT).unlink(missing_ok=True)


def may_learn_more(folder: Path, cap_usd: float | None) -> bool:
    """Return whether the checkpoints lack a signal that the money may suffice for now."""
    if not (folder / _CUT).exists():
        return False
    return cap_usd is None or cap_usd > float((folder / _CUT).read_text())
