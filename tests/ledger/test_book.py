"""The budget is hard: for threads, tasks and processes, and through kills and torn lines."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from stratos.config import LimitsConfig
from stratos.core.errors import BudgetError
from stratos.ledger import Ledger, reserves
from stratos.ledger.reserves import expect, leases, leaves
from stratos.records import ModelCard
from stratos.report.costs import read_ledger
from stratos.run.console import Console
from stratos.run.run_state import RunState
from stratos.run.stage_job import with_money
from stratos.run.stages import PROBE, STAGES, SYNTHESIZE
from stratos.teachers.base import Answer, Question
from stratos.teachers.call_budget import CallBudget


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_tighter_cap_holds_for_what_its_stage_spends(tmp_path):
    path = tmp_path / "ledger.jsonl"
    ledger = Ledger(path, 20.0, stage="synthesize")
    with ledger.reserve("a", 7.0) as call:
        call.settle(7.0)
    ledger.stage = "probe"
    with ledger.reserve("a", 2.0, limit_usd=3.0) as call:
        call.settle(2.0)
    for read in (ledger, Ledger(path, 20.0, stage="probe")):
        assert (read.spent_usd, read.spent_here_usd) == (9.0, 2.0)
        assert (read.left_usd(3.0), read.left_usd(5.0), read.left_usd(50.0)) == (1.0, 3.0, 11.0)
        with pytest.raises(BudgetError, match=r"\$2\.0000 of \$3\.00 is spent"):
            read.take("a", 1.5, limit_usd=3.0)
    with pytest.raises(BudgetError, match=r"\$9\.0000 of \$20\.00 is spent"):
        ledger.take("a", 11.5, limit_usd=50.0)


def test_a_call_is_two_lines(tmp_path):
    ledger = Ledger(tmp_path / "a" / "ledger.jsonl", budget_usd=1.0)
    with ledger.reserve("teacher x", 0.5) as reservation:
        assert (ledger.spent_usd, ledger.reserved_usd, ledger.left_usd()) == (0, 0.5, 0.5)
        assert ledger.left_usd(0.6) == pytest.approx(0.1)
        reservation.settle(0.2, input_tokens=7)
    assert (ledger.spent_usd, ledger.reserved_usd) == (0.2, 0.0)
    first, second = lines(ledger.path)
    assert (first["what"], first["reserved_usd"], first["pid"]) == ("teacher x", 0.5, os.getpid())
    assert second["id"] == first["id"]
    assert (second["usd"], second["planned_usd"], second["input_tokens"]) == (0.2, 0.5, 7)
    assert [(spend.what, spend.usd) for spend in read_ledger(ledger.path)] == [("teacher x", 0.2)]


def test_what_costs_nothing_leaves_no_line(tmp_path):
    ledger = Ledger(tmp_path / "ledger.jsonl", budget_usd=0.0)
    with ledger.reserve("teacher x", 0.0):
        pass
    assert not ledger.path.exists()
    assert Ledger(tmp_path / "none.jsonl").left_usd() is None


def test_an_error_before_settling_costs_the_reservation(tmp_path):
    ledger = Ledger(tmp_path / "ledger.jsonl")
    with pytest.raises(RuntimeError), ledger.reserve("x", 0.25):
        raise RuntimeError
    assert ledger.spent_usd == 0.25


def test_the_refusal_says_what_was_asked_and_what_is_left(tmp_path, snapshot):
    ledger = Ledger(tmp_path / "ledger.jsonl", budget_usd=1.0)
    with ledger.reserve("a", 0.75):
        pass
    with pytest.raises(BudgetError) as caught, ledger.reserve("b", 0.5):
        pass
    assert str(caught.value) == snapshot
    with ledger.reserve("c", 0.25):
        pass  # exactly what is left
    with pytest.raises(BudgetError), ledger.reserve("d", 0.0, limit_usd=0.5):
        pass


class Provider:
    """Bills calls, and keeps the largest total that was ever billed or set aside."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger, self.billed, self.refused, self.most = ledger, 0.0, 0, 0.0
        self._lock = threading.Lock()

    def call(self, seed: int) -> float:
        """Bill something below the ceiling and return it; or fail, billed or not."""
        draw = random.Random(seed)
        cost = draw.uniform(0, 0.01)
        fault = draw.choice(["none", "none", "refused", "cut", "crash"])
        if fault == "refused":
            return 0.0
        with self._lock:
            self.billed += cost
            self.most = max(self.most, self.ledger.spent_usd + self.ledger.reserved_usd)
        if fault == "cut":
            raise ConnectionError
        if fault == "crash":
            raise ValueError
        return cost

    def check(self, budget: float) -> None:
        assert self.billed <= self.ledger.spent_usd + 1e-9 <= budget + 2e-9
        assert self.most <= budget + 1e-9
        assert self.ledger.reserved_usd == 0
        again = Ledger(self.ledger.path, budget)
        assert again.spent_usd == pytest.approx(self.ledger.spent_usd)


@pytest.mark.slow
@pytest.mark.parametrize("budget", [0.5, 3.0, 100.0])
def test_a_thousand_calls_at_once_in_threads(tmp_path, budget):
    provider = Provider(Ledger(tmp_path / "ledger.jsonl", budget))

    def one(seed: int) -> None:
        try:
            with provider.ledger.reserve("call", 0.01) as reservation:
                time.sleep(0.002)
                reservation.settle(provider.call(seed))
        except BudgetError:
            provider.refused += 1
        except (ConnectionError, ValueError):
            pass  # billed or not: the whole reservation counts

    with ThreadPoolExecutor(200) as pool:
        list(pool.map(one, range(1000)))
    provider.check(budget)
    assert (provider.refused > 0) == (budget < 100)


@pytest.mark.slow
@pytest.mark.parametrize("budget", [0.5, 100.0])
def test_a_thousand_calls_at_once_in_tasks(tmp_path, budget):
    provider = Provider(Ledger(tmp_path / "ledger.jsonl", budget))

    async def one(seed: int) -> None:
        try:
            with provider.ledger.reserve("call", 0.01) as reservation:
                await asyncio.sleep(0.01)
                if seed % 50 == 0:
                    raise asyncio.CancelledError
                reservation.settle(provider.call(seed))
        except BudgetError:
            provider.refused += 1
        except (ConnectionError, ValueError, asyncio.CancelledError):
            pass

    async def everyone() -> None:
        await asyncio.gather(*map(one, range(1000)))

    asyncio.run(everyone())
    provider.check(budget)
    # All are in flight at once, so no more are let through than could cost their ceiling.
    assert provider.refused == (950 if budget == 0.5 else 0)


SPENDER = """
import sys, time
from pathlib import Path
from stratos.core.errors import BudgetError
from stratos.ledger import Ledger
ledger = Ledger(Path(sys.argv[1]), float(sys.argv[2]))
n = 0
while True:
    try:
        with ledger.reserve("call", 0.01) as reservation:
            print(n, flush=True)
            time.sleep(float(sys.argv[3]))
            reservation.settle(0.009)
    except BudgetError:
        break
    n += 1
"""


def spender(path: Path, budget: float, pause_s: float) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", SPENDER, str(path), str(budget), str(pause_s)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_processes_share_one_budget(tmp_path):
    path = tmp_path / "ledger.jsonl"
    spenders = [spender(path, 1.0, 0.001) for _ in range(3)]
    for one in spenders:
        one.communicate(timeout=60)
    spent = [line["usd"] for line in lines(path) if "usd" in line]
    assert 0.95 < sum(spent) <= 1.0
    assert Ledger(path, 1.0).spent_usd == pytest.approx(sum(spent))


@pytest.mark.kill
def test_a_killed_process_leaves_its_open_call_counted_in_full(tmp_path):
    path = tmp_path / "ledger.jsonl"
    one = spender(path, 100.0, 0.01)
    assert one.stdout is not None
    for line in one.stdout:
        if line.strip() == "5":
            break
    while Ledger(path).reserved_usd == 0:  # between two calls
        time.sleep(0.001)
    alive = Ledger(path)
    assert alive.reserved_usd == 0.01  # a living process may still settle it
    os.kill(one.pid, signal.SIGSTOP)
    open_before = Ledger(path)
    os.kill(one.pid, signal.SIGKILL)
    one.wait()
    after = Ledger(path)
    assert after.reserved_usd == 0
    assert after.spent_usd == pytest.approx(open_before.spent_usd + open_before.reserved_usd)
    assert Ledger(path).spent_usd == after.spent_usd  # settled once
    if open_before.reserved_usd:
        assert lines(path)[-1]["note"] == "not settled"


def test_a_stage_that_pays_shows_what_the_run_has_spent(tmp_path):
    config: Any = SimpleNamespace(
        stages=(),
        plan=SimpleNamespace(pilot=False),
        rooms={},
        run_dir=tmp_path,
        limits=LimitsConfig(budget_usd=20.0, probe_usd=2.0),
    )
    unused: Any = None
    state = RunState(config, STAGES, Console(), unused, unused)
    with state.ledger.reserve("earlier", 1.0):
        pass
    seen: list[Any] = []
    probe = with_money(state, lambda *told: seen.append(told), PROBE)
    synthesize = with_money(state, lambda *told: seen.append(told), SYNTHESIZE)
    probe(0, 9, "asking")
    card = ModelCard("m", 0, 0, 0, 0, 0, 0, 0, 0, "x", usd_per_million_output_tokens=1e6)
    call_budget = CallBudget(state.ledger, "teacher m", card)
    question = Question([{"role": "user", "content": "?"}], 1)
    receipts = [call_budget.draw(question) for _ in range(3)]
    probe(0, 9)
    assert state.ledger.usd_so_far == 1.0
    call_budget.pay(receipts[0], Answer("!", 1, 1, 0.0))
    probe(1, 9, "asking")
    synthesize(1, 9, "")
    call_budget.pay(receipts[1], None)
    call_budget.close()
    synthesize(2, 9, "asking")
    assert state.ledger.usd_so_far == state.ledger.spent_usd == 3.0
    assert seen == [
        (0, 9, "asking"),
        (0, 9, ""),
        (1, 9, "asking · $2.00 spent of $2.00"),
        (1, 9, "$2.00 spent of $20.00"),
        (2, 9, "asking · $3.00 spent of $20.00"),
    ]


# Bytes that leave a cloud: dollars by the GB, also where the process dies that counts them.

GB = 10**9


def test_from_the_launch_to_the_end(tmp_path):
    ledger = Ledger(tmp_path / "ledger.jsonl", 1.0, stage="distill")
    leave = expect(ledger, "egress of a job", 0.09, gb=4.0, counter=7 * GB)
    assert (ledger.spent_usd, ledger.reserved_usd) == (0, pytest.approx(0.36))
    leave.meter(9 * GB, ahead_gb=1.0)
    assert leave.set_aside_usd == pytest.approx(0.36), "three of four are within it"
    leave.meter(10 * GB, ahead_gb=2.0)
    assert leave.set_aside_usd == pytest.approx(0.45)
    assert leave.settle(9 * GB + GB // 2) == pytest.approx(2.5 * 0.09)
    assert ledger.spent_by("egress") == ledger.spent_here_usd == pytest.approx(0.225)
    again = Ledger(ledger.path, 1.0)
    assert (again.reserved_usd, again.spent_usd) == (0, pytest.approx(0.225))


def test_a_process_that_dies_leaves_it_set_aside_for_the_next(tmp_path):
    expect(Ledger(tmp_path / "ledger.jsonl", 1.0), "egress of a job", 0.09, 4.0, counter=0)
    again = Ledger(tmp_path / "ledger.jsonl", 1.0, is_alone=True)
    assert again.reserved_usd == pytest.approx(0.36) and again.spent_usd == 0
    assert leases(again) == [], "no server costs by the second"
    [leave] = leaves(again)
    assert leave.settle(GB) == pytest.approx(0.09)
    assert leaves(again) == []


def test_the_budget_holds(tmp_path):
    ledger = Ledger(tmp_path / "ledger.jsonl", 1.0)
    reserves.allot(ledger, "a plan", {"train": 0.5, "egress": 0.2})
    with pytest.raises(BudgetError, match=r"^egress of a job may cost \$0\.5400"):
        expect(ledger, "egress of a job", 0.09, 6.0, counter=0)
    leave = expect(ledger, "egress of a job", 0.09, 5.0, counter=0)
    with pytest.raises(BudgetError, match=r"the plan holds \$0\.50 for train"):
        leave.meter(5 * GB, ahead_gb=1.0)
    assert leave.settle(5 * GB) == pytest.approx(0.45)
    assert ledger.totals.reserves["egress"].spent_usd == pytest.approx(0.45)
