"""Bytes that leave a cloud: dollars by the GB, also where the process dies that counts them."""

from __future__ import annotations

from pathlib import Path

import pytest

from stratos.core.errors import BudgetError
from stratos.ledger import Ledger, reserves
from stratos.ledger.reserves import expect, leases, leaves

GB = 10**9


def test_from_the_launch_to_the_end(tmp_path: Path) -> None:
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


def test_a_process_that_dies_leaves_it_set_aside_for_the_next(tmp_path: Path) -> None:
    expect(Ledger(tmp_path / "ledger.jsonl", 1.0), "egress of a job", 0.09, 4.0, counter=0)
    again = Ledger(tmp_path / "ledger.jsonl", 1.0, is_alone=True)
    assert again.reserved_usd == pytest.approx(0.36) and again.spent_usd == 0
    assert leases(again) == [], "no server costs by the second"
    [leave] = leaves(again)
    assert leave.settle(GB) == pytest.approx(0.09)
    assert leaves(again) == []


def test_the_budget_holds(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.jsonl", 1.0)
    reserves.allot(ledger, "a plan", {"train": 0.5, "egress": 0.2})
    with pytest.raises(BudgetError, match=r"^egress of a job may cost \$0\.5400"):
        expect(ledger, "egress of a job", 0.09, 6.0, counter=0)
    leave = expect(ledger, "egress of a job", 0.09, 5.0, counter=0)
    with pytest.raises(BudgetError, match=r"the plan holds \$0\.50 for train"):
        leave.meter(5 * GB, ahead_gb=1.0)
    assert leave.settle(5 * GB) == pytest.approx(0.45)
    assert ledger.totals.reserves["egress"].spent_usd == pytest.approx(0.45)
