"""Values such as "682.50 USD": a number and a unit, which a text often writes otherwise.

Where a field has such values and the text does not show them whole, the number and the unit are
read as two fields, and written together again.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from stratos.tasks.objects import Path, fields_of

_NUMBER = r"(?P<number>-?\d+(?:\.\d+)?)"
_UNIT = r"(?P<unit>[^\d\s.,-][^\d]{0,11}?)"
_BEHIND = re.compile(rf"{_NUMBER}(?P<gap> ?){_UNIT}")
_BEFORE = re.compile(rf"{_UNIT}(?P<gap> ?){_NUMBER}")
_SHARE = 0.95
"""Of the values of a field that have to be a number and a unit, written in one way."""
_MOST_UNITS = 20
_SHOWN = 0.5
"""Share of the values that stand in the text as they are, from which nothing is split."""


@dataclass(frozen=True)
class Amount:
    """A field whose values are a number and a unit."""

    path: Path
    is_unit_first: bool
    gap: str
    decimals: int | None
    """Of every number; None where they differ."""

    @property
    def parts(self) -> tuple[str, str]:
        """Names of the two fields that are read in place of this one."""
        return f"{self.path[-1]} (number)", f"{self.path[-1]} (unit)"

    def split(self, value: Any) -> tuple[Any, Any]:
        """Return number and unit of a value; the value itself as the unit where it is neither."""
        match = (_BEFORE if self.is_unit_first else _BEHIND).fullmatch(str(value))
        return (None, value) if match is None else (_number(match["number"]), match["unit"])

    def joined(self, number: Any, unit: Any) -> Any:
        """Return the value of a number and a unit; without a number there is no value."""
        if not isinstance(number, int | float) or not unit:
            return "" if unit == "" else None
        figures = f"{number:.{self.decimals}f}" if self.decimals is not None else f"{number}"
        pair = (str(unit), figures) if self.is_unit_first else (figures, str(unit))
        return self.gap.join(pair)


def amounts_of(texts: Sequence[str], answers: Sequence[Mapping[str, Any]]) -> tuple[Amount, ...]:
    """Return the fields whose values are a number and a unit that the texts write otherwise."""
    columns: dict[Path, list[tuple[str, str]]] = {}
    for text, answer in zip(texts, answers, strict=True):
        for path, value in fields_of(answer).items():
            if value not in (None, ""):
                columns.setdefault(path, []).append((text, value))
    amounts = (_amount(path, rows) for path, rows in columns.items())
    return tuple(amount for amount in amounts if amount is not None)


def _amount(path: Path, rows: Sequence[tuple[str, Any]]) -> Amount | None:
    if not all(isinstance(value, str) for _, value in rows):
        return None
    if sum(value in text for text, value in rows) >= _SHOWN * len(rows):
        return None
    for pattern in (_BEHIND, _BEFORE):
        matches = [match for _, value in rows if (match := pattern.fullmatch(value))]
        if len(matches) < _SHARE * len(rows):
            continue
        gap, n = Counter(match["gap"] for match in matches).most_common(1)[0]
        units = {match["unit"] for match in matches}
        if n < _SHARE * len(rows) or len(units) > min(_MOST_UNITS, len(rows) / 5):
            continue
        decimals = {len(match["number"].partition(".")[2]) for match in matches}
        return Amount(path, pattern is _BEFORE, gap, decimals.pop() if len(decimals) == 1 else None)
    return None


def split(answer: Mapping[str, Any], amounts: Sequence[Amount]) -> dict[str, Any]:
    """Return an answer with numbers and units apart."""
    apart = dict(answer)
    for amount in amounts:
        apart = _at(apart, amount.path, partial(_split_in, amount))
    return apart


def joined(answer: Mapping[str, Any], amounts: Sequence[Amount]) -> dict[str, Any]:
    """Return an answer with numbers and units together again."""
    whole = dict(answer)
    for amount in amounts:
        whole = _at(whole, amount.path, partial(_joined_in, amount))
    return whole


def _at(
    answer: dict[str, Any], path: Path, change: Callable[[dict[str, Any]], dict[str, Any]]
) -> dict[str, Any]:
    """Change the object that holds the last name of a path."""
    if len(path) == 1:
        return change(answer)
    inner = answer.get(path[0])
    if not isinstance(inner, Mapping):
        return answer
    return {**answer, path[0]: _at(dict(inner), path[1:], change)}


def _split_in(amount: Amount, outer: Mapping[str, Any]) -> dict[str, Any]:
    apart: dict[str, Any] = {}
    for key, value in outer.items():
        if key == amount.path[-1]:
            apart |= dict(zip(amount.parts, amount.split(value), strict=True))
        else:
            apart[key] = value
    return apart


def _joined_in(amount: Amount, outer: Mapping[str, Any]) -> dict[str, Any]:
    number, unit = amount.parts
    whole: dict[str, Any] = {}
    for key, value in outer.items():
        if key in amount.parts:
            if amount.path[-1] not in whole:
                whole[amount.path[-1]] = amount.joined(outer.get(number), outer.get(unit))
        else:
            whole[key] = value
    return whole


def _number(figures: str) -> int | float:
    return float(figures) if "." in figures else int(figures)
