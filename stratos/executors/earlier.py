"""What an earlier command left of a stage's job: ended, unless it is the job that is wanted now."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from stratos.core.errors import StratosError
from stratos.executors import handed, started
from stratos.executors.job import OVER, Executor, Job, JobSpec, Status
from stratos.executors.unseen import leases_of, settle_unseen, spans_of
from stratos.ledger import Ledger

_ENDS_S, _LOOK_S = 180.0, 1.0
"""How long a job may take to end that has left its record, and how often it is looked at."""
Say = Callable[[str], None]


def job_of(spec: JobSpec, known: handed.Handed) -> Job:
    """Return the job that an earlier command submitted."""
    named = replace(spec, name=known.name)
    return Job(named, known.id, known.place, handed.folder_of(spec.folder), is_new=False)


def end_other(
    executor: Executor, spec: JobSpec, mark: str, ledger: Ledger, note: Say, warn: Say
) -> None:
    """Leave no job of a stage but one that is to be followed, and settle what others have cost.

    A job is followed that has not ended, was submitted for the same inputs, and for this folder
    where it lies now.

    Args:
        executor: that the stage is run by.
        spec: of the job that is wanted.
        mark: fingerprint of what it is made from.
        ledger: of the run.
        note: says what is done.
        warn: says what is not known.

    Raises:
        StratosError: another executor or another cluster has it, or it does not end.
    """
    known = handed.find(spec.folder, spec.stage)
    if known is None:
        _end_forgotten(spec, ledger, note, warn)
        return
    if known.executor != executor.kind:
        raise StratosError(handed.refusal(known, spec.folder, spec.stage))
    here = executor.where() if known.where else ""
    if here and here != known.where:
        raise StratosError(handed.elsewhere(known, spec.folder, spec.stage, here))
    job = job_of(spec, known)
    status = _status(executor, job)
    has_ended = status is not None and status.state in OVER
    is_same = known.mark == mark and job.spec.name == spec.name
    if is_same and not (has_ended and executor.shares_files):
        return
    if not is_same:
        why = (
            "was submitted for other inputs than those of now"
            if known.mark != mark
            else f"was submitted as {job.spec.name}, when the run lay in another folder"
        )
        note(f"{spec.stage}: {known.place} {why}; it is cancelled.")
        executor.cancel(job.spec)
    _settle(executor, job, status, None if has_ended else time.time(), ledger, warn)


def end_made(
    run: Path, stage: str, inputs: Mapping[str, str], ledger: Ledger, note: Say, warn: Say
) -> None:
    """Take notice of the job of a stage whose record is there; end one of other inputs.

    Args:
        run: its folder.
        stage: whose record is there.
        inputs: what the record is made from, by name, but for what it remembers itself.
        ledger: of the run.
        note: says what is done.
        warn: says what is not known.

    Raises:
        StratosError: a job of other inputs may run, and nobody here knows its engine.
    """
    known = handed.find(run, stage)
    if known is None:
        return
    one = next((one for one in started.jobs() if one.name == known.name), None)
    is_same = all(known.inputs.get(name) == digest for name, digest in inputs.items())
    if one is None and not is_same:
        raise StratosError(handed.refusal(known, run, stage))
    if one is None:
        if said := settle_unseen(run, stage, ledger, None):
            warn(said)
        return
    spec = replace(one.spec, folder=run)
    if not is_same:
        end_other(one.executor, spec, "", ledger, note, warn)
    else:
        job = job_of(spec, known)
        status = _ended(one.executor, job)
        _settle(one.executor, job, status, None, ledger, warn)


def _end_forgotten(spec: JobSpec, ledger: Ledger, note: Say, warn: Say) -> None:
    """End a job that the folder of the run does not know: that was deleted, or its file was."""
    one = started.find(spec.name)
    if one is None:
        if leases_of(ledger, spec.stage) and (
            said := settle_unseen(spec.folder, spec.stage, ledger, None)
        ):
            warn(said)
        return
    executor = one.executor
    here = executor.where() if one.where else ""
    if here and here != one.where:
        raise StratosError(
            f"{spec.stage}: a job of this folder was submitted as {one.place} of {one.where}, and "
            f"{here} answers here. End it there: stratos servers down {one.name}."
        )
    status = _status(executor, one.job)
    has_ended = status is not None and status.state in OVER
    if not has_ended:
        note(
            f"{spec.stage}: {one.place or one.name} was submitted for this folder, which does not "
            "know it any more; it is cancelled."
        )
        executor.cancel(one.spec)
    _settle(executor, one.job, status, None if has_ended else time.time(), ledger, warn)


def _ended(executor: Executor, job: Job) -> Status | None:
    """Return how a job has ended that has left its record; it holds its servers until then.

    Raises:
        StratosError: it does not end, and cannot be ended.
    """
    until = time.monotonic() + _ENDS_S
    while (status := _status(executor, job)) is not None and status.state not in OVER:
        if time.monotonic() > until:
            executor.cancel(job.spec)
            return status
        time.sleep(_LOOK_S)
    return status


def _status(executor: Executor, job: Job) -> Status | None:
    """Return how a job stands; None where its submission was cut short, or nobody says."""
    with contextlib.suppress(StratosError):
        return executor.status(job) if job.id else None
    return None


def _settle(
    executor: Executor,
    job: Job,
    status: Status | None,
    at: float | None,
    ledger: Ledger,
    warn: Say,
) -> None:
    since = None if status is None else status.since
    spans = spans_of(executor, job)
    if said := settle_unseen(job.spec.folder, job.spec.stage, ledger, spans, since=since, at=at):
        warn(said)
