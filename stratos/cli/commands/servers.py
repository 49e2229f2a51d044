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
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from stratos.core.errors import StratosError, UsageError, did_you_mean
from stratos.core.extensions import extensions, load
from stratos.core.formats import counted, duration, exact_usd, usd, visible
from stratos.core.output import add_flag, json_line
from stratos.core.process import locked
from stratos.deploy.hosted_server import cache_of_user, hosted_here
from stratos.executors import submission
from stratos.executors.job import OVER, State, Status, TaggedServer, TaggedServers
from stratos.executors.job_costs import leases_of, settle_unseen, spans_of
from stratos.executors.submission import Submission
from stratos.ledger import Ledger


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command and its arguments."""
    parser.usage = "stratos servers [--json] [--account] [down NAME… | down --all]"
    parser.description = (
        "List the jobs that were started from this machine, with what they cost an hour, or end "
        "them. What a job has done is kept in the folder of its run."
    )
    parser.add_argument("words", nargs="*", metavar="down NAME", help="end the jobs of these names")
    parser.add_argument("--all", action="store_true", help="with down: every job")
    parser.add_argument(
        "--account",
        action="store_true",
        help="ask AWS, too, for servers of runs that were started elsewhere in your account",
    )
    add_flag(parser)


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
        _list(args.json, args.account)
        return 0
    return 0 if _down(args.words[1:], args.all) else 1


def _list(is_json: bool = False, has_account: bool = False) -> None:
    listing = Listing.now(has_account)
    if is_json:
        print(json_line(listing))
        return
    for student in listing.hosted:
        print(
            f"{student.bundle}: served at {student.url} ({student.engine}) since {student.since}\n"
            f"  end it: {student.end}"
        )
    for job in listing.jobs:
        if job.has_ended:
            print(f"{_head(job)}\n  has ended: {job.text}. {_to_take(job)}")
            continue
        print(
            f"{_head(job)}\n  {job.state}, for {duration(job.seconds)}: {job.text}\n"
            f"  {usd(job.usd_per_hour)} an hour{f', {job.offer}' if job.offer else ''}; "
            f"{exact_usd(job.spent_usd)} spent so far of {exact_usd(job.reserved_usd)} reserved\n"
            f"  end it: {job.end}"
        )
    for server in listing.elsewhere:
        print(
            f"{server.name}: {server.role} of {server.run}, started elsewhere\n"
            f"  running, for {duration(time.time() - server.since)}: {server.server}\n"
            f"  end it: {server.end}"
        )
    for region, why in listing.left_out.items():
        print(f"{region}: left out, it does not say what runs there ({visible(why)}).")
    n = sum(not job.has_ended for job in listing.jobs)
    if not n:
        print("No job that was started from here is running.")
        return
    print(
        f"{counted(n, 'job')}, {usd(listing.usd_per_hour)} an hour, "
        f"{exact_usd(listing.spent_usd)} spent so far."
    )


@dataclass(frozen=True)
class ListedJob:
    """A job that was started from this machine, as `--json` has it."""

    name: str
    stage: str
    run: str
    state: str
    text: str
    seconds: float
    """Since its servers were handed to it, or it was submitted."""
    usd_per_hour: float
    spent_usd: float
    reserved_usd: float
    """What is set aside for it at most, what is spent included."""
    offer: str
    end: str
    """The command that ends it."""
    has_ended: bool
    is_handed: bool
    """Whether the run still counts on it."""

    @classmethod
    def now(cls, job: Submission) -> ListedJob:
        """Ask the engine of a job how it stands, and the ledger of its run what it has cost."""
        status = _status(job)
        since = job.at if status.since is None else status.since
        spent, reserved = _money(job, status)
        return cls(
            name=job.name,
            stage=job.stage,
            run=job.folder,
            state=status.state.value,
            text=status.text,
            seconds=time.time() - since,
            usd_per_hour=job.usd_per_hour,
            spent_usd=spent,
            reserved_usd=reserved,
            offer=job.offer,
            end=f"stratos servers down {job.name}",
            has_ended=status.state in OVER,
            is_handed=submission.find(Path(job.folder), job.stage) is not None,
        )


@dataclass(frozen=True)
class HostedStudent:
    """A student that is hosted on this machine; it costs nothing."""

    bundle: str
    url: str
    engine: str
    since: str
    end: str


@dataclass(frozen=True)
class Listing:
    """All that was started from this machine, and elsewhere in the same account."""

    jobs: tuple[ListedJob, ...]
    hosted: tuple[HostedStudent, ...]
    elsewhere: tuple[TaggedServer, ...]
    left_out: dict[str, str]
    """Cloud and region that does not say what runs there, to what it says instead."""
    usd_per_hour: float
    """Of jobs that have servers now: one that waits costs nothing yet."""
    spent_usd: float
    """By jobs that have not ended, so far."""

    @classmethod
    def now(cls, has_account: bool) -> Listing:
        """Look at all; what has ended and no run counts on is taken off the list.

        Args:
            has_account: ask the clouds for servers with the tags of a run, too.
        """
        known = list(submission.listed())
        jobs = tuple(map(ListedJob.now, known))
        for job in jobs:
            if job.has_ended and not job.is_handed:
                submission.take_off_list(job.name)
        alive = [job for job in jobs if not job.has_ended]
        paid = (job for job in alive if job.state != State.PENDING.value)
        names = {job.name for job in known}
        answers: list[TaggedServers] = [
            load(room.tagged)(names) for room in extensions() if has_account and room.tagged
        ]
        return cls(
            jobs,
            tuple(_hosted()),
            tuple(server for answer in answers for server in answer.servers),
            {region: why for answer in answers for region, why in answer.left_out.items()},
            sum(job.usd_per_hour for job in paid),
            sum(job.spent_usd for job in alive),
        )


def _hosted() -> Iterator[HostedStudent]:
    for _, hosted in hosted_here(cache_of_user()):
        if hosted.runs:
            end = f"stratos serve stop {shlex.quote(hosted.bundle)}"
            url = f"{hosted.url}/v1"
            yield HostedStudent(hosted.bundle, url, hosted.served_by, str(hosted.since), end)


def _money(job: Submission, status: Status) -> tuple[float, float]:
    """Return what a job has cost so far, and what is reserved for it: by the ledger of its run.

    Servers that run and that nobody follows are counted by the clock, from when they were handed
    to it.
    """
    unseen = 0.0
    if status.since is not None and status.state not in OVER:
        unseen = (time.time() - status.since) / 3600 * job.usd_per_hour
    path = Path(job.folder) / "ledger.jsonl"
    if not path.exists():
        return unseen, 0.0
    try:
        rented = leases_of(Ledger(path), job.stage, job.servers)
    except (StratosError, OSError):
        return unseen, 0.0
    spent = sum(lease.usd() if lease.launched_at is not None else unseen for lease in rented)
    return spent, sum(lease.set_aside_usd for lease in rented)


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


def _head(job: ListedJob) -> str:
    return f"{job.name}: {job.stage} of {job.run}"


def _to_take(job: ListedJob) -> str:
    if job.is_handed:
        return "The command of the run takes what it has done."
    return "It is taken off this list."
