"""One budget for every role: what the planned servers need cannot be spent on answers."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from in_process import stratos

from stratos.core.errors import BudgetError
from stratos.ledger import Ledger, reserves
from stratos.ledger.reserves import rent
from stratos.records import Interval, Plan, RoleChoice
from stratos.report.costs import read_ledger, read_reserves

HELD = {"teacher": 3.0, "train": 1.0, "serve": 2.0}


def plan(**usd: tuple[float, float]) -> Plan:
    """Return a plan of roles that cost so much, up to so much."""
    unknown = Interval(0.0, 0.0, 1.0, "unknown")
    roles = tuple(
        RoleChoice(role, None, 1, False, 1.0, mean, usd_range=(mean / 2, high))
        for role, (mean, high) in usd.items()
    )
    return Plan(
        status="optimal", solver="none", teacher="t", student="s", strategy="alignment",
        roles=roles, accuracy=unknown, usd=0.0, hours=0.0, latency_ms=0.0,
        objective="balanced", frontier=(), n_frontier=0, alternatives={}, reasons=(), left_out={},
        warnings=(), n_offers=0, price_dates=("", ""), seconds=0.0, net_usd=0.0, egress_usd=0.5,
    )  # fmt: skip


def test_the_high_end_of_each_role_is_held():
    one = plan(teacher=(2.0, 3.0), train=(0.5, 1.0), serve=(2.0, 2.0))
    whole = {"teacher": 3.0, "train": 1.0, "serve": 2.0, "egress": 0.5}
    assert reserves.planned_usd(one) == reserves.planned_usd(one, 6.5) == whole
    # Serving may mix servers; what costs nothing is not held.
    mixed = replace(one, roles=(*one.roles[1:], one.roles[2]), egress_usd=0.0)
    assert reserves.planned_usd(mixed) == {"train": 1.0, "serve": 4.0}


def test_where_the_high_ends_pass_the_budget_all_give_way_alike():
    one = plan(teacher=(2.0, 3.0), train=(0.5, 1.0), serve=(2.0, 2.0))  # 5.0 to 6.5
    held = reserves.planned_usd(one, 5.75)
    assert held == {"teacher": 2.5, "train": 0.75, "serve": 2.0, "egress": 0.5}
    assert sum(reserves.planned_usd(one, 5.0).values()) == pytest.approx(5.0)
    assert reserves.planned_usd(one, 2.5) == pytest.approx(
        {"teacher": 1.0, "train": 0.25, "serve": 1.0, "egress": 0.25}
    )


def test_a_job_has_its_high_end_and_serving_gives_way():
    """Nothing is served before the job is done; what it leaves is free again then."""
    one = plan(teacher=(2.0, 3.0), train=(0.5, 1.0), serve=(2.0, 2.0))  # 5.0 to 6.5
    held = reserves.planned_usd(one, 5.0, jobs=["train"])
    assert held == {"teacher": 2.0, "train": 1.0, "serve": 1.5, "egress": 0.5}
    assert reserves.planned_usd(one, 6.5, jobs=["train"]) == reserves.planned_usd(one, 6.5)
    assert reserves.missing_usd(one, held, ["train"]) == 0
    dear = plan(teacher=(2.0, 3.0), train=(0.5, 4.0), serve=(2.0, 2.0))
    held = reserves.planned_usd(dear, 5.0, jobs=["train"])
    assert held == {"teacher": 2.0, "train": 2.5, "egress": 0.5}
    assert reserves.missing_usd(dear, held, ["train"]) == 1.5
    assert reserves.missing_usd(dear, held, []) == 0


def test_what_is_done_is_held_no_money_for():
    one = plan(teacher=(2.0, 3.0), train=(0.5, 1.0), serve=(2.0, 2.0))
    assert reserves.planned_usd(one, 6.5, done=["train"]) == {
        "teacher": 3.0, "serve": 2.0, "egress": 0.5
    }  # fmt: skip
    assert reserves.missing_usd(one, {}, ["train"], done=["train"]) == 0


def test_a_job_waits_for_the_dearest_end_and_for_the_last_call():
    """The high end is the expected dollars where these are more, or where there is no range."""
    one = plan(teacher=(2.0, 1.5), train=(0.5, 1.0), serve=(2.0, 9.0))
    teacher, *rest = one.roles
    one = replace(one, roles=(replace(teacher, last_call_usd=0.25), *rest))
    assert reserves.missing_usd(one, {"teacher": 1.0}, ["teacher"]) == pytest.approx(1.25)
    assert reserves.planned_usd(one)["teacher"] == 2.25
    # Serving is paid after all jobs; egress and what is sent back are paid before.
    assert reserves.enough_usd(one, 0.125) == pytest.approx(2.25 + 1.0 + 0.5 + 0.125)
    assert reserves.enough_usd(one, done=["teacher"]) == pytest.approx(1.0 + 0.5)
    bare = replace(one, roles=(replace(rest[0], usd_range=None),))
    assert reserves.missing_usd(bare, {}, ["train"]) == 0.5


def test_jobs_that_try_the_student_are_held_for_before_the_training_is_paid():
    one = plan(train=(0.5, 1.0), serve=(0.01, 0.01))
    held = reserves.planned_usd(one, 6.5, jobs=["train"], trials_usd=0.5)
    assert held == {"train": 1.0, "serve": 0.5, "egress": 0.5}
    assert reserves.missing_usd(one, held, ["train"], trials_usd=0.5) == 0
    held = reserves.planned_usd(one, 1.6, jobs=["train"], trials_usd=0.5)
    assert held["train"] == 1.0 and sum(held.values()) == pytest.approx(1.6)
    assert reserves.missing_usd(one, held, ["train"], trials_usd=0.5) == pytest.approx(0.4)
    assert reserves.planned_usd(one, None, trials_usd=0.5)["serve"] == 0.5


def test_a_role_spends_its_own_reserve_and_what_is_free(tmp_path, snapshot):
    ledger = Ledger(tmp_path / "ledger.jsonl", 10.0, stage="synthesize")
    reserves.allot(ledger, "a plan", HELD)
    assert ledger.left_usd() == 10.0 - 3.0
    assert ledger.left_usd(role="train") == 10.0 - 5.0
    assert reserves.describe(ledger) == snapshot(name="reserved")
    with ledger.reserve("teacher x", 6.9) as call:
        call.settle(6.9)
    with pytest.raises(BudgetError) as caught:
        ledger.take("teacher x", 0.2)
    assert str(caught.value) == snapshot(name="refused")
    assert ledger.cap_usd() == 7.0
    # Another process, and a later one, knows it from the file.
    assert Ledger(ledger.path, 10.0).left_usd() == pytest.approx(0.1)


def test_without_a_budget_reserves_are_shown_and_hold_nothing(tmp_path):
    ledger = Ledger(tmp_path / "ledger.jsonl")
    reserves.allot(ledger, "a plan", HELD)
    assert ledger.left_usd() is None
    assert "so nothing is held to it" in reserves.describe(ledger)
    ledger.take("teacher x", 99.0)


def test_what_is_left_of_a_role_that_is_done_is_free(tmp_path):
    ledger = Ledger(tmp_path / "ledger.jsonl", 6.0)
    reserves.allot(ledger, "a plan", HELD)
    with ledger.reserve("teacher x", 1.0) as call:
        call.settle(1.0)
    assert ledger.left_usd(role="train") == pytest.approx(6.0 - 1.0 - 2.0 - 2.0)
    reserves.release(ledger, "teacher")
    reserves.release(ledger, "teacher")
    assert ledger.left_usd(role="train") == pytest.approx(6.0 - 1.0 - 2.0)
    assert ledger.totals.reserves["teacher"].released_usd == 2.0
    shown = read_reserves(ledger.path)
    assert (shown["teacher"].usd, shown["teacher"].spent_usd) == (3.0, 1.0)
    assert (shown["teacher"].released_usd, shown["serve"].released_usd) == (2.0, None)


def test_another_plan_takes_the_place_of_the_reserves(tmp_path):
    path = tmp_path / "ledger.jsonl"
    ledger = Ledger(path, 10.0)
    reserves.allot(ledger, "one", HELD)
    with ledger.reserve("teacher x", 2.0) as call:
        call.settle(2.0)
    n_lines = len(path.read_text().splitlines())
    reserves.allot(ledger, "one", HELD)  # the same command again
    assert len(path.read_text().splitlines()) == n_lines
    # The same plan under another budget: what was spent of it stays spent.
    richer = Ledger(path, 20.0)
    reserves.allot(richer, "one", HELD)
    assert richer.totals.reserves["teacher"].spent_usd == 2.0
    assert richer.left_usd() == 20.0 - 2.0 - 3.0
    # Planned anew: only what is still to be done is held.
    reserves.allot(richer, "two", {"teacher": 1.5, "serve": 4.0})
    assert richer.totals.reserves["teacher"].spent_usd == 0.0
    assert richer.left_usd() == 20.0 - 2.0 - 4.0
    assert richer.left_usd(role="serve") == 20.0 - 2.0 - 1.5
    reserves.allot(richer, "", {})  # it is being planned
    assert richer.left_usd() == 18.0


def test_what_was_spent_of_a_plan_stays_spent_where_it_is_taken_up_again(tmp_path):
    ledger = Ledger(tmp_path / "ledger.jsonl", 10.0, stage="distill")
    reserves.allot(ledger, "a plan", HELD)
    lease = rent(ledger, "train", "train a server", 3600.0, 1 / 3600, server="slurm/main a server")
    lease.launch(at=1000.0)
    lease.release(at=1000.75)
    (spend,) = read_ledger(ledger.path)
    assert (spend.seconds, spend.server) == (0.75, "slurm/main a server")
    reserves.allot(ledger, "", {})  # the next command begins with a stage before the plan
    reserves.allot(ledger, "a plan", HELD)
    assert ledger.totals.reserves["train"].spent_usd == pytest.approx(0.75)
    assert ledger.left_usd() == pytest.approx(10.0 - 0.75 - 0.25 - 2.0)
    assert read_reserves(ledger.path)["train"].spent_usd == pytest.approx(0.75)


def test_a_role_that_another_executor_brings_is_held_beside_the_others(tmp_path):
    ledger = Ledger(tmp_path / "ledger.jsonl", 10.0, stage="plan")
    reserves.allot(ledger, "a plan", HELD)
    reserves.release(ledger, "teacher")
    reserves.allot(ledger, "a plan", {"train": 0.5, "egress": 0.25})
    assert {role: one.usd for role, one in ledger.totals.reserves.items()} == {
        **HELD, "egress": 0.25
    }  # fmt: skip
    assert ledger.held_usd("serve") == {"train": 1.0, "egress": 0.25}, "the teacher is done"
    n_lines = ledger.totals.n_lines
    reserves.allot(ledger, "a plan", HELD)
    assert ledger.totals.n_lines == n_lines, "what is held stays so"


def test_more_egress_of_another_executor_is_held_too(tmp_path):
    ledger = Ledger(tmp_path / "ledger.jsonl", 20.0, stage="plan")
    reserves.allot(ledger, "a plan", {"train": 5.0, "egress": 0.5})
    reserves.allot(ledger, "a plan", {"train": 6.0, "egress": 10.5})
    assert ledger.held_usd("teacher") == {"train": 5.0, "egress": 10.5}
    n_lines = ledger.totals.n_lines
    reserves.allot(ledger, "a plan", {"train": 5.0, "egress": 0.5})
    assert ledger.totals.n_lines == n_lines, "the larger one stays"


def test_the_cap_of_a_role_does_not_move_with_what_others_spend_of_theirs(tmp_path):
    """Else a stage that the money cut short would go on, and pay for nothing."""
    from stratos.ledger.reserves import rent

    ledger = Ledger(tmp_path / "ledger.jsonl", 10.0)
    reserves.allot(ledger, "a plan", HELD)
    before = ledger.cap_usd()
    lease = rent(ledger, "train", "train a server", usd_per_hour=3600.0, hours=0.5 / 3600)
    assert ledger.cap_usd() == before
    lease.launch(at=1000.0)
    lease.release(at=1000.5)
    assert ledger.spent_by("train") == 0.5
    assert ledger.cap_usd() == before


def test_reserves_are_shown_by_the_command(tmp_path, snapshot):
    ledger = Ledger(tmp_path / "ledger.jsonl", 10.0, stage="synthesize")
    reserves.allot(ledger, "a plan", HELD)
    with ledger.reserve("teacher x", 2.0) as call:
        call.settle(2.0)
    reserves.release(ledger, "teacher")
    done = stratos("ledger", str(tmp_path))
    assert done.stdout.replace(str(ledger.path), "ledger.jsonl") == snapshot
    assert [json.loads(line)["kind"] for line in ledger.path.read_text().splitlines()] == [
        "allotted", "reserved", "settled", "released"
    ]  # fmt: skip
