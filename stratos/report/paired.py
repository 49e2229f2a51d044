"""Two students on the test items that both answered, item by item."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from stratos.core.counted import counted
from stratos.core.formats import percent
from stratos.evaluate.answer_files import KeptAnswer
from stratos.evaluate.metrics import difference_interval, mcnemar_exact
from stratos.evaluate.verdict import SURE

Outcome = Literal["first", "second", "open"]


@dataclass(frozen=True)
class LeftOut:
    """Items of a run that cannot be compared, by why."""

    n_relabelled: int
    """Of both, with another gold answer in each."""
    n_only_first_asked: int
    n_only_second_asked: int


@dataclass(frozen=True)
class Paired:
    """How two students did on the same items."""

    n_items: int
    first: float
    """Share of them that the first answers right."""
    second: float
    only_first: int
    """Items that the first alone answers right."""
    only_second: int
    p_value: float
    """Of McNemar's exact test."""
    low: float
    """95% interval of the second's share minus the first's (Tango 1998)."""
    high: float
    left_out: LeftOut

    @property
    def outcome(self) -> Outcome:
        """Which student is surely better."""
        if self.p_value >= SURE or self.only_first == self.only_second:
            return "open"
        return "first" if self.only_first > self.only_second else "second"


def paired(first: list[KeptAnswer], second: list[KeptAnswer]) -> Paired | None:
    """Compare two students on the items that both were asked; None where there are none.

    An item is the same where its question and its gold answer are.
    """
    ours, theirs = _by_item(first), _by_item(second)
    shared = ours.keys() & theirs.keys()
    n = len(shared)
    if not n:
        return None
    only_first = sum(ours[one] and not theirs[one] for one in shared)
    only_second = sum(theirs[one] and not ours[one] for one in shared)
    low, high = difference_interval(only_second, only_first, n)
    return Paired(
        n_items=n,
        first=sum(ours[one] for one in shared) / n,
        second=sum(theirs[one] for one in shared) / n,
        only_first=only_first,
        only_second=only_second,
        p_value=mcnemar_exact(only_first, only_second),
        low=low,
        high=high,
        left_out=left_out(first, second),
    )


def left_out(first: list[KeptAnswer], second: list[KeptAnswer]) -> LeftOut:
    """Return how many items cannot be compared, and why."""
    ours, theirs = _by_item(first).keys(), _by_item(second).keys()
    our_questions, their_questions = ({question for question, _ in one} for one in (ours, theirs))
    only_ours, only_theirs = ours - theirs, theirs - ours
    relabelled = [item for item in only_ours if item[0] in their_questions]
    return LeftOut(
        n_relabelled=len(relabelled),
        n_only_first_asked=len(only_ours) - len(relabelled),
        n_only_second_asked=sum(question not in our_questions for question, _ in only_theirs),
    )


def said(one: Paired, names: tuple[str, str]) -> str:
    """Say how two students compare, with the numbers that decide it: the better one first."""
    sides = [(names[0], one.first, one.only_first), (names[1], one.second, one.only_second)]
    low, high = -one.high, -one.low  # of the one that is named first, minus the other
    if one.outcome == "second":
        sides.reverse()
        low, high = one.low, one.high
    (lead, lead_share, only_lead), (other, share, only_other) = sides
    head = (
        f"{lead} and {other} are not told apart"
        if one.outcome == "open"
        else f"{lead} is better than {other}"
    )
    items = counted(one.n_items, "test item", spec=",")
    return (
        f"{head}: {lead} {percent(lead_share)}, {other} {percent(share)} of the {items} of both "
        f"(difference {100 * (lead_share - share):+.1f} points, 95% interval {100 * low:+.1f} to "
        f"{100 * high:+.1f} points; only {lead} right on {only_lead:,}, only {other} on "
        f"{only_other:,}, McNemar's exact test p = {one.p_value:.2g})."
        f"{said_left_out(one.left_out, names)}"
    )


def said_left_out(one: LeftOut, names: tuple[str, str]) -> str:
    """Say which items are left out and why; "" where none is."""
    parts = [
        f"{one.n_relabelled:,} whose labels differ" if one.n_relabelled else "",
        *(
            f"{n:,} that only {name} was asked" if n else ""
            for name, n in zip(
                names, (one.n_only_first_asked, one.n_only_second_asked), strict=True
            )
        ),
    ]
    told = ", ".join(filter(None, parts))
    return f" Left out: {told}." if told else ""


def _by_item(answers: list[KeptAnswer]) -> Mapping[tuple[str, str], bool]:
    return {(one.question, one.gold): one.score.exact == 1 for one in answers}
