"""What the probe says of kinds of student."""

from __future__ import annotations

from dataclasses import dataclass

from stratos.core.formats import counted, percent, points_gained, shown
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
            behind = (f"{kind.student} {percent(_measured(kind))}" for kind in rest)
            text += f", {', '.join(behind)}"
        text += f" by {reached.source}."
        if best.known is not None:
            text += f" That is on new wordings; on those that rows show: {percent(best.known)}."
        elif best.new is not None:
            text += f" That is on wordings that rows show; on new ones: {percent(best.new)}."
        if best.gain is not None:
            text += f" {2 * best.n_rows:,} rows {points_gained(best.gain)}."
        return text


def _measured(kind: KindProbe) -> float:
    return kind.measured if kind.micro_f1 is None else kind.micro_f1.mean


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
