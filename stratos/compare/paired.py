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
    )


def said(one: Paired, names: tuple[str, str]) -> str:
    """Say how two students compare, with the numbers that decide it."""
    first, second = names
    items = counted(one.n_items, "test item", spec=",")
    shares = f"{second} {percent(one.second)}, {first} {percent(one.first)} of the {items} of both"
    ends = f"{100 * one.low:+.1f} to {100 * one.high:+.1f} points"
    test = (
        f"difference {100 * (one.second - one.first):+.1f} points, 95% interval {ends}; only "
        f"{first} right on {one.only_first:,}, only {second} on {one.only_second:,}, McNemar's "
        f"exact test p = {one.p_value:.2g}"
    )
    head = {
        "first": f"{first} is better than {second}",
        "second": f"{second} is better than {first}",
        "open": f"{first} and {second} are not told apart",
    }[one.outcome]
    return f"{head}: {shares} ({test})."


def _by_item(answers: list[KeptAnswer]) -> Mapping[tuple[str, str], bool]:
    return {(one.question, one.gold): one.score.exact == 1 for one in answers}
