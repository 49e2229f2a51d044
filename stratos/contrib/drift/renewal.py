"""What a new student of the live requests costs: planned by the same plan, without asking anybody.

The plan reads the probe of the run: its teachers, their prices and accuracy, and how long answers
are. Answers of its teachers that were kept are not priced again.

The answers of the log are those of the student that is judged: none of them is a label. A run with
a file of its own keeps its task and labels, and a teacher labels the requests of the log. Of
other runs the requests are those of a log whose doubtful answers a teacher gives anew, unless
answers of it cannot be read.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec

from stratos.contrib.drift.live import absolute
from stratos.contrib.drift.shifts import Asked
from stratos.core.atomic_files import write_atomically
from stratos.core.counted import counted
from stratos.core.formats import hours, percent, usd
from stratos.core.redact import redact_override
from stratos.records import Plan, load
from stratos.report.provenance import overrides
from stratos.tasks.base import Task

_LONGEST_S = 300.0
_MOST_REASONS = 3
"""Lines that are told of those which say why there is no plan."""
_LOGS = ("logs", "chat")
_OWN = ("task.", "+task.", "stages=", "hydra.", "paths.", "logger", "experiment=", "++task.")
"""Overrides of a run that are not those of its renewal."""
_NOT_OWN = ("stages=", "hydra.", "paths.", "logger", "strategy=", "task.unlabelled_path=")
"""The same where the task stays that of the run."""
_PATHS = ("task.path", "task.test_path", "task.schema", "task.database")


@dataclass(frozen=True)
class Renewal:
    """The command of a new student, and what it comes to."""

    overrides: tuple[str, ...]
    """What is typed behind `python -m stratos`; empty where nothing can be advised."""
    usd: float | None = None
    """Dollars of teacher, data and training; None where it could not be planned."""
    hours: float = 0.0
    text: str = ""
    """What it comes to in words, or why it could not be planned."""
    warning: str = ""
    """What the answers of the log are, and what becomes of them."""


def renewal(
    run: Path, task: Task, log: str, live: Sequence[Asked],
    messages_key: str | None, answer_key: str | None,
) -> Renewal:  # fmt: skip
    """Plan a new student of the requests of a log.

    Args:
        run: folder of the run whose student answers now.
        task: its task.
        log: path or URL.
        live: the requests of the log.
        messages_key: field of the messages, where it was named.
        answer_key: field of the answer, where it was named.
    """
    before, warning = overrides(run), unchecked(live)
    if task.unlabelled_field is not None:
        questions = run / "drift" / "questions.jsonl"
        _write_questions(questions, task.unlabelled_field, live)
        found = _planned(run, task.name, labelled_by_teacher(before, questions))
        return replace(
            found,
            warning=f"{warning} So the labels of the run stay, and the teacher labels the "
            f"questions of the log ({questions}); no answer of the log is used.",
        )
    n_unread = sum(one.value is None for one in live)
    typed = typed_for(before, log, messages_key, answer_key)
    if n_unread:
        return Renewal(
            (), text="", warning=f"{warning} Take the rows whose answers cannot be read out of the "
            "log, or correct them, before it is trained on; then run this again."
        )  # fmt: skip
    found = _planned(run, task.name, typed)
    return replace(
        found,
        warning=f"{warning} If the student gave them, the teacher has to check them: "
        "task.answers=relabel asks it for the doubtful ones.",
    )


def unchecked(live: Sequence[Asked]) -> str:
    """Say that the answers of a log are no labels."""
    n_unread = sum(one.value is None for one in live)
    unread = f", and {n_unread:,} of them cannot be read" if n_unread else ""
    return (
        f"Nobody has checked the answers to these {counted(len(live), 'request', spec=',')}"
        f"{unread}: a student that is trained on them learns their mistakes."
    )


def labelled_by_teacher(before: Sequence[str], questions: Path) -> tuple[str, ...]:
    """Return the overrides of a run whose teacher labels more questions.

    Args:
        before: of the run.
        questions: file of them, without answers.
    """
    kept = [
        _placed(one) for one in before
        if not one.lstrip("+").startswith(_NOT_OWN) and redact_override(one) == one
    ]  # fmt: skip
    return (*kept, f"task.unlabelled_path={questions}", "strategy=pseudo_labels")


def _placed(override: str) -> str:
    """Return an override that means the same in another folder."""
    key, _, value = override.partition("=")
    return f"{key}={absolute(value)}" if key.lstrip("+") in _PATHS and value else override


def _write_questions(path: Path, key: str, live: Iterable[Asked]) -> None:
    asked = dict.fromkeys(one.question for one in live)
    path.parent.mkdir(exist_ok=True)
    write_atomically(path, b"".join(msgspec.json.encode({key: one}) + b"\n" for one in asked))


def _planned(run: Path, task: str, typed: tuple[str, ...]) -> Renewal:
    """Plan what is typed, from the probe of a run."""
    with tempfile.TemporaryDirectory(prefix="stratos-renewal-") as folder:
        planned = Path(folder) / "run"
        extra = [
            # The probe of the run is one of its task: the name says that it holds here, too.
            f"task.name={task}", "stages=[plan]", f"paths.records_from={run.absolute()}",
            "logger=none", f"hydra.run.dir={planned}",
        ]  # fmt: skip
        try:
            done = subprocess.run(
                [sys.executable, "-m", "stratos", *typed, *extra],
                stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_LONGEST_S,
                env={**os.environ, "NO_COLOR": "1"}, check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            return Renewal(typed, text=f"It could not be planned within {_LONGEST_S:g} seconds.")
        try:
            plan = load(planned / "plan.json", None, Plan)
        except msgspec.DecodeError:
            plan = None
    if done.returncode or plan is None:
        return Renewal(typed, text=f"It could not be planned: {_reason(done.stderr)}")
    return Renewal(typed, plan.once_usd, plan.hours, _said(plan))


def _reason(text: str) -> str:
    """Return the first line of an error; where that ends with a colon, what it announces."""
    first, *rest = [line.strip() for line in text.splitlines() if line.strip()] or ["no reason"]
    return f"{first} {' '.join(rest[:_MOST_REASONS])}" if first.endswith(":") else first


def typed_for(
    before: Sequence[str], log: str, messages_key: str | None, answer_key: str | None
) -> tuple[str, ...]:
    """Return the overrides of a renewal: those of the run, with the log for its task.

    Args:
        before: of the run.
        log: path or URL.
        messages_key: as of `renewal`.
        answer_key: as of `renewal`.
    """
    tasks = [one.partition("=")[2] for one in before if one.lstrip("+").startswith("task=")]
    is_log = bool(tasks) and tasks[-1] in _LOGS
    # The rows of another task are none of a log, and the student's own answers are in this one.
    doubted = () if is_log else ("task.answers=relabel",)
    found = [f"+task={tasks[-1]}" if is_log else "+task=logs", f"task.path={log}", *doubted]
    for key, value in (("messages_key", messages_key), ("answer_key", answer_key)):
        if value is not None:
            found.append(f"task.{key}={value}")
    taken = {one.partition("=")[0] for one in found}
    kept = [
        one for one in before
        if not one.lstrip("+").startswith("task=")
        and (not one.startswith(_OWN) or (is_log and one.startswith("task.")))
        and one.partition("=")[0] not in taken
        and redact_override(one) == one
    ]  # fmt: skip
    return (*found, *kept)


def _said(plan: Plan) -> str:
    asked = plan.role("teacher")
    teacher = f"{usd(asked.usd)} of it for the answers of {plan.teacher}" if asked.usd else (
        f"nothing of it for {plan.teacher}"
    )  # fmt: skip
    accuracy = ""
    if plan.accuracy.is_known and plan.accuracy.is_share_known:
        accuracy = f", {percent(plan.accuracy.mean)} right as expected"
    return (
        f"{usd(plan.once_usd)} once, {teacher} (answers that were kept cost nothing), and "
        f"{hours(plan.hours)}: {plan.student} by {plan.strategy}{accuracy}; then its servers as "
        f"before, {usd(plan.servers_usd_per_day)} a day."
    )
