"""Requests with answers: those of an evaluation, and those of a log."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from stratos.contrib.drift.shifts import Asked
from stratos.contrib.logs.messages.conversation import Conversation
from stratos.contrib.logs.messages.message_file import Seen, read_conversations
from stratos.contrib.logs.messages.recognised import KNOWN
from stratos.core.errors import StratosError
from stratos.core.foreign import beside
from stratos.core.remote import local_path
from stratos.evaluate.answer_files import answers_path, read_answers
from stratos.records import Scorecard, load
from stratos.tasks.files import is_local

FEWEST = 30
"""Live requests below which nothing is said."""
Parse = Callable[[str], str | None]
"""Reads a task's answer out of a text."""


def evaluated(run_dir: Path, parse: Parse) -> list[Asked]:
    """Return the questions of a run's evaluation with its student's answers.

    Raises:
        StratosError: it has none.
    """
    scorecard = load(run_dir / "evaluate.json", None, Scorecard)
    if scorecard is None or not answers_path(run_dir).exists():
        raise StratosError(
            f"{run_dir} has no evaluation with answers to compare with. Name the folder of a run "
            "that was evaluated: stratos status lists them."
        )
    return [
        Asked(one.messages[-1]["content"] if one.messages else one.question, one.text,
              parse(one.text))
        for one in read_answers(run_dir, scorecard)
    ]  # fmt: skip


def logged(
    path: str, parse: Parse, messages_key: str | None = None, answer_key: str | None = None
) -> tuple[list[Asked], int]:
    """Return the requests of a log with their answers, and how many rows could not be read.

    Raises:
        StratosError: it cannot be read, or holds too few.
    """
    found, n_wrong = [], 0
    try:
        for _, one in read_conversations(path, Seen(), messages_key, answer_key):
            if isinstance(one, Conversation) and one.answered:
                place = one.answered[-1]
                answer = one.messages[place]["content"]
                found.append(Asked(one.messages[place - 1]["content"], answer, parse(answer)))
            else:
                n_wrong += 1
    except OSError as error:
        meant = beside(Path(local_path(path)).expanduser()) if is_local(path) else ""
        reason = error.strerror or str(error)
        raise StratosError(f"{path} cannot be read: {reason}.{meant}") from error
    if len(found) < FEWEST:
        raise StratosError(
            f"{path} has {len(found)} answered requests, and {FEWEST} are the fewest that say "
            f"anything. Formats: {KNOWN}."
        )
    return found, n_wrong


def absolute(path: str) -> str:
    """Return a path that means the same file in another folder; a URL as it is."""
    return os.path.abspath(os.path.expanduser(local_path(path))) if is_local(path) else path
