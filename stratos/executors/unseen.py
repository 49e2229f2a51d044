"""What a job cost that ran while nobody followed it: by its engine, else by its own words."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from pathlib import Path

from stratos.core.errors import StratosError
from stratos.core.formats import duration
from stratos.core.money import exact_usd
from stratos.executors import handed, started
from stratos.executors.events import BEGAN, heard
from stratos.executors.job import Executor, Job
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
