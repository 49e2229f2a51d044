"""All answers of student and teacher side by side."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stratos.core.formats import is_number

MODELS = ("student", "teacher", "untouched")
_ORDER = ("lost", "neither", "wrong", "won", "both", "right", "unscored")
_MOST = 20_000
"""Answers of a page; of more, the last are left out."""
_LONGEST = 6000
"""Characters of one answer that a page shows."""
_MOST_TEXT = 4_000_000
"""Characters of all that models wrote beside their answers; what passes that stays in the file."""
_MOST_LABELS = 60
"""Different right answers that can be filtered by."""


@dataclass(frozen=True)
class Reply:
    """What one model wrote."""

    model: str
    answer: str
    """The last line that says something."""
    text: str
    """All of it, where it is more than the answer."""
    n_cut: int
    """Characters left out at the end of `text`."""
    right: bool | None
    """None where it was not scored."""


@dataclass(frozen=True)
class Example:
    """One held-out question with every model's reply."""

    question: str
    gold: str
    slice: str
    replies: tuple[Reply, ...]
    kind: str
    """won (student right, teacher wrong), both, lost, neither; right or wrong where the teacher
    was not asked; unscored."""


@dataclass(frozen=True)
class Examples:
    """What is shown, out of how many."""

    shown: tuple[Example, ...]
    n_read: int
    n_unreadable: int

    @property
    def kinds(self) -> dict[str, int]:
        """Outcome to how many there are."""
        return dict(Counter(example.kind for example in self.shown))

    @property
    def slices(self) -> list[str]:
        """Return the slices to filter by; none where there is one."""
        found = sorted({example.slice for example in self.shown})
        return found if len(found) > 1 else []

    @property
    def labels(self) -> list[str]:
        """Return the right answers to filter by; none where they hardly repeat."""
        found = sorted({example.gold for example in self.shown})
        return found if 1 < len(found) <= min(_MOST_LABELS, len(self.shown) // 2) else []


def read_examples(path: Path) -> Examples:
    """Read every answer, in the order of outcomes: first where the student fails, then the rest."""
    found: list[Example] = []
    n_read = n_unreadable = n_text = 0
    for row in _rows(path):
        if row is None:
            n_unreadable += 1
            continue
        n_read += 1
        if len(found) < _MOST:
            found.append(_example(row, n_text < _MOST_TEXT))
            n_text += sum(len(reply.text) for reply in found[-1].replies)
    found.sort(key=lambda one: (_ORDER.index(one.kind), one.slice))
    return Examples(tuple(found), n_read, n_unreadable)


def _rows(path: Path) -> Iterable[Mapping[str, Any] | None]:
    try:
        file = path.open("rb")
    except OSError:
        return
    with file:
        for line in file:
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except ValueError:
                row = None
            yield row if isinstance(row, dict) else None


def _example(row: Mapping[str, Any], with_text: bool) -> Example:
    scores = row.get("scores")
    scores = scores if isinstance(scores, Mapping) else {}
    replies = tuple(
        _reply(model, row[model], scores.get(model), with_text)
        for model in MODELS
        if row.get(model) is not None
    )
    right = {reply.model: reply.right for reply in replies}
    kind = _kind(right.get("student"), right.get("teacher"))
    return Example(
        question=str(row.get("question", "")),
        gold=str(row.get("gold", "")),
        slice=str(row.get("slice", "")),
        replies=replies,
        kind=kind,
    )


def _kind(student: bool | None, teacher: bool | None) -> str:
    if student is None:
        return "unscored"
    if teacher is None:
        return "right" if student else "wrong"
    if student:
        return "both" if teacher else "won"
    return "lost" if teacher else "neither"


def _reply(model: str, text: Any, score: Any, with_text: bool) -> Reply:
    text = text if isinstance(text, str) else json.dumps(text)
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    answer = lines[-1] if lines else ""
    exact = score.get("exact") if isinstance(score, Mapping) else score
    longest = _LONGEST if with_text else 0
    return Reply(
        model=model,
        answer=answer if len(answer) <= 160 else f"{answer[:159]}…",
        text=text[:longest] if len(lines) > 1 or len(answer) > 160 else "",
        n_cut=max(0, len(text) - longest),
        right=exact >= 1 if is_number(exact) else None,
    )
