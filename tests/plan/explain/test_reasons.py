"""What the reasons of a plan say of free servers, and of partitions that are waited for."""

from __future__ import annotations

from dataclasses import replace

from stub_executors import with_queue
from world import World

from stratos.catalog import load_catalog
from stratos.catalog.offers import Catalog
from stratos.catalog.table import Table
from stratos.config import CloudConfig
from stratos.core.machine import n_cores
from stratos.plan.options.candidates import build_problem
from stratos.plan.stage import solve
from stratos.plan.words import FreeServers, free_servers
from stratos.records import Offer, RoleChoice

LOCAL = CloudConfig(name="local", providers=("local",))


def role(cloud: CloudConfig, name: str = "serve") -> RoleChoice:
    return RoleChoice(name, load_catalog(cloud).offer(0), 1, False, 24.0, 0.0)


def test_this_machine_is_free_until_its_cores_have_a_price():
    assert free_servers([role(LOCAL), role(LOCAL, "train")]) == FreeServers(("local",))
    priced = role(replace(LOCAL, usd_per_cpu_hour=0.05))
    assert priced.offer is not None and priced.offer.usd_per_hour == 0.05 * n_cores()
    assert free_servers([priced]) is None


def test_nodes_of_a_cluster_are_named_too(monkeypatch, snapshot):
    with_queue(monkeypatch)
    local = role(LOCAL)
    assert local.offer is not None
    node = replace(local, offer=replace(local.offer, cloud="queue"))
    assert free_servers([local, node]) == FreeServers(("local", "queue"))
    rented = replace(local, offer=replace(local.offer, cloud="aws"))
    assert free_servers([rented]) is None


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
