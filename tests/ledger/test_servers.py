"""Rented servers: dollars by the second, by processes that share one budget and may be killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

from stratos.core.errors import BudgetError
from stratos.ledger import Ledger, reserves
from stratos.ledger.reserves import leases, rent

PRICE = 3600.0
"""Dollars an hour: one a second."""


def test_from_launch_to_release(tmp_path):
    ledger = Ledger(tmp_path / "ledger.jsonl", 100.0, stage="distill")
    lease = rent(ledger, "train", "train 2 × a server", PRICE, hours=60 / 3600)
    assert (ledger.spent_usd, ledger.reserved_usd, lease.usd()) == (0, 60.0, 0.0)
    lease.launch(at=1000.0)
    assert lease.usd(1010.0) == pytest.approx(10.0)
    lease.meter(1010.0, ahead_s=5)
    assert ledger.reserved_usd == 60.0
    assert lease.release(1042.5) == pytest.approx(42.5)
    assert (ledger.spent_usd, ledger.reserved_usd) == (42.5, 0.0)
    assert ledger.spent_by("train") == ledger.spent_here_usd == 42.5
    assert leases(ledger) == []
    again = Ledger(ledger.path, 100.0)
    assert (again.spent_usd, again.reserved_usd) == (42.5, 0.0)


def test_what_was_never_launched_costs_nothing_and_a_minute_may_be_the_least(tmp_path):
    ledger = Ledger(tmp_path / "ledger.jsonl", 100.0)
    assert rent(ledger, "train", "train a server", PRICE, hours=0.01).release() == 0
    short = rent(ledger, "serve", "serve a server", PRICE, hours=0.025, min_seconds=60.0)
    short.launch(at=1000.0)
    assert short.release(1003.0) == 60.0
    assert ledger.spent_usd == 60.0 and ledger.spent_by("serve") == 60.0


def test_servers_that_run_longer_take_more_as_long_as_there_is_money(tmp_path):
    ledger = Ledger(tmp_path / "ledger.jsonl", 100.0)
    reserves.allot(ledger, "a plan", {"teacher": 20.0, "train": 30.0})
    lease = rent(ledger, "train", "train a server", PRICE, hours=30 / 3600)
    lease.launch(at=1000.0)
    lease.meter(1028.0, ahead_s=10)
    assert lease.set_aside_usd == pytest.approx(38.0)
    lease.meter(1060.0, ahead_s=10)
    assert lease.set_aside_usd == pytest.approx(70.0)
    with pytest.raises(BudgetError, match=r"of limits.budget_usd=100 the plan holds \$20\.00 for"):
        lease.meter(1075.0, ahead_s=10)
    assert lease.release(1078.0) == pytest.approx(78.0)
    assert ledger.left_usd() == pytest.approx(22.0)


RENTER = """
import sys, time
from pathlib import Path
from stratos.core.errors import BudgetError
from stratos.ledger import Ledger
from stratos.ledger.reserves import rent
path, role, budget = Path(sys.argv[1]), sys.argv[2], float(sys.argv[3])
ledger = Ledger(path, budget)
n = 0
while True:
    try:
        lease = rent(ledger, role, f"{role} a server", 3600.0, hours=0.25 / 3600)
    except BudgetError:
        break
    now = time.time()
    lease.launch(now)
    print(n, flush=True)
    time.sleep(0.01 if len(sys.argv) < 5 else 60)
    # By a clock of its own, so that what it costs does not depend on who else runs here.
    lease.meter(now + 0.05, ahead_s=0.0)
    lease.release(now + 0.06)
    n += 1
"""
ASKER = """
import sys, time
from pathlib import Path
from stratos.core.errors import BudgetError
from stratos.ledger import Ledger
ledger = Ledger(Path(sys.argv[1]), float(sys.argv[3]))
while True:
    try:
        with ledger.reserve("teacher x", 0.05) as call:
            time.sleep(0.002)
            call.settle(0.045)
    except BudgetError:
        break
"""


def start(script: str, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", script, *arguments], stdout=subprocess.PIPE, text=True
    )


@pytest.mark.slow
def test_processes_of_all_roles_share_one_budget_and_none_takes_what_is_held(tmp_path):
    path = tmp_path / "ledger.jsonl"
    budget = 8.0
    ledger = Ledger(path, budget)
    reserves.allot(ledger, "a plan", {"teacher": 2.0, "train": 2.0, "serve": 1.0})
    asking = start(ASKER, str(path), "teacher", str(budget))
    asking.wait(120)  # it takes its own, and all that is free
    told = Ledger(path, budget)
    assert 4.9 < told.spent_by("teacher") <= 5.0
    both = [start(RENTER, str(path), role, str(budget)) for role in ("train", "serve", "train")]
    both.append(start(ASKER, str(path), "teacher", str(budget)))
    most = 0.0
    while any(one.poll() is None for one in both):
        told = Ledger(path, budget)
        most = max(most, told.committed_usd)
        time.sleep(0.05)
    told = Ledger(path, budget)
    assert told.reserved_usd == 0 and leases(told) == []
    assert most <= budget + 1e-6 and told.spent_usd <= budget + 1e-6
    assert told.spent_by("teacher") <= 5.0 + 1e-6
    # Each found what was held for it, but for less than the last one's high end.
    assert told.spent_by("train") > 2.0 - 0.25
    assert told.spent_by("serve") > 1.0 - 0.25


@pytest.mark.kill
def test_servers_of_a_killed_process_go_on_costing_until_they_are_released(tmp_path):
    path = tmp_path / "ledger.jsonl"
    one = start(RENTER, str(path), "train", "100", "stay")
    assert one.stdout is not None and one.stdout.readline() == "0\n"
    time.sleep(1.0)
    os.kill(one.pid, signal.SIGKILL)
    one.wait()
    time.sleep(1.0)
    ledger = Ledger(path, 100.0, is_alone=True)
    (lease,) = leases(ledger)
    assert ledger.spent_usd == 0
    assert lease.line.process.is_dead() and lease.launched_at is not None
    # More than the high end that was set aside: the clock goes on.
    owed = lease.usd()
    assert owed > 1.5 and ledger.reserved_usd > 1.5
    assert ledger.left_usd() == pytest.approx(100.0 - ledger.reserved_usd)
    ended_at = lease.launched_at + 2.0  # as its cloud says
    assert lease.release(ended_at) == pytest.approx(2.0)
    again = Ledger(path, 100.0)
    assert (again.spent_usd, again.reserved_usd) == (pytest.approx(2.0), 0.0)


def test_a_refusal_of_servers_counts_what_they_have_cost_and_says_what_is_enough(tmp_path):
    ledger = Ledger(tmp_path / "ledger.jsonl", 100.0)
    reserves.allot(ledger, "a plan", {"serve": 20.0})
    lease = rent(ledger, "train", "train a server", PRICE, hours=60 / 3600)
    lease.launch(at=1000.0)
    with pytest.raises(BudgetError) as ended:
        lease.meter(1050.0, ahead_s=40)
    said = (
        "train a server may cost $30.0000, and $50.0000 of $80.00 is spent, $10.0000 more set "
        "aside (of limits.budget_usd=100 the plan holds $20.00 for serve): type "
        "limits.budget_usd={} or more, or train on fewer tokens with trainer.max_tokens=<tokens>."
    )
    assert str(ended.value) == said.format("110.00")
    ledger.budget_usd = 110.0
    ledger.check("train a server", 30.0, role="train")
    ledger.budget_usd = 100.0
    lease.release(1050.0)
    with pytest.raises(
        BudgetError, match=r"^train a server may cost \$40\.0000, and \$50\.0000 of "
    ):
        rent(ledger, "train", "train a server", PRICE, hours=40 / 3600)


def test_servers_that_cost_more_than_there_is_leave_nothing_to_spend(tmp_path):
    ledger = Ledger(tmp_path / "ledger.jsonl", 3.0)
    lease = rent(ledger, "train", "train a server", PRICE, hours=0.5 / 3600)
    lease.launch(at=time.time() - 30)
    again = Ledger(ledger.path, 3.0)
    assert again.left_usd() == 0
    with pytest.raises(BudgetError):
        again.take("teacher x", 0.01)
    (found,) = leases(again)
    assert found.release() == pytest.approx(30.0, abs=2)
    assert again.spent_usd == pytest.approx(30.0, abs=2)
