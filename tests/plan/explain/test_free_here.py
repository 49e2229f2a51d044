"""Servers that count as $0 an hour are said to, with the key that gives them a price."""

from __future__ import annotations

from dataclasses import replace

import pytest
from stub_executors import with_queue
from syrupy.assertion import SnapshotAssertion

from stratos.catalog import load_catalog
from stratos.config import CloudConfig
from stratos.core.machine import n_cores
from stratos.plan.words import FreeServers, free_servers
from stratos.records import RoleChoice

LOCAL = CloudConfig(name="local", providers=("local",))


def role(cloud: CloudConfig, name: str = "serve") -> RoleChoice:
    return RoleChoice(name, load_catalog(cloud).offer(0), 1, False, 24.0, 0.0)


def test_this_machine_is_free_until_its_cores_have_a_price() -> None:
    assert free_servers([role(LOCAL), role(LOCAL, "train")]) == FreeServers(("local",))
    priced = role(replace(LOCAL, usd_per_cpu_hour=0.05))
    assert priced.offer is not None and priced.offer.usd_per_hour == 0.05 * n_cores()
    assert free_servers([priced]) is None


def test_nodes_of_a_cluster_are_named_too(
    monkeypatch: pytest.MonkeyPatch, snapshot: SnapshotAssertion
) -> None:
    with_queue(monkeypatch)
    local = role(LOCAL)
    assert local.offer is not None
    node = replace(local, offer=replace(local.offer, cloud="queue"))
    assert free_servers([local, node]) == FreeServers(("local", "queue"))
    rented = replace(local, offer=replace(local.offer, cloud="aws"))
    assert free_servers([rented]) is None
