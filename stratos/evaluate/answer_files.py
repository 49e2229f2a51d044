"""Store the answers as JSON lines for `deploy` and `report`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import msgspec

from stratos.core.atomic_files import write_atomically
from stratos.core.errors import StratosError
from stratos.evaluate.answers import Answers
from stratos.records import Scorecard, from_json
from stratos.tasks.base import Item, Message, Score, Task

_ROOM = 1.25


@dataclass(frozen=True)
class KeptAnswer:
    """One answer of the student to a test item, with the chat that led to it."""

    id: str
    slice: str
    question: str
    gold: str
    messages: list[Message]
    text: str
    output_tokens: int
    score: Score
    logprob: float
    """Log-probability of the text by the student."""
    origin: str = ""


def room_for_answers(answers: Sequence[KeptAnswer], most: int) -> int:
    """Return tokens that are enough for answers: the longest and a quarter, in steps of 16.

    Args:
        answers: the student's.
        most: tokens at which they were cut; one of that length may be longer.
    """
    longest = max(answer.output_tokens for answer in answers)
    return min(most, 16 * math.ceil((_ROOM * longest) / 16))


def answers_path(run_dir: Path) -> Path:
    """Return where the student's answers of a run lie."""
    return run_dir / "evaluate" / "answers.jsonl"


def write_answers(run_dir: Path, task: Task, answers: Answers) -> None:
    """Keep every answer of the student."""
    rows = [
        KeptAnswer(
            id=item.id,
            slice=item.slice,
            question=item.question,
            gold=item.answer,
            messages=task.student_messages(item),
            text=text,
            output_tokens=n_tokens,
            score=score,
            origin=item.origin,
            logprob=logprob,
        )
        for item, text, n_tokens, score, logprob in zip(
            answers.items,
            answers.texts,
            answers.tokens,
            answers.scores,
            answers.logprobs,
            strict=True,
        )
    ]
    _write_lines(answers_path(run_dir), rows)


def read_answers(run_dir: Path, scorecard: Scorecard | None = None) -> list[KeptAnswer]:
    """Read the student's answers back.

    Args:
        run_dir: folder of the run.
        scorecard: says where they lie if the run folder has none: it was made in another one.

    Raises:
        StratosError: the file is missing or corrupt.
    """
    path = answers_path(run_dir)
    if scorecard is not None and scorecard.answers_path and not path.exists():
        path = Path(scorecard.answers_path)
    try:
        lines = path.read_bytes().splitlines()
        return [from_json(line, KeptAnswer) for line in lines]
    except (OSError, msgspec.DecodeError) as error:
        raise StratosError(
            f"The student's answers cannot be read from {path} ({error}). Delete "
            f"{path.parent.parent / 'evaluate.json'} and give the command again: they are made "
            "again."
        ) from error


def write_examples(run_dir: Path, items: Sequence[Item], by_role: Mapping[str, Answers]) -> Path:
    """Put side by side what each model wrote on `items`; return the file."""
    rows: dict[str, dict[str, Any]] = {
        item.id: {
            "id": item.id,
            "slice": item.slice,
            "question": item.question,
            "gold": item.answer,
            "scores": {},
        }
        for item in items
    }
    for role, answers in by_role.items():
        for item, text, score in zip(answers.items, answers.texts, answers.scores, strict=True):
            if item.id in rows:
                rows[item.id][role] = text
                rows[item.id]["scores"][role] = asdict(score)
        for item, took in zip(answers.items, answers.took, strict=False):  # none of a student
            if item.id in rows:
                rows[item.id].setdefault("took", {})[role] = asdict(took)
    path = run_dir / "evaluate" / "examples.jsonl"
    _write_lines(path, list(rows.values()))
    return path


def _write_lines(path: Path, rows: Sequence[Any]) -> None:
    write_atomically(path, b"".join(msgspec.json.encode(row) + b"\n" for row in rows))
