"""`stratos servers`: what this machine started and what it costs an hour; `down` ends it.

Jobs of executors are those that are listed outside of run folders (`executors.submission`), so that
one is found also where its folder is gone. How each stands is asked of its own engine.
"""

from __future__ import annotations

import argparse
import shlex
import socket
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from stratos.core.errors import StratosError, UsageError, did_you_mean
from stratos.core.formats import counted, duration, exact_usd, usd, visible
from stratos.core.process import locked
from stratos.deploy.hosted_server import cache_of_user, hosted_here
from stratos.executors import submission
from stratos.executors.job import OVER, State, Status
from stratos.executors.job_costs import settle_unseen, spans_of
from stratos.executors.submission import Submission
from stratos.ledger import Ledger


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command and its arguments."""
    parser.usage = "stratos servers [down NAME… | down --all]"
    parser.description = (
        "List the jobs that were started from this machine, with what they cost an hour, or end "
        "them. What a job has done is kept in the folder of its run."
    )
    parser.add_argument("words", nargs="*", metavar="down NAME", help="end the jobs of these names")
    parser.add_argument("--all", action="store_true", help="with down: every job")


def run(args: argparse.Namespace) -> int:
    """List what runs, or end it; return 1 where something may still run.

    Raises:
        UsageError: the words are neither.
        StratosError: there is no such job.
    """
    if args.words[:1] not in ([], ["down"]) or (args.all and not args.words):
        meant = did_you_mean(args.words[0], ["down"]) if args.words else ""
        raise UsageError(f"type stratos servers, or stratos servers down NAME.{meant}")
    if not args.words:
        _list()
        return 0
    return 0 if _down(args.words[1:], args.all) else 1


def _list() -> None:
    _list_hosted()
    usd_per_hour, n_running = 0.0, 0
    for job in submission.listed():
        status = _status(job)
        if status.state in OVER:
            print(f"{_head(job)}\n  has ended: {status.text}. {_to_take(job)}")
            if not _is_handed(job):
                submission.take_off_list(job.name)
            continue
        n_running += 1
        # One that waits costs nothing yet.
        usd_per_hour += job.usd_per_hour if status.state is not State.PENDING else 0.0
        since = job.at if status.since is None else status.since
        how_long = f", for {duration(time.time() - since)}"
        print(
            f"{_head(job)}\n  {status.state.value}{how_long}: {status.text}\n"
            f"  {usd(job.usd_per_hour)} an hour{f', {job.offer}' if job.offer else ''}\n"
            f"  end it: stratos servers down {job.name}"
        )
    if not n_running:
        print("No job that was started from here is running.")
        return
    print(f"{counted(n_running, 'job')}, {usd(usd_per_hour)} an hour.")


def _list_hosted() -> None:
    """List the students that are hosted on this machine; they cost nothing."""
    for _, hosted in hosted_here(cache_of_user()):
        if hosted.runs:
            print(
                f"{hosted.bundle}: served at {hosted.url}/v1 ({hosted.served_by}) since "
                f"{hosted.since}\n"
                f"  end it: stratos serve stop {shlex.quote(hosted.bundle)}"
            )


def _down(names: Sequence[str], is_all: bool) -> bool:
    """End jobs; return whether all of them are gone."""
    jobs = {job.name: job for job in submission.listed()}
    for name in names:
        if name not in jobs:
            raise StratosError(
                f"{name}: no such job was started from here.{did_you_mean(name, list(jobs))} "
                "Type stratos servers to list what there is."
            )
    if not names and not is_all:
        raise StratosError("Name what to end: stratos servers down NAME, or --all.")
    if not jobs:
        print("No job that was started from here is running.")
    are_gone = True
    for name in jobs if is_all else names:
        job = jobs[name]
        print(f"{name}: told to end …", flush=True)
        before = _status(job)
        try:
            _check_machine(job)
            since = job.executor.cancel(job.job().spec) or before.since
        except StratosError as error:
            print(visible(str(error)), file=sys.stderr)
            are_gone = False
            continue
        print(f"{name}: gone.{_settled(job, before, since)}")
        submission.take_off_list(name)
    return are_gone


def _settled(job: Submission, before: Status, since: float | None) -> str:
    """Settle what a job has cost, where no command follows it; return what there is to say.

    Args:
        job: the job, which is gone.
        before: how it stood when it was told to end.
        since: when its servers were handed to it, in seconds since the epoch.
    """
    at = None if before.state in OVER else time.time()
    folder = Path(job.folder)
    if not folder.is_dir():
        return " The folder of its run is gone."
    try:
        with locked(folder / ".lock"):
            ledger = Ledger(folder / "ledger.jsonl")
            spent_usd = ledger.spent_usd
            spans = spans_of(job.executor, job.job())
            text = settle_unseen(folder, job.stage, ledger, spans, since=since, at=at)
            cost = ledger.spent_usd - spent_usd
    except BlockingIOError:
        return " The command that follows it takes notice."
    paid = f" {exact_usd(cost)} is booked for it." if cost else ""
    paid += f" {text}" if text else ""
    return f"{paid} What it has done is kept in {folder}: the command of the run goes on from it."


def _status(job: Submission) -> Status:
    if not job.id and job.command is not None and job.command.is_alive_here():
        return Status(State.UNKNOWN, f"process {job.command.pid} is about to submit it")
    if not job.id:
        return Status(State.UNKNOWN, "the command that was submitting it was cut short")
    try:
        _check_machine(job)
        return job.executor.status(job.job())
    except StratosError as error:
        return Status(State.UNKNOWN, str(error))


def _check_machine(job: Submission) -> None:
    """Check that a job is looked for where it is: on its machine, or its cluster.

    Raises:
        StratosError: it is elsewhere, and this machine shares the list, or reaches both clusters.
    """
    if job.cluster and (here := job.executor.where()) and here != job.cluster:
        raise StratosError(
            f"{job.name}: it is a job of {job.cluster}, and {here} answers here: type stratos "
            "servers where that one does."
        )
    if job.executor.runs_here and job.host != socket.gethostname():
        raise StratosError(
            f"{job.name}: it is a process of {job.host}: type stratos servers there."
        )


def _is_handed(job: Submission) -> bool:
    """Return whether the run still counts on the job."""
    return submission.find(Path(job.folder), job.stage) is not None


def _head(job: Submission) -> str:
    return f"{job.name}: {job.stage} of {job.folder}"


def _to_take(job: Submission) -> str:
    if _is_handed(job):
        return "The command of the run takes what it has done."
    return "It is taken off this list."
