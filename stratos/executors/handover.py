"""Runs a stage as a job: submits it or finds it, shows how far it is, pays, ends what it began.

A job of an earlier command is followed where it is the one that is asked for, and ended where it is
not.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from stratos.core.context import Context
from stratos.core.errors import BudgetError, StratosError
from stratos.core.formats import duration, usd
from stratos.executors import job_folder, submission
from stratos.executors.job import (
    OVER,
    Executor,
    Job,
    JobSpec,
    State,
    Status,
    UnknownSubmissionError,
)
from stratos.executors.job_costs import JobCosts, Spans, leases_of, settle_unseen, spans_of
from stratos.executors.job_folder import BEGAN, ERROR, LOG, NOTE, TICK, WARN
from stratos.executors.submission import Submission
from stratos.ledger import Ledger

_LOOK_S = 1.0
"""Seconds between two questions to the engine."""
_STARTS = 4
"""Times that a job is submitted that is lost each time."""
_GOES_ON = "What it has done is kept: the same command with a larger limits.budget_usd goes on."
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
    job_folder.folder_of(spec.folder).mkdir(exist_ok=True)
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
    costs = JobCosts(context.ledger, executor, spec)
    spec = replace(spec, paid_hours=costs.hours_left)
    known = submission.find(spec.folder, spec.stage)
    # Asked before another job has the name.
    spans = None if known is None else spans_of(executor, known.job(spec.folder))
    not_before = time.time()
    job, cluster = _submit(handover, spec, known, costs, context)
    if not job.is_new:
        before = submission.find_listed(spec.name)
        not_before = before.at if before is not None and before.id == job.id else 0.0
    try:
        if job.is_new:
            if doubt := costs.settle_earlier(spans):
                context.warn(doubt)
            expected = f"; {job.expected}" if job.expected else ""
            context.note(f"{spec.stage}: submitted as {job.label} ({spec.name}){expected}.")
        else:
            context.note(f"{spec.stage}: follows {job.label} ({spec.name}), which is under way.")
            _catch_up(handover, job, spans, costs, context)
        cluster = cluster or executor.where()  # which may not have answered before
        _write_down(handover, costs, context, cluster, job.label, job.id)
        status = _followed(handover, job, costs, context, not_before)
    except BaseException as error:
        if not isinstance(error, Exception):
            context.note(f"{spec.stage}: {job.label} is told to end; waiting until it is gone.")
        if _end(handover, context):  # else it costs money yet
            costs.release()
        raise
    executor.release(job)  # first: a server that it ends is paid until then
    costs.release(_shared_spans(executor, job))
    _forget(spec)
    return job, status


def _submit(
    handover: Handover, spec: JobSpec, known: Submission | None, costs: JobCosts, context: Context
) -> tuple[Job, str]:
    """Submit a job, or find the one of its name; return it and the cluster that has it.

    Nothing is paid where it is refused.
    """
    try:
        cluster = handover.executor.where()
        if known is None:
            job_folder.events_path(spec.folder, spec.stage).unlink(missing_ok=True)
            _write_down(handover, costs, context, cluster, spec.name)  # the job reads it
        return handover.executor.submit(spec), cluster
    except UnknownSubmissionError:  # it may cost money: the next command looks for it
        raise
    except StratosError:  # it was refused
        if known is None:
            _forget(spec)
            costs.release()
        raise
    except BaseException:  # it may have been submitted
        if _end(handover, context):
            costs.release()
        raise


def _catch_up(
    handover: Handover, job: Job, spans: Spans | None, costs: JobCosts, context: Context
) -> None:
    """Book what a job that is followed now had before, and say what it goes on to cost."""
    executor, spec = handover.executor, handover.spec
    if executor.shares_files:
        status = executor.status(job)
        if status.state in (State.PENDING, State.RUNNING):
            is_running = status.state is State.RUNNING
            costs.catch_up(spans, (status.since or time.time()) if is_running else None)
    if costs.usd_per_hour != spec.usd_per_hour:
        context.note(
            f"{spec.stage}: it goes on at {usd(costs.usd_per_hour)} an hour, as it was submitted; "
            f"{usd(spec.usd_per_hour)} counts from the next job on."
        )


def _shared_spans(executor: Executor, job: Job) -> Spans | None:
    """Return when a job held its servers; None where they are its own, and run until released."""
    return spans_of(executor, job) if executor.shares_files else None


def _forget(spec: JobSpec) -> None:
    """Take notice that no job has a stage any more."""
    submission.forget(spec.folder, spec.stage)
    submission.take_off_list(spec.name)


def _write_down(
    handover: Handover, costs: JobCosts, context: Context, cluster: str, label: str, id: str = ""
) -> None:
    executor, spec = handover.executor, handover.spec
    made = Submission.of(
        executor,
        replace(spec, usd_per_hour=costs.usd_per_hour),
        id=id,
        label=label,
        cluster=cluster,
        mark=handover.mark,
        inputs=handover.inputs,
        servers=costs.what,
    )
    submission.write(spec.folder, made)
    try:
        submission.add_to_list(made)
    except OSError as error:  # the list is an index of what the folder of the run says
        context.warn(
            f"{spec.stage}: its job cannot be written down in {submission.list_folder()} ({error}):"
            f" stratos servers does not list it. Set {submission.STATE}=<folder>."
        )


def _end(handover: Handover, context: Context) -> bool:
    """Cancel the job, whatever became of it, and wait until it is gone; return whether it is."""
    spec = handover.spec
    try:
        handover.executor.cancel(spec)
        _forget(spec)
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


# --- to its end -----------------------------------------------------------------------------------


def _followed(
    handover: Handover, job: Job, costs: JobCosts, context: Context, not_before: float
) -> Status:
    """Follow a job to its end.

    Args:
        handover: of the stage.
        job: of the stage.
        costs: of the job.
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
        job.may_copy = costs.covers_copy
        error = _pass_on_events(executor, job, context, error)
        if status.state in OVER:
            break
        if status.state is State.STUCK:
            raise StratosError(
                f"{spec.stage}: {status.text} The job is cancelled.{_instead(executor)}"
            )
        if status.state is State.PENDING:
            if costs.is_launched:
                costs.return_servers(_shared_spans(executor, job))
            _check_waiting(handover, status, time.monotonic() - waits_since)
        elif status.state is State.RUNNING:
            waits_since = time.monotonic()
            costs.launch(status.since)
        if costs.is_launched:  # where the engine is silent, by the clock: nobody says that it ended
            _pay(costs, spec, job)
        if status.state is not State.RUNNING or not job.n_heard:
            context.tick(0, 0, status.text)
        time.sleep(_LOOK_S)
    ran_since = status.since or (job.submitted_at if job.is_new else None)
    if ran_since is not None:
        costs.launch(ran_since)
    _check_end(job, status, costs, error)
    return status


def _check_end(job: Job, status: Status, costs: JobCosts, error: str) -> None:
    """Refuse what a job has ended by that is neither done nor lost.

    Args:
        job: that has ended.
        status: of its end.
        costs: of the job.
        error: what it has said itself; "" for nothing.
    """
    stage = job.spec.stage
    if status.state is State.CANCELLED:
        raise StratosError(
            f"{stage}: {job.label} was cancelled, and not by this command. What it has done "
            "is kept: the same command goes on."
        )
    if status.state is not State.FAILED:
        return
    if error:
        raise StratosError(error)
    if costs.has_ended_with_money(job.spec.paid_hours):
        head = (
            f"{stage}: the money for {job.label} has ended, and its time limit with it. {_GOES_ON}"
        )
        raise StratosError(_with_end_of_log(head, job))
    if status.cure:
        raise StratosError(f"{stage}: {status.text}. {status.cure}")
    raise StratosError(_with_end_of_log(f"{stage} failed as {job.label}: {status.text}.", job))


def _pass_on_events(executor: Executor, job: Job, context: Context, error: str) -> str:
    """Say here what a job says there; return the error that it died of, "" for none."""
    for kind, values, is_old in executor.events(job):
        if kind == BEGAN:
            error = ""
        elif kind == ERROR:
            error = str(values[0])
        elif not is_old or kind == WARN:
            _pass_on(kind, values, job, context)
    return error


def _pass_on(kind: str, values: list[Any], job: Job, context: Context) -> None:
    if kind == TICK:
        done, total, text = values
        context.tick(done, total, f"{text} · {job.label}" if text else job.label)
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


def _pay(costs: JobCosts, spec: JobSpec, job: Job) -> None:
    try:
        costs.meter()
    except BudgetError as error:
        raise StratosError(
            f"{spec.stage}: the money for {job.label} has ended, so that it is cancelled. {error} "
            f"{_GOES_ON}"
        ) from error


def _instead(executor: Executor) -> str:
    return "" if executor.runs_here else " Or run it on this machine: executor=here."


def _with_end_of_log(head: str, job: Job) -> str:
    """Return a message with the last lines that a job printed behind it."""
    try:
        lines = job.log.read_text(errors="replace").splitlines()[-_LINES:]
    except OSError:
        lines = []
    if not lines:
        return f"{head} It left no log ({job.log})."
    return "\n".join([f"{head} The end of {job.log}:", *(f"    {line}" for line in lines)])


# --- jobs of earlier commands ---------------------------------------------------------------------

_ENDS_S = 180.0
"""How long a job may take to end that has left its record."""
Say = Callable[[str], None]


def end_other(
    executor: Executor, spec: JobSpec, mark: str, ledger: Ledger, note: Say, warn: Say
) -> None:
    """Leave no job of a stage but one that is to be followed, and settle what others have cost.

    A job is followed that has not ended, was submitted for the same inputs, and for this folder
    where it lies now. One that the folder does not know any more is ended: its file was deleted.

    Args:
        executor: that the stage is run by.
        spec: of the job that is to run.
        mark: fingerprint of what it is made from.
        ledger: of the run.
        note: says what is done.
        warn: says what is not known.

    Raises:
        StratosError: another executor or another cluster has it, or it does not end.
    """
    known = submission.find(spec.folder, spec.stage)
    earlier = known or submission.find_listed(spec.name)
    if earlier is None:
        if leases_of(ledger, spec.stage):
            _settle(spec.folder, spec.stage, ledger, warn)
        return
    if known is None:
        executor = earlier.executor
    elif known.kind != executor.kind:
        raise StratosError(known.refusal(spec.folder))
    _check_cluster(executor, earlier, spec)
    job = earlier.job(spec.folder)
    status = _status(executor, job)
    has_ended = status is not None and status.state in OVER
    is_same = known is not None and known.mark == mark and known.name == spec.name
    if is_same and not (has_ended and executor.shares_files):
        return
    if not is_same and not (known is None and has_ended):
        note(f"{spec.stage}: {job.label} {_why_another(known, mark)}; it is cancelled.")
        executor.cancel(job.spec)
    at = None if has_ended else time.time()
    _settle(spec.folder, spec.stage, ledger, warn, executor, job, status, at)


def _why_another(known: Submission | None, mark: str) -> str:
    if known is None:
        return "was submitted for this folder, which does not know it any more"
    if known.mark != mark:
        return "was submitted for other inputs than those of now"
    return f"was submitted as {known.name}, when the run lay in another folder"


def _check_cluster(executor: Executor, earlier: Submission, spec: JobSpec) -> None:
    """Refuse to look for a job on another cluster than the one that has it."""
    here = executor.where() if earlier.cluster else ""
    if here and here != earlier.cluster:
        raise StratosError(
            f"{spec.stage} was handed to {earlier.label} of {earlier.cluster}, and {here} answers "
            "here. Give the same command where that cluster answers: it follows that job. Or end "
            f"the job there (stratos servers down {earlier.name}), and delete "
            f"{submission.path_of(spec.folder, spec.stage)}."
        )


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
    known = submission.find(run, stage)
    if known is None:
        return
    listed = submission.find_listed(known.name)
    is_same = all(known.inputs.get(name) == digest for name, digest in inputs.items())
    if listed is None:
        if not is_same:
            raise StratosError(known.refusal(run))
        _settle(run, stage, ledger, warn)
    elif not is_same:
        end_other(listed.executor, listed.job(run).spec, "", ledger, note, warn)
    else:
        executor, job = listed.executor, known.job(run)
        _settle(run, stage, ledger, warn, executor, job, _status_at_end(executor, job))


def _status_at_end(executor: Executor, job: Job) -> Status | None:
    """Return how a job has ended that has left its record; it holds its servers until then.

    Raises:
        StratosError: it does not end, and cannot be ended.
    """
    until = time.monotonic() + _ENDS_S
    while (status := _status(executor, job)) is not None and status.state not in OVER:
        if time.monotonic() > until:
            executor.cancel(job.spec)
            break
        time.sleep(_LOOK_S)
    return status


def _status(executor: Executor, job: Job) -> Status | None:
    """Return how a job stands; None where its submission was cut short, or nobody says."""
    with contextlib.suppress(StratosError):
        return executor.status(job) if job.id else None
    return None


def _settle(
    run: Path,
    stage: str,
    ledger: Ledger,
    warn: Say,
    executor: Executor | None = None,
    job: Job | None = None,
    status: Status | None = None,
    at: float | None = None,
) -> None:
    """Settle a job that has ended, as far as its engine knows; say what is not known."""
    spans = None if executor is None or job is None else spans_of(executor, job)
    since = None if status is None else status.since
    if doubt := settle_unseen(run, stage, ledger, spans, since=since, at=at):
        warn(doubt)
