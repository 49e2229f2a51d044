"""Partitions that waits decided between, and whose jobs make room, in the plan's reasons."""

from __future__ import annotations

from world import World

from stratos.catalog.offers import Catalog
from stratos.catalog.table import Table
from stratos.plan.options.candidates import build_problem
from stratos.plan.stage import solve
from stratos.records import Offer

KIND = "1xh100-8cpu-64gib"


def reasons(waits: dict[str, float], preempts: dict[tuple[str, str], dict[str, str]]) -> list[str]:
    offers = [
        Offer("queue", name, KIND, "H100", 1, 8, 64, 80, 1.5, price_date="2026-11-01")
        for name in waits
    ]
    wait_hours = {("queue", name, KIND): hours for name, hours in waits.items()}
    catalog = Catalog(Table.of(offers), {}, (), {}, wait_hours, preempts)
    world = World()
    plan = solve(build_problem(world.config(), world.probe(), catalog))
    return [one for one in plan.reasons if "waits by partition" in one]


def test_waits_that_decided_are_named_and_whose_jobs_make_room(snapshot):
    waits = {"main": 2.0, "urgent": 0.0}
    (said,) = reasons(waits, {("queue", "urgent"): {"main": "REQUEUE"}})
    assert said == snapshot
    (said,) = reasons(waits, {})
    assert "urgent about 0 h and main about 2 h" in said and "preempt" not in said


def test_nothing_is_said_where_no_wait_decided_and_nobody_makes_room():
    assert reasons({"main": 0.0, "other": 0.0}, {}) == []
    assert reasons({"main": 2.0}, {("queue", "main"): {"low": "CANCEL"}}) == []
