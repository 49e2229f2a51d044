"""What a file of texts and answers is worth, in seconds, before anything is planned or paid."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from stratos.core.redact import without_secrets
from stratos.probe.look.columns import AnswerKind, check_columns
from stratos.probe.look.facts import Facts, Finding, Lengths, read_facts
from stratos.probe.look.measure import Curve, CurvePoint, Measured, Reached, Worth, measure
from stratos.probe.look.next_rows import NextRows

if TYPE_CHECKING:
    from pathlib import Path

__all__ = [
    "AnswerKind",
    "Curve",
    "CurvePoint",
    "Facts",
    "Finding",
    "Lengths",
    "Look",
    "Measured",
    "NextRows",
    "Reached",
    "Worth",
    "look",
    "measure",
    "read_facts",
]


@dataclass(frozen=True)
class Look:
    """What is in a file, and what a student of it would reach."""

    facts: Facts
    """Columns, answers, lengths, duplicates, languages, personal data."""
    measured: Measured
    """What is to beat, what is reached, what more rows bring, and whether it pays."""
    next: str
    """Command to type next; "" where rows have to be labelled first."""
    label_next: NextRows | None = None
    """Rows that are worth a label, where a file of rows without labels was named."""

    def __str__(self) -> str:
        """Return it as `stratos look` prints it."""
        from stratos.probe.look.look_lines import fact_lines, measured_lines

        return "\n".join([*fact_lines(self.facts), *measured_lines(self.facts, self.measured)])

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        """Show it in a notebook as `stratos look` prints it."""
        printer.text(str(self))


def look(path: str | Path, *, text: str | None = None, answer: str | None = None) -> Look:
    """Look at a file: what is in it, what a student of it reaches, and what to type next.

    It takes seconds, trains no language model, and sends nothing.

    Args:
        path: of CSV, TSV, JSON lines, JSON or Parquet; local, or any URL that a task reads.
        text: name of the column with the text; None guesses it.
        answer: name of the column with the label or the answer; None guesses it.

    Raises:
        ConfigError: it cannot be read, has no answers, or its columns cannot be told; the message
            says what to type.
    """
    from stratos.probe.look.look_lines import command

    check_columns(text=text, answer=answer)
    with without_secrets():
        facts = read_facts(os.fspath(path), text, answer)
    measured = measure(facts)
    return Look(facts, measured, command(facts, measured))
