"""How a job is followed, paid and ended: real processes that do nothing but take time."""

from __future__ import annotations

import errno
import json
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from stratos.core.context import Context
from stratos.core.errors import BudgetError, StratosError
from stratos.executors import handover, job_costs, submission
from stratos.executors.handover import Handover, run_there
from stratos.executors.here import Here
from stratos.executors.job import Job, JobSpec, Returns, State, Status, events_path, folder_of
from stratos.executors.job_costs import ByteCounter, JobCosts
from stratos.executors.submission import Submission
from stratos.ledger import Ledger
from stratos.ledger.reserves import leases, leaves


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def context(tmp_path: Path, said: list[str]) -> Context:
    ledger = Ledger(tmp_path / "ledger.jsonl", 10.0, stage="distill")
    return Context(tmp_path, tmp_path / "cache", ledger, warn=said.append, note=said.append)


@pytest.fixture
def job(tmp_path: Path) -> Callable[..., Handover]:
    """Return what makes a job of a line of Python."""

    def of(code: str, **changes) -> Handover:
        fields = {
            "name": f"stratos-{tmp_path.name}", "stage": "distill", "folder": tmp_path,
            "role": "train", "nodes": 1, "offer": None, "hours": 1.0, "planned_hours": 1.0,
            "usd_per_hour": 1.0, "command": (sys.executable, "-c", code), "env": {},
        }  # fmt: skip
        return Handover(Here(), JobSpec(**fields | changes), "a mark", {}, None)

    return of


@pytest.fixture(autouse=True)
def _looks_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handover, "_LOOK_S", 0.05)


def pid_of(handover: Handover) -> int:
    until = time.monotonic() + 30
    while time.monotonic() < until:
        known = submission.find(handover.spec.folder, "distill")
        if known is not None and known.id:
            return int(known.id.split()[0])
        time.sleep(0.02)
    raise AssertionError("no job was submitted")


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def events(context: Context) -> Path:
    return events_path(context.run_dir, "distill")


def test_what_a_job_says_is_said_here_and_paid_is_what_it_took(job, context, said):
    ticks, metrics = list[tuple](), list[tuple]()
    context = replace(
        context,
        tick=lambda done, total, text="": ticks.append((done, total, text)),
        log=lambda *row: metrics.append(row),
    )
    lines = (
        r'{"tick": [1, 2, "half"]}\n{"warn": ["look"]}\n{"note": ["next"]}\n'
        r'{"log": [{"loss": 0.5}, 3]}\n{"tick": [2, '
    )
    code = f"import time; open({str(events(context))!r}, 'a').write('{lines}'); time.sleep(1)"
    run_there(job(code, usd_per_hour=3.6), context)
    assert (1, 2, f"half · process {said[0].split()[4]}") in ticks
    assert said[1:] == ["look", "next"] and metrics == [({"loss": 0.5}, 3)]
    assert context.ledger.spent_by("train") == pytest.approx(0.001, abs=0.002)
    assert context.ledger.spent_usd > 0 and leases(context.ledger) == []
    assert submission.find(context.run_dir, "distill") is None


def test_where_the_money_ends_the_job_ends(job, context):
    # $5 are reserved, and the seconds that an end may take cost $10 more than there are.
    handover = job("import time; time.sleep(60)", planned_hours=5 / 7200, usd_per_hour=7200.0)
    with pytest.raises(StratosError) as ended:
        run_there(handover, context)
    reason = re.search(
        r"money for process (?P<pid>\d+) .* may cost \$(?P<cost>[\d.]+), "
        r".* of \$10\.00 is spent.*: type limits\.budget_usd=(?P<enough>[\d.]+) or more",
        str(ended.value),
    )
    assert reason is not None
    cost, enough = float(reason["cost"]), float(reason["enough"])
    assert 10 < cost <= enough  # of a busy machine, both are more
    assert not is_alive(int(reason["pid"])) and leases(context.ledger) == []
    assert context.ledger.spent_usd <= 10
    with pytest.raises(BudgetError, match=r"^train 1 × a server for .* may cost \$20\.0000"):
        run_there(job("", planned_hours=20.0), context)
    assert submission.find(context.run_dir, "distill") is None


class Quick(Here):
    """Ends jobs at once."""

    ends_s = 0.2


def test_a_limit_of_seconds_is_used_to_its_end(job, context):
    # The $10 are 6 s, of which one is reserved.
    handover = job("import time; time.sleep(60)", planned_hours=1 / 3600, usd_per_hour=6000.0)
    with pytest.raises(StratosError, match="the money for process") as ended:
        run_there(replace(handover, executor=Quick()), context)
    assert len(str(ended.value).splitlines()) == 1
    assert context.ledger.spent_usd >= 9 and leases(context.ledger) == []
    lines = [json.loads(line) for line in context.ledger.path.read_text().splitlines()]
    assert sum(line["kind"] == "metered" for line in lines) < 5, "no line for each look"


def test_a_job_that_ends_with_its_money_shows_no_traceback(job, context):
    # The $10 are 3.6 s.
    handover = job("import time; time.sleep(2.4); 1 / 0", planned_hours=0.0, usd_per_hour=1e4)
    with pytest.raises(StratosError, match="and its time limit with it") as ended:
        run_there(replace(handover, executor=Quick()), context)
    log = folder_of(context.run_dir) / "distill.log"
    assert str(ended.value).endswith(
        f"larger limits.budget_usd goes on. What it printed is in {log}."
    )


def test_a_job_that_is_lost_is_submitted_again(job, context, said, snapshot):
    done = context.run_dir / "once"
    code = (
        f"import os, pathlib, time; once = pathlib.Path('{done}'); again = once.exists(); "
        "once.touch(); again or time.sleep(60)"
    )
    handover = job(code)

    def kill() -> None:
        pid = pid_of(handover)
        while not done.exists():
            time.sleep(0.02)
        os.kill(pid, signal.SIGKILL)

    thread = threading.Thread(target=kill)
    thread.start()
    run_there(handover, context)
    thread.join()
    assert [one.split(" ", 1)[0] for one in said] == ["distill:"] * 3
    assert said[1] == snapshot


def test_a_job_that_is_always_lost_is_given_up(job, context, said):
    with pytest.raises(StratosError) as given_up:
        run_there(
            job("import os; print('a batch is loaded', flush=True); os.kill(os.getpid(), 9)"),
            context,
        )
    log = folder_of(context.run_dir) / "distill.log"
    assert str(given_up.value) == (
        "distill: its job was lost 4 times, the last time because it was killed by signal 9. Where "
        "the memory of this machine was at its end, close what else takes of it. What it has done "
        f"is kept: the same command goes on. The end of {log}:" + "\n    a batch is loaded" * 4
    )
    assert sum("submitted as" in one for one in said) == 4


def test_a_job_that_fails_says_why(job, context):
    with pytest.raises(StratosError) as failed:
        run_there(job("print('almost'); 1 / 0"), context)
    lines = str(failed.value).splitlines()
    assert re.fullmatch(
        r"distill failed as process \d+: it ended with exit code 1\. The end of \S+distill\.log:",
        lines[0],
    )
    assert lines[-1] == "    ZeroDivisionError: division by zero"
    told = f"open({str(events(context))!r}, 'a').write('{{\"error\": [\"Mend it.\"]}}\\n')"
    with pytest.raises(StratosError, match=r"^Mend it\.$"):
        run_there(job(f"{told}; raise SystemExit(1)"), context)


def test_ctrl_c_ends_the_job_first(job, context, said, snapshot):
    handover = job("import time; time.sleep(60)")
    # A shell starts what runs in the background with Ctrl-C ignored.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    threading.Timer(1.0, os.kill, (os.getpid(), signal.SIGINT)).start()
    try:
        with pytest.raises(KeyboardInterrupt):
            run_there(handover, context)
    finally:
        signal.signal(signal.SIGINT, before)
    pid = int(said[0].split()[4])
    assert said[1].replace(str(pid), "<pid>") == snapshot
    assert not is_alive(pid)
    assert submission.find(context.run_dir, "distill") is None and leases(context.ledger) == []


class Silent(Here):
    """Does not say any more that a job runs, once it has."""

    was_seen = False

    def status(self, job: Job) -> Status:
        status = super().status(job)
        if status.state is State.RUNNING and self.was_seen:
            return Status(State.UNKNOWN, "it does not answer")
        object.__setattr__(self, "was_seen", True)
        return status


def test_a_job_whose_engine_is_silent_costs_money_by_the_clock(job, context, monkeypatch):
    monkeypatch.setattr(job_costs, "_METER_S", 0.0)
    # There is money for the 10 s that an end may take, and 0.4 s.
    handover = job("import time; time.sleep(6)", planned_hours=0.001, usd_per_hour=3461.0)
    with pytest.raises(StratosError, match=r"the money for process \d+ has ended, so that it is"):
        run_there(replace(handover, executor=Silent()), context)
    assert leases(context.ledger) == []


class Early(Here):
    """Says that jobs began a day before, and keeps for what it was asked to run one."""

    def submit(self, spec: JobSpec) -> Job:
        object.__setattr__(self, "paid_hours", spec.paid_hours)
        return super().submit(spec)

    def status(self, job: Job) -> Status:
        return replace(super().status(job), since=time.time() - 86400)


def test_a_job_does_not_begin_before_it_is_submitted(job, context):
    executor = Early()
    run_there(replace(job("", usd_per_hour=2.0), executor=executor), context)
    assert 0 < context.ledger.spent_usd < 0.1
    # Of the $10 of the budget.
    assert executor.paid_hours == pytest.approx(5.0)  # type: ignore[attr-defined]


class Stays(Silent):
    """Cannot tell that a job is gone."""

    def cancel(self, spec: JobSpec) -> None:
        super().cancel(spec)
        raise StratosError("It is not gone.")


def test_a_job_that_may_not_be_gone_costs_money_yet(job, context, said):
    handover = job("import time; time.sleep(60)", planned_hours=5 / 7200, usd_per_hour=7200.0)
    with pytest.raises(StratosError, match="the money for process"):
        run_there(replace(handover, executor=Stays()), context)
    assert said[-1] == "It is not gone."
    [lease] = leases(context.ledger)
    assert lease.launched_at is not None
    assert submission.find(context.run_dir, "distill") is not None


class FullDisk(Here):
    """Ends jobs, and then finds no room to say so."""

    def cancel(self, spec: JobSpec) -> None:
        super().cancel(spec)
        raise OSError(errno.ENOSPC, "No space left on device")


def test_what_ended_a_job_is_told_whatever_becomes_of_its_end(job, context, said):
    handover = job("import time; time.sleep(60)", planned_hours=5 / 7200, usd_per_hour=7200.0)
    with pytest.raises(StratosError, match="the money for process"):
        run_there(replace(handover, executor=FullDisk()), context)
    assert said[-1].endswith("No space left on device")
    assert len(leases(context.ledger)) == 1, "it costs money until it is known to be gone"


class Lost(Here):
    """Loses its jobs, and cannot give back what it holds for them."""

    def status(self, job: Job) -> Status:
        return Status(State.LOST, "its server is gone")

    def release(self, job: Job) -> None:
        raise StratosError("It may still run.")


def test_a_job_is_lost_before_it_cannot_be_released(job, context):
    with pytest.raises(StratosError) as lost:
        run_there(replace(job(""), executor=Lost()), context)
    assert str(lost.value) == "distill: its server is gone. It may still run."


class Sends(Here):
    """Runs jobs on a machine whose cloud bills what they send."""

    def egress_gb(self, spec: JobSpec) -> float:
        return spec.returns.end_gb


def test_what_a_job_sends_is_reserved_before_it_and_paid_by_what_came(job, context):
    counter = folder_of(context.run_dir) / "distill.received"
    code = f"open({str(counter)!r}, 'w').write('3000000000')"
    handover = replace(job(code, usd_per_hour=0.0), executor=Sends())
    spec = replace(handover.spec, returns=Returns(usd_per_gb=0.09, end_gb=200.0, copy_gb=1.0))
    with pytest.raises(BudgetError) as dear:
        run_there(replace(handover, spec=spec), context)
    assert str(dear.value).startswith(f"egress of {spec.name} may cost $18.0000, and $0.0000 of")
    assert str(dear.value).endswith(
        "Fewer copies of checkpoints cost less: executor.fetch_every_minutes=<more minutes>."
    )
    assert leases(context.ledger) == leaves(context.ledger) == []
    assert submission.find(context.run_dir, "distill") is None
    spec = replace(handover.spec, returns=Returns(usd_per_gb=0.09, end_gb=5.0))
    run_there(replace(handover, spec=spec), context)
    assert context.ledger.spent_by("egress") == pytest.approx(0.27)
    assert leaves(context.ledger) == [] and context.ledger.reserved_usd == 0
    # The next job of the stage pays for what it sends itself.
    run_there(replace(handover, spec=spec), context)
    assert context.ledger.spent_by("egress") == pytest.approx(0.27)


class Copies(Here):
    """Brings back 100 GB again and again, 25 at each look, and 150 at the end."""

    sent_gb = 0

    def egress_gb(self, spec: JobSpec) -> float:
        return spec.returns.end_gb + 3 * spec.returns.copy_gb

    def events(self, job):
        if self.sent_gb % 100 or job.may_copy:
            self._send(job.spec, 25)
        yield from super().events(job)

    def cancel(self, spec: JobSpec) -> None:
        super().cancel(spec)
        self._send(spec, -self.sent_gb % 100 + 150)  # a copy that has begun ends first

    def _send(self, spec: JobSpec, gb: int) -> None:
        object.__setattr__(self, "sent_gb", self.sent_gb + gb)
        counter = ByteCounter(spec.folder, spec.stage)
        copy = counter.new_copy()
        copy.write_text(f"Total bytes received: {gb}000000000\n")
        counter.end_copy(copy)


@pytest.mark.parametrize("meter_s", [0.0, 0.7])
def test_copies_end_where_the_budget_has_no_room_for_one_more_and_the_end(
    job, context, monkeypatch, meter_s
):
    monkeypatch.setattr(job_costs, "_METER_S", meter_s)
    handover = replace(job("import time; time.sleep(60)", usd_per_hour=0.0), executor=Copies())
    spec = replace(handover.spec, returns=Returns(usd_per_gb=0.09, end_gb=150.0, copy_gb=100.0))
    ledger = Ledger(context.run_dir / "egress.jsonl", 0.09 * 450, stage="distill")
    with pytest.raises(StratosError, match=r"the money for process .* has ended"):
        run_there(replace(handover, spec=spec), replace(context, ledger=ledger))
    sent_gb = ByteCounter(spec.folder, spec.stage).total / 1e9
    assert 350 <= sent_gb <= 450
    assert ledger.spent_usd == pytest.approx(0.09 * sent_gb) and ledger.reserved_usd == 0


def test_the_servers_of_a_job_that_ended_unseen_cost_until_its_last_word(job, context):
    handover = job("", usd_per_hour=3.6)
    servers = JobCosts(context.ledger, handover.executor, handover.spec)
    servers.launch(time.time() - 3600)
    folder_of(context.run_dir).mkdir()
    earlier = Submission.of(
        handover.executor, handover.spec, id="999999999 x 1", label="process 9", mark="a mark",
        servers=servers.what,
    )  # fmt: skip
    submission.write(context.run_dir, earlier)
    events(context).write_text("{}\n")
    ended = time.time() - 1800
    os.utime(events(context), (ended, ended))
    run_there(handover, context)
    assert context.ledger.spent_usd == pytest.approx(1.8, abs=0.01)
