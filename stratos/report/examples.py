"""All answers of student and teacher side by side.

The first of them are markup, to be read without a script. The others are data, of which the script
makes the same markup when they are shown: a page of 10,000 answers stays below 5 MB.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from stratos.core.formats import is_number, visible

MODELS = ("student", "teacher", "untouched")
_ORDER = ("lost", "neither", "wrong", "won", "both", "right", "unscored")
_MOST = 20_000
"""Answers of a page; of more, the last are left out."""
_LONGEST = 6000
"""Characters of one answer that a page shows."""
_LONGEST_QUESTION = 2000
"""Characters of one question that a page shows."""
_MOST_TEXT, _MOST_BYTES = 1_500_000, 3_600_000
"""Bytes of all that models wrote beside their answers, and of all that is shown; what passes that
stays in the file."""
_N_MARKUP = 400
"""Answers that are markup."""
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
    def markup(self) -> tuple[Example, ...]:
        """Those that can be read without a script."""
        return self.shown[:_N_MARKUP]

    @property
    def data(self) -> str:
        """The others as JSON that is safe inside a script element; "" where there are none."""
        rows = [_as_data(example) for example in self.shown[_N_MARKUP:]]
        if not rows:
            return ""
        text = json.dumps(rows, ensure_ascii=False, separators=(",", ":"))
        return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")

    @property
    def kinds(self) -> dict[str, int]:
        """Outcome to how many there are."""
        return dict(Counter(example.kind for example in self.shown))

    @property
    def slices(self) -> list[str]:
        """Return the slices to filter by; none where there is one."""
        names = sorted({example.slice for example in self.shown})
        return names if len(names) > 1 else []

    @property
    def labels(self) -> list[str]:
        """Return the right answers to filter by; none where they hardly repeat."""
        names = sorted({example.gold for example in self.shown})
        return names if 1 < len(names) <= min(_MOST_LABELS, len(self.shown) // 2) else []


def read_examples(path: Path) -> Examples:
    """Read every answer, in the order of outcomes: first where the student fails, then the rest."""
    examples: list[Example] = []
    n_read = n_unreadable = 0
    for row in _rows(path):
        if row is None:
            n_unreadable += 1
            continue
        n_read += 1
        if len(examples) < _MOST:
            examples.append(_example(row))
    examples.sort(key=lambda example: (_ORDER.index(example.kind), example.slice))
    return Examples(tuple(_within_bounds(examples)), n_read, n_unreadable)


def _within_bounds(examples: Sequence[Example]) -> Iterator[Example]:
    """Yield examples until the page is full; the texts of those behind are left out earlier."""
    n_text = n_bytes = 0
    for example in examples:
        if n_text >= _MOST_TEXT:
            example = replace(
                example, replies=tuple(_without_text(reply) for reply in example.replies)
            )
        n_text += sum(len(reply.text.encode(errors="replace")) for reply in example.replies)
        n_bytes += len(json.dumps(_as_data(example), ensure_ascii=False).encode())
        if n_bytes > _MOST_BYTES:
            return
        yield example


def _without_text(reply: Reply) -> Reply:
    return replace(reply, text="", n_cut=reply.n_cut + len(reply.text))


def _as_data(example: Example) -> list[Any]:
    """Return what the page's script makes an article of; every text is made visible."""
    return [
        visible(example.question),
        visible(example.gold),
        visible(example.slice),
        example.kind,
        [
            [reply.model, reply.right, visible(reply.answer), visible(reply.text), reply.n_cut]
            for reply in example.replies
        ],
    ]


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
        question=_cut(str(row.get("question", ""))),
        gold=str(row.get("gold", "")),
        slice=str(row.get("slice", "")),
        replies=replies,
        kind=kind,
    )


def _cut(question: str) -> str:
    if len(question) <= _LONGEST_QUESTION:
        return question
    return f"{question[: _LONGEST_QUESTION - 1]}…"


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
