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
    for one in submission.listed():
        status = _status(one)
        if status.state in OVER:
            print(f"{_head(one)}\n  has ended: {status.text}. {_to_take(one)}")
            if not _is_handed(one):
                submission.take_off_list(one.name)
            continue
        n_running += 1
        # One that waits costs nothing yet.
        usd_per_hour += one.usd_per_hour if status.state is not State.PENDING else 0.0
        since = one.at if status.since is None else status.since
        how_long = f", for {duration(time.time() - since)}"
        print(
            f"{_head(one)}\n  {status.state.value}{how_long}: {status.text}\n"
            f"  {usd(one.usd_per_hour)} an hour{f', {one.offer}' if one.offer else ''}\n"
            f"  end it: stratos servers down {one.name}"
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
    found = {one.name: one for one in submission.listed()}
    for name in names:
        if name not in found:
            raise StratosError(
                f"{name}: no such job was started from here.{did_you_mean(name, list(found))} "
                "Type stratos servers to list what there is."
            )
    if not names and not is_all:
        raise StratosError("Name what to end: stratos servers down NAME, or --all.")
    if not found:
        print("No job that was started from here is running.")
    are_gone = True
    for name in found if is_all else names:
        one = found[name]
        print(f"{name}: told to end …", flush=True)
        before = _status(one)
        try:
            _check_machine(one)
            one.executor.cancel(one.job().spec)
        except StratosError as error:
            print(visible(str(error)), file=sys.stderr)
            are_gone = False
            continue
        print(f"{name}: gone.{_settled(one, before)}")
        submission.take_off_list(name)
    return are_gone


def _settled(one: Submission, before: Status) -> str:
    """Settle what a job has cost, where no command follows it; return what there is to say.

    Args:
        one: the job, which is gone.
        before: how it stood when it was told to end.
    """
    at = None if before.state in OVER else time.time()
    folder = Path(one.folder)
    if not folder.is_dir():
        return " The folder of its run is gone."
    try:
        with locked(folder / ".lock"):
            ledger = Ledger(folder / "ledger.jsonl")
            spent_usd = ledger.spent_usd
            spans = spans_of(one.executor, one.job())
            said = settle_unseen(folder, one.stage, ledger, spans, since=before.since, at=at)
            cost = ledger.spent_usd - spent_usd
    except BlockingIOError:
        return " The command that follows it takes notice."
    paid = f" {exact_usd(cost)} is booked for it." if cost else ""
    paid += f" {said}" if said else ""
    return f"{paid} What it has done is kept in {folder}: the command of the run goes on from it."


def _status(one: Submission) -> Status:
    if not one.id and one.command is not None and one.command.is_alive_here():
        return Status(State.UNKNOWN, f"process {one.command.pid} is about to submit it")
    if not one.id:
        return Status(State.UNKNOWN, "the command that was submitting it was cut short")
    try:
        _check_machine(one)
        return one.executor.status(one.job())
    except StratosError as error:
        return Status(State.UNKNOWN, str(error))


def _check_machine(one: Submission) -> None:
    """Check that a job is looked for where it is: on its machine, or its cluster.

    Raises:
        StratosError: it is elsewhere, and this machine shares the list, or reaches both clusters.
    """
    if one.cluster and (here := one.executor.where()) and here != one.cluster:
        raise StratosError(
            f"{one.name}: it is a job of {one.cluster}, and {here} answers here: type stratos "
            "servers where that one does."
        )
    if one.executor.runs_here and one.host != socket.gethostname():
        raise StratosError(
            f"{one.name}: it is a process of {one.host}: type stratos servers there."
        )


def _is_handed(one: Submission) -> bool:
    """Return whether the run still counts on the job."""
    return submission.find(Path(one.folder), one.stage) is not None


def _head(one: Submission) -> str:
    return f"{one.name}: {one.stage} of {one.folder}"


def _to_take(one: Submission) -> str:
    if _is_handed(one):
        return "The command of the run takes what it has done."
    return "It is taken off this list."
