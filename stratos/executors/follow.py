"""Runs a stage as a job: submits it or finds it, shows how far it is, pays, ends what it began."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import Any

from stratos.core.context import Context
from stratos.core.errors import BudgetError, StratosError
from stratos.core.formats import duration, usd
from stratos.executors import handed, started
from stratos.executors.handed import BEGAN, ERROR, LOG, NOTE, TICK, WARN
from stratos.executors.job import Executor, Job, JobSpec, State, Status, UnknownSubmissionError
from stratos.executors.paid import Paid
from stratos.executors.unseen import Spans, end_other, job_of, spans_of

_LOOK_S = 1.0
"""Seconds between two questions to the engine."""
_STARTS = 4
"""Times that a job is submitted that is lost each time."""
_KEPT = "What it has done is kept: the same command with a larger limits.budget_usd goes on."
_LINES = 20
"""Of a log whose job failed without a word."""


@dataclass(frozen=True)
class Handover:
    """A stage that is to run as a job, and what its record will be made from."""

    executor: Executor
    spec: JobSpec
    mark: str
    inputs: dict[str, str]
    max_pending_hours: float | None


def run_there(handover: Handover, context: Context) -> None:
    """Run a stage as a job, and return when it is done; its record lies in the run folder then.

    Where this process is told to end, the job is cancelled first, and waited for.

    Raises:
        StratosError: the job failed, waits too long, or its money has ended.
    """
    executor, spec = handover.executor, handover.spec
    handed.folder_of(spec.folder).mkdir(exist_ok=True)
    end_other(executor, spec, handover.mark, context.ledger, context.note, context.warn)
    for start in range(1, _STARTS + 1):
        job, status = _run_once(handover, context)
        if status.state is State.DONE:
            return
        if start < _STARTS:
            context.note(f"{spec.stage}: {status.text}; it is submitted again.")
    cure = f"{status.cure} " if status.cure else ""
    head = (
        f"{spec.stage}: its job was lost {_STARTS} times, the last time because {status.text}. "
        f"{cure}What it has done is kept: the same command goes on.{_instead(executor)}"
    )
    raise StratosError(_with_end_of_log(head, job))


def _run_once(handover: Handover, context: Context) -> tuple[Job, Status]:
    """Submit a job, or find it, and follow it to its end; it is lost or done then."""
    executor, spec = handover.executor, handover.spec
    paid = Paid(context.ledger, executor, spec)
    paid.reserve()
    spec = replace(spec, paid_hours=paid.hours_left)
    known = handed.find(spec.folder, spec.stage)
    is_first = known is None
    # Asked before another job has the name.
    spans = None if known is None else spans_of(executor, job_of(spec, known))
    try:
        where = executor.where()
        if is_first:
            handed.events_path(spec.folder, spec.stage).unlink(missing_ok=True)
            _write_down(handover, "", spec.name, where, paid, context)  # the job reads it
        not_before = time.time()
        job = executor.submit(spec)
    except UnknownSubmissionError:  # it may cost money: the next command looks for it
        raise
    except StratosError:  # it was refused
        if is_first:
            _is_back(spec)
            paid.release()
        raise
    except BaseException:  # it may have been submitted
        if _end(handover, context):
            paid.release()
        raise
    if not job.is_new:
        before = started.find(spec.name)
        not_before = before.at if before is not None and before.id == job.id else 0.0
    try:
        if job.is_new:
            if said := paid.settle_left(spans):
                context.warn(said)
            expected = f"; {job.expected}" if job.expected else ""
            context.note(f"{spec.stage}: submitted as {job.place} ({spec.name}){expected}.")
        else:
            context.note(f"{spec.stage}: follows {job.place} ({spec.name}), which is under way.")
            _catch_up(handover, job, spans, paid, context)
        where = where or executor.where()  # which may not have answered before
        _write_down(handover, job.id, job.place, where, paid, context)
        status = _followed(handover, job, paid, context, not_before)
    except BaseException as error:
        if not isinstance(error, Exception):
            context.note(f"{spec.stage}: {job.place} is told to end; waiting until it is gone.")
        if _end(handover, context):  # else it costs money yet
            paid.release()
        raise
    executor.release(job)  # first: a server that it ends is paid until then
    paid.release(_shared_spans(executor, job))
    _is_back(spec)
    return job, status


def _catch_up(
    handover: Handover, job: Job, spans: Spans | None, paid: Paid, context: Context
) -> None:
    """Book what a job that is followed now had before, and say what it goes on to cost."""
    executor, stage = handover.executor, handover.spec.stage
    if executor.shares_files:
        status = executor.status(job)
        if status.state in (State.PENDING, State.RUNNING):
            is_running = status.state is State.RUNNING
            since = (status.since or time.time()) if is_running else None
            paid.catch_up(spans, since)
    if paid.usd_per_hour != handover.spec.usd_per_hour:
        context.note(
            f"{stage}: it goes on at {usd(paid.usd_per_hour)} an hour, as it was submitted; "
            f"{usd(handover.spec.usd_per_hour)} counts from the next job on."
        )


def _shared_spans(executor: Executor, job: Job) -> Spans | None:
    """Return when a job held its servers; None where they are its own, and run until released."""
    return spans_of(executor, job) if executor.shares_files else None


def _is_back(spec: JobSpec) -> None:
    """Take notice that a stage is with no job any more."""
    handed.forget(spec.folder, spec.stage)
    started.forget(spec.name)


def _write_down(
    handover: Handover, id: str, place: str, where: str, paid: Paid, context: Context
) -> None:
    executor, spec = handover.executor, replace(handover.spec, usd_per_hour=paid.usd_per_hour)
    one = handed.Handed(
        executor.kind, id, place, handover.mark, handover.inputs, spec.name, paid.what, where
    )  # fmt: skip
    handed.keep(spec.folder, spec.stage, one)
    try:
        started.keep(executor, spec, id, place, where)
    except OSError as error:  # the list is an index of what the folder of the run says
        context.warn(
            f"{handover.spec.stage}: its job cannot be written down in {started.folder()} ({error})"
            f": stratos servers does not list it. Set {started.STATE}=<folder>."
        )


def _end(handover: Handover, context: Context) -> bool:
    """Cancel the job, whatever became of it, and wait until it is gone; return whether it is."""
    spec = handover.spec
    try:
        handover.executor.cancel(spec)
        _is_back(spec)
    except StratosError as error:
        context.warn(str(error))
        return False
    except KeyboardInterrupt:
        context.warn(
            f"{spec.stage}: its job {spec.name} was told to end, and may not be gone. The same "
            "command follows it if it is not."
        )
        raise
    return True


def _followed(
    handover: Handover, job: Job, paid: Paid, context: Context, not_before: float
) -> Status:
    """Follow a job to its end.

    Args:
        handover: of the stage.
        job: of the stage.
        paid: of the job.
        context: of the stage.
        not_before: seconds since the epoch; an engine that tells an earlier start is wrong.

    Raises:
        StratosError: it failed, waits too long, or its money has ended.
    """
    executor, spec = handover.executor, handover.spec
    error, waits_since = "", time.monotonic()
    while True:
        status = executor.status(job)
        if status.since is not None:  # by the clock of here: that of the engine may be another
            since = min(max(status.since, not_before), time.time())
            status = replace(status, since=since)
        job.may_copy = paid.covers_copy
        for kind, values, is_old in executor.events(job):
            if kind == BEGAN:
                error = ""
            elif kind == ERROR:
                error = str(values[0])
            elif not is_old or kind == WARN:
                _hand_on(kind, values, job, context)
        if status.state is State.PENDING:
            if paid.is_launched:
                paid.are_back(_shared_spans(executor, job))
            context.tick(0, 0, status.text)
            _check_waiting(handover, status, time.monotonic() - waits_since)
        elif status.state is State.STUCK:
            raise StratosError(
                f"{spec.stage}: {status.text} The job is cancelled.{_instead(executor)}"
            )
        elif status.state is State.RUNNING:
            waits_since = time.monotonic()
            _pay(paid, status, spec, job)
            if not job.n_heard:
                context.tick(0, 0, status.text)
        elif status.state is State.UNKNOWN:
            context.tick(0, 0, status.text)
            if paid.is_launched:  # by the clock: nobody says that it has ended
                _pay(paid, status, spec, job)
        else:
            paid.ran(status.since or (job.submitted_at if job.is_new else None))
            break
        time.sleep(_LOOK_S)
    if status.state is State.CANCELLED:
        raise StratosError(
            f"{spec.stage}: {job.place} was cancelled, and not by this command. What it has done "
            "is kept: the same command goes on."
        )
    if status.state is State.FAILED:
        if not error and paid.has_ended_with_money(job.spec.paid_hours):
            head = (
                f"{spec.stage}: the money for {job.place} has ended, and its time limit with it. "
                f"{_KEPT}"
            )
            raise StratosError(_with_end_of_log(head, job))
        raise StratosError(error or _last_words(job, status))
    return status


def _hand_on(kind: str, values: list[Any], job: Job, context: Context) -> None:
    """Say here what a job says there."""
    if kind == TICK:
        done, total, text = values
        context.tick(done, total, f"{text} · {job.place}" if text else job.place)
    elif kind == WARN:
        context.warn(values[0])
    elif kind == NOTE:
        context.note(values[0])
    elif kind == LOG:
        context.log(*values)


def _check_waiting(handover: Handover, status: Status, seconds: float) -> None:
    most = handover.max_pending_hours
    if most is None or seconds <= most * 3600:
        return
    raise StratosError(
        f"{handover.spec.stage}: {status.text}. It has waited {duration(seconds)}, and may wait "
        f"{most:g} h (executor.max_pending_hours, or limits.deadline_hours): the job is cancelled. "
        f"Type executor.max_pending_hours=<more hours>.{_instead(handover.executor)}"
    )


def _pay(paid: Paid, status: Status, spec: JobSpec, job: Job) -> None:
    try:
        paid.run(status.since)
    except BudgetError as error:
        raise StratosError(
            f"{spec.stage}: the money for {job.place} has ended, so that it is cancelled. {error} "
            f"{_KEPT}"
        ) from error


def _instead(executor: Executor) -> str:
    return "" if executor.runs_here else " Or run it on this machine: executor=here."


def _last_words(job: Job, status: Status) -> str:
    """Return what a job died of that said nothing itself: how it ended, and the end of its log."""
    if status.cure:
        return f"{job.spec.stage}: {status.text}. {status.cure}"
    return _with_end_of_log(f"{job.spec.stage} failed as {job.place}: {status.text}.", job)


def _with_end_of_log(head: str, job: Job) -> str:
    """Return a message with the last lines that a job printed behind it."""
    try:
        lines = job.log.read_text(errors="replace").splitlines()[-_LINES:]
    except OSError:
        lines = []
    if not lines:
        return f"{head} It left no log ({job.log})."
    return "\n".join([f"{head} The end of {job.log}:", *(f"    {line}" for line in lines)])
