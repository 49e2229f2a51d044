"""Answers of student and teacher side by side, picked from the scorecard's JSON lines."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stratos.report.text import is_number

MODELS = ("student", "teacher", "untouched")
_ORDER = ("lost", "neither", "wrong", "won", "both", "right", "unscored")
_PER_KIND = 3
"""Examples of each slice and outcome."""
_MOST = 24
_LONGEST = 6000
"""Characters of one answer that a page shows."""


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


def read_examples(path: Path) -> Examples:
    """Pick examples of every slice and outcome: first where the student fails, then the rest."""
    kinds: dict[tuple[str, str], list[Example]] = defaultdict(list)
    n_read = n_unreadable = 0
    for row in _rows(path):
        if row is None:
            n_unreadable += 1
            continue
        n_read += 1
        example = _example(row)
        shelf = kinds[(example.kind, example.slice)]
        if len(shelf) < _PER_KIND:
            shelf.append(example)
    picked = [
        example
        for _, shelf in sorted(kinds.items(), key=lambda kv: (_ORDER.index(kv[0][0]), kv[0][1]))
        for example in shelf
    ]
    return Examples(tuple(picked[:_MOST]), n_read, n_unreadable)


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


def _example(row: Mapping[str, Any]) -> Example:
    scores = row.get("scores")
    scores = scores if isinstance(scores, Mapping) else {}
    replies = tuple(
        _reply(model, row[model], scores.get(model))
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


def _reply(model: str, text: Any, score: Any) -> Reply:
    text = text if isinstance(text, str) else json.dumps(text)
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    answer = lines[-1] if lines else ""
    exact = score.get("exact") if isinstance(score, Mapping) else score
    return Reply(
        model=model,
        answer=answer if len(answer) <= 160 else f"{answer[:159]}…",
        text=text[:_LONGEST] if len(lines) > 1 or len(answer) > 160 else "",
        n_cut=max(0, len(text) - _LONGEST),
        right=exact >= 1 if is_number(exact) else None,
    )
