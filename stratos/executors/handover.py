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
from stratos.executors import submission
from stratos.executors.job import (
    BEGAN,
    ERROR,
    LOG,
    NOTE,
    OVER,
    TICK,
    WARN,
    Executor,
    Job,
    JobSpec,
    State,
    Status,
    UnknownSubmissionError,
    events_path,
    folder_of,
)
from stratos.executors.job_costs import JobCosts, Spans, leases_of, settle_unseen, spans_of
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
    folder_of(spec.folder).mkdir(exist_ok=True)
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
    run = _JobRun(handover, context)
    run.submit()
    try:
        run.begin()
        status = run.follow()
    except BaseException as error:
        if not isinstance(error, Exception):
            context.note(
                f"{run.spec.stage}: {run.job.label} is told to end; waiting until it is gone."
            )
        run.cancel()
        raise
    try:
        run.executor.release(run.job)  # first: a server that it ends is paid until then
    except StratosError as error:
        if status.state is State.DONE:
            raise
        raise StratosError(f"{run.spec.stage}: {status.text}. {error}") from error
    run.costs.release(run.shared_spans())
    _forget(run.spec)
    return run.job, status


def _forget(spec: JobSpec) -> None:
    """Take notice that no job has a stage any more."""
    submission.forget(spec.folder, spec.stage)
    submission.take_off_list(spec.name)


class _JobRun:
    """One job of a stage, from before it is submitted to its end."""

    job: Job

    def __init__(self, handover: Handover, context: Context) -> None:
        self.executor, self.context, self._handover = handover.executor, context, handover
        self.costs = JobCosts(context.ledger, handover.executor, handover.spec)
        self.spec = replace(handover.spec, paid_hours=self.costs.hours_left)
        self._known = submission.find(self.spec.folder, self.spec.stage)
        known = self._known
        # Asked before another job has the name.
        self._spans = (
            None if known is None else spans_of(self.executor, known.job(self.spec.folder))
        )
        self._cluster = ""
        self._not_before = time.time()
        """An engine that tells an earlier start of a job is wrong."""
        self._error = ""
        """What the job has said that it died of."""

    def submit(self) -> None:
        """Submit the job, or find the one of its name; nothing is paid where it is refused."""
        try:
            self._cluster = self.executor.where()
            if self._known is None:
                events_path(self.spec.folder, self.spec.stage).unlink(missing_ok=True)
                self._write_down(self.spec.name)  # the job reads it
            self._not_before = time.time()
            self.job = self.executor.submit(self.spec)
        except UnknownSubmissionError:  # it may cost money: the next command looks for it
            raise
        except StratosError:  # it was refused
            if self._known is None:
                _forget(self.spec)
                self.costs.release()
            raise
        except BaseException:  # it may have been submitted
            self.cancel()
            raise

    def begin(self) -> None:
        """Write down which job it is, and settle what earlier ones have cost."""
        stage, job = self.spec.stage, self.job
        if job.is_new:
            if doubt := self.costs.settle_earlier(self._spans):
                self.context.warn(doubt)
            expected = f"; {job.expected}" if job.expected else ""
            self.context.note(f"{stage}: submitted as {job.label} ({self.spec.name}){expected}.")
        else:
            before = submission.find_listed(self.spec.name)
            self._not_before = before.at if before is not None and before.id == job.id else 0.0
            self.context.note(
                f"{stage}: follows {job.label} ({self.spec.name}), which is under way."
            )
            self._catch_up()
        self._cluster = self._cluster or self.executor.where()  # it may not have answered before
        self._write_down(job.label, job.id)

    def _catch_up(self) -> None:
        """Book what a job that is followed now had before, and say what it goes on to cost."""
        costs = self.costs
        if self.executor.shares_files:
            status = self.executor.status(self.job)
            if status.state is State.RUNNING:
                costs.catch_up(self._spans, status.since or time.time())
            elif status.state is State.PENDING:
                costs.catch_up(self._spans, None)
        if costs.usd_per_hour != self.spec.usd_per_hour:
            self.context.note(
                f"{self.spec.stage}: it goes on at {usd(costs.usd_per_hour)} an hour, as it was "
                f"submitted; {usd(self.spec.usd_per_hour)} counts from the next job on."
            )

    def shared_spans(self) -> Spans | None:
        """Return when the job held its servers; None where they are its own until released."""
        return spans_of(self.executor, self.job) if self.executor.shares_files else None

    def cancel(self) -> None:
        """Cancel the job, whatever became of it, and wait until it is gone.

        Where it may not be gone it costs money yet, so that nothing is released.
        """
        spec = self.spec
        try:
            since = self.executor.cancel(spec)
            _forget(spec)
            if since is not None:
                self.costs.launch(since)
            self.costs.release()
        except (StratosError, OSError) as error:  # why it is cancelled is what the user has to read
            self.context.warn(str(error))
        except KeyboardInterrupt:
            self.context.warn(
                f"{spec.stage}: its job {spec.name} was told to end, and may not be gone. The same "
                "command follows it if it is not."
            )
            raise

    def _write_down(self, label: str, id: str = "") -> None:
        made = Submission.of(
            self.executor,
            replace(self.spec, usd_per_hour=self.costs.usd_per_hour),
            id=id,
            label=label,
            cluster=self._cluster,
            mark=self._handover.mark,
            inputs=self._handover.inputs,
            servers=self.costs.what,
        )
        submission.write(self.spec.folder, made)
        try:
            submission.add_to_list(made)
        except OSError as error:  # the list is an index of what the folder of the run says
            self.context.warn(
                f"{self.spec.stage}: its job cannot be written down in {submission.list_folder()} "
                f"({error}): stratos servers does not list it. Set {submission.STATE}=<folder>."
            )

    def follow(self) -> Status:
        """Follow the job to its end.

        Raises:
            StratosError: it failed, waits too long, or its money has ended.
        """
        waits_since = time.monotonic()
        while (status := self._look()).state not in OVER:
            if status.state is State.STUCK:
                instead = _instead(self.executor)
                raise StratosError(
                    f"{self.spec.stage}: {status.text} The job is cancelled.{instead}"
                )
            if status.state is State.PENDING:
                if self.costs.is_launched:
                    self.costs.return_servers(self.shared_spans())
                self._check_waiting(status, time.monotonic() - waits_since)
            elif status.state is State.RUNNING:
                waits_since = time.monotonic()
                self.costs.launch(status.since)
            if self.costs.is_launched:  # where the engine is silent, by the clock
                self._pay()
            if status.state is not State.RUNNING or not self.job.n_heard:
                self.context.tick(0, 0, status.text)
            time.sleep(_LOOK_S)
        since = status.since or (self.job.submitted_at if self.job.is_new else None)
        if since is not None:
            self.costs.launch(since)
        self._check_end(status)
        return status

    def _look(self) -> Status:
        """Return how the job stands, and say here what it says there."""
        status = self.executor.status(self.job)
        if status.since is not None:  # by the clock of here: that of the engine may be another
            since = min(max(status.since, self._not_before), time.time())
            status = replace(status, since=since)
        self.job.may_copy = self.costs.covers_copy
        for kind, values, is_old in self.executor.events(self.job):
            if kind == BEGAN:
                self._error = ""
            elif kind == ERROR:
                self._error = str(values[0])
            elif not is_old or kind == WARN:
                self._pass_on(kind, values)
        return status

    def _pass_on(self, kind: str, values: list[Any]) -> None:
        if kind == TICK:
            done, total, text = values
            label = self.job.label
            self.context.tick(done, total, f"{text} · {label}" if text else label)
        elif kind == WARN:
            self.context.warn(values[0])
        elif kind == NOTE:
            self.context.note(values[0])
        elif kind == LOG:
            self.context.log(*values)

    def _check_waiting(self, status: Status, seconds: float) -> None:
        most = self._handover.max_pending_hours
        if most is None or seconds <= most * 3600:
            return
        raise StratosError(
            f"{self.spec.stage}: {status.text}. It has waited {duration(seconds)}, and may wait "
            f"{most:g} h (executor.max_pending_hours, or limits.deadline_hours): the job is "
            "cancelled. Type executor.max_pending_hours=<more hours>."
            f"{_instead(self.executor)}"
        )

    def _pay(self) -> None:
        try:
            self.costs.meter()
        except BudgetError as error:
            raise StratosError(
                f"{self.spec.stage}: the money for {self.job.label} has ended, so that it is "
                f"cancelled. {error} {_GOES_ON}"
            ) from error

    def _check_end(self, status: Status) -> None:
        """Refuse what the job has ended by that is neither done nor lost."""
        stage, job = self.spec.stage, self.job
        if status.state is State.CANCELLED:
            raise StratosError(
                f"{stage}: {job.label} was cancelled, and not by this command. What it has done "
                "is kept: the same command goes on."
            )
        if status.state is not State.FAILED:
            return
        if self._error:
            raise StratosError(self._error)
        if self.costs.has_ended_with_money(self.spec.paid_hours):
            raise StratosError(
                f"{stage}: the money for {job.label} has ended, and its time limit with it. "
                f"{_GOES_ON} What it printed is in {job.log}."
            )
        if status.cure:
            raise StratosError(f"{stage}: {status.text}. {status.cure}")
        raise StratosError(_with_end_of_log(f"{stage} failed as {job.label}: {status.text}.", job))


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
    since = None if status is None else status.since
    is_same = known is not None and known.mark == mark and known.name == spec.name
    if is_same and not (has_ended and executor.shares_files):
        return
    if not is_same and not (known is None and has_ended):
        note(f"{spec.stage}: {job.label} {_why_another(known, mark)}; it is cancelled.")
        since = executor.cancel(job.spec) or since
    at = None if has_ended else time.time()
    _settle(spec.folder, spec.stage, ledger, warn, executor, job, since, at)


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
        status = _status_at_end(executor, job)
        since = None if status is None else status.since
        _settle(run, stage, ledger, warn, executor, job, since)


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
    since: float | None = None,
    at: float | None = None,
) -> None:
    """Settle a job that has ended, as far as its engine knows; say what is not known."""
    spans = None if executor is None or job is None else spans_of(executor, job)
    if doubt := settle_unseen(run, stage, ledger, spans, since=since, at=at):
        warn(doubt)
