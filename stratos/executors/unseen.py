"""What a job cost that nobody followed, by its engine or its own words; an earlier one is ended."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from stratos.core.errors import StratosError
from stratos.core.formats import duration, exact_usd
from stratos.executors import handed, started
from stratos.executors.handed import BEGAN, heard
from stratos.executors.job import OVER, Executor, Job, JobSpec, Status
from stratos.executors.job_of_stage import job_name
from stratos.executors.received import Received
from stratos.ledger import Ledger
from stratos.ledger.reserves import Lease, leases, leaves

Spans = Sequence[tuple[float, float]]
"""Begin and end of each time that a job held its servers, in seconds since the epoch."""


def spans_of(executor: Executor, job: Job) -> Spans | None:
    """Return when a job held its servers, by its engine; None where that does not know."""
    try:
        return executor.held(job)
    except (StratosError, OSError):
        return None


def settle_unseen(
    run: Path,
    stage: str,
    ledger: Ledger,
    spans: Spans | None,
    *,
    since: float | None = None,
    at: float | None = None,
) -> str:
    """Settle what is open of a job that ended while nobody followed it.

    Args:
        run: its folder.
        stage: of the job.
        ledger: of the run.
        spans: when it held its servers; None where its engine does not know.
        since: when they were handed to it, in seconds since the epoch; None where nobody saw it.
        at: when they were given back; None where nobody saw it.

    Returns:
        What is not known of its costs; "" where all is.
    """
    known = handed.find(run, stage)
    left = leases_of(ledger, stage, "" if known is None else known.servers)
    said = [settle(one, run, stage, spans, since=since, at=at) for one in left]
    for leave in leaves(ledger):
        if _is_of(leave.line.what, stage):
            leave.settle(Received(run, stage).total)
    handed.forget(run, stage)
    started.forget(job_name(run, stage))
    if known is not None:
        started.forget(known.name)
    return " ".join(filter(None, said))


def leases_of(ledger: Ledger, stage: str, what: str = "") -> list[Lease]:
    """Return the servers of a stage's job that are not released; a run has one job of a stage.

    Its folder may have been moved since, and its plan made anew: then name and server are others.

    Args:
        ledger: of the run.
        stage: of the job.
        what: they are called in the ledger, by the latest command.
    """
    return [one for one in leases(ledger)
            if one.line.what == what or _is_of(one.line.what, stage)]  # fmt: skip


def _is_of(what: str, stage: str) -> bool:
    return re.search(rf" (for|of) \S+-{re.escape(stage)}$", what) is not None


def settle(
    lease: Lease,
    run: Path,
    stage: str,
    spans: Spans | None,
    *,
    since: float | None = None,
    at: float | None = None,
) -> str:
    """Settle one lease of such a job; the arguments are those of `settle_unseen`.

    Without a word of the engine it is what the job said first and last. Without that it is all that
    is reserved, or the time since then where that is less: nothing is free because nobody looked.
    """
    line, launched = lease.line, lease.launched_at
    if launched is not None:
        end = last_end(spans, launched) or at or _last_word(run, stage)
        lease.release(None if end is None else max(launched, end))
        return ""
    if spans is None and since is not None:
        spans = [(since, at or _last_word(run, stage) or time.time())]
    if spans is None:
        spans = _own_words(run, stage, line.at)
    if spans is None:
        most_s = line.reserved_usd / line.usd_per_hour * 3600 if line.usd_per_hour else 0.0
        seconds = min(most_s, max(0.0, time.time() - line.at))
        lease.launch(line.at)
        usd = lease.release(line.at + seconds)
        if not usd:
            return ""
        return (
            f"{stage}: nobody knows how long the servers of its earlier job ran. {exact_usd(usd)} "
            f"is booked for it, of {duration(seconds)}: what was reserved at most."
        )
    # Servers are rented before their job is submitted: what is earlier is of another job.
    cut = [(max(begin, line.at), end) for begin, end in spans if end > line.at]
    if cut:
        lease.launch(cut[0][0])
        lease.release(cut[0][0] + sum(max(0.0, end - begin) for begin, end in cut))
    else:
        lease.release()
    return ""


def last_end(spans: Spans | None, after: float) -> float | None:
    """Return when servers were given back last, after a time; None where that is not known."""
    ends = (min(end, time.time()) for _, end in spans or () if end > after)
    return max(ends, default=None)


def egress_of(name: str) -> str:
    """Return what the bytes that a job sends here are called in the ledger."""
    return f"egress of {name}"


def _own_words(run: Path, stage: str, after: float) -> Spans | None:
    """Return from when to when a job said something; None if it said nothing."""
    said, _ = heard(run, stage, 0)
    began = [values[2] for kind, values in said if kind == BEGAN and len(values) > 2]
    first = min((one for one in began if one >= after), default=None)
    last = _last_word(run, stage)
    return None if first is None or last is None else [(first, max(first, last))]


def _last_word(run: Path, stage: str) -> float | None:
    """Return when a job said something last, in seconds since the epoch; None if it never did."""
    try:
        return handed.events_path(run, stage).stat().st_mtime
    except OSError:
        return None


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
