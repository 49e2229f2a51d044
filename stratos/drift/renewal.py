"""What a new student of the live requests costs: planned by the same plan, without asking anybody.

The plan reads the probe of the run: its teachers, their prices and accuracy, and how long answers
are. The rows are those of the log. Answers of its teachers that were kept are not priced again.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from stratos.core.formats import hours, percent, usd
from stratos.core.redact import redact_override
from stratos.records import Plan, load
from stratos.report.provenance import overrides

_LONGEST_S = 300.0
_LOGS = ("logs", "chat")
_OWN = ("task.", "+task.", "stages=", "hydra.", "paths.", "logger", "experiment=", "++task.")
"""Overrides of a run that are not those of its renewal."""


@dataclass(frozen=True)
class Renewal:
    """The command of a new student, and what it comes to."""

    overrides: tuple[str, ...]
    """What is typed behind `python -m stratos`."""
    usd: float | None = None
    """Dollars of teacher, data and training; None where it could not be planned."""
    hours: float = 0.0
    text: str = ""
    """What it comes to in words, or why it could not be planned."""


def renewal(
    run: Path, task: str, log: str, messages_key: str | None, answer_key: str | None
) -> Renewal:
    """Plan a new student of the requests of a log.

    Args:
        run: folder of the run whose student answers now.
        task: name of its task.
        log: path or URL.
        messages_key: field of the messages, where it was named.
        answer_key: field of the answer, where it was named.
    """
    typed = typed_for(overrides(run), log, messages_key, answer_key)
    found = _planned(run, task, typed)
    if found.usd is None and typed[0] == "+task=logs":
        # A log without times cannot be split by them: its requests are rows of conversations, too.
        other = _planned(run, task, ("+task=chat", *typed[1:]))
        if other.usd is not None:
            return other
    return found


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
        lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
        return Renewal(typed, text=f"It could not be planned: {lines[0] if lines else 'no reason'}")
    return Renewal(typed, plan.once_usd, plan.hours, _said(plan))


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
    found = [f"+task={tasks[-1]}" if is_log else "+task=logs", f"task.path={log}"]
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
