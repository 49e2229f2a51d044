"""Nodes of a Ray cluster as offers; how a dashboard tells them is tested on a real one."""

from __future__ import annotations

from dataclasses import fields

import msgspec
import pytest
import yaml

from stratos.catalog import load_catalog
from stratos.config import CloudConfig
from stratos.contrib.ray.nodes import Node, free_now, shares
from stratos.core.errors import CatalogError, StratosError
from stratos.core.extensions import shipped_choices

GPUS = {"CPU": 16.0, "GPU": 2.0, "memory": 64.0 * 2**30, "accelerator_type:A100-80G": 1.0}
ODD = {"CPU": 4.0, "GPU": 1.0, "memory": 2.0**30, "accelerator_type:TPU-V4": 1.0}
CPUS = {"CPU": 2.0, "memory": 4.0 * 2**30}


def cloud(**changes) -> CloudConfig:
    return CloudConfig(name="ray", providers=("ray",), ray_address="http://head:8265", **changes)


@pytest.fixture
def has(monkeypatch: pytest.MonkeyPatch):
    def nodes(*resources: dict[str, float]) -> None:
        made = shares([Node(str(i), "10.0.0.1", one) for i, one in enumerate(resources)])
        answers = {"http://head:8265": made, None: made}
        monkeypatch.setattr("stratos.contrib.ray.nodes.shares_of_cluster", answers.__getitem__)
        used = {"CPU": (0.0, 100.0), "GPU": (0.0, 100.0)}
        monkeypatch.setattr(
            "stratos.contrib.ray.nodes.expected_waits", lambda _, of: free_now(used, of)
        )

    return nodes


def test_nodes_are_offers_and_their_number_is_what_there_is(has, snapshot):
    has(GPUS, GPUS, ODD, CPUS)
    catalog = load_catalog(cloud(usd_per_gpu_hour=2.0, usd_per_cpu_hour=0.01))
    assert [
        (one.region, one.instance_type, one.accelerator, one.usd_per_hour) for one in catalog.offers
    ] == [
        ("cluster", "1cpu-2gib", None, pytest.approx(0.01)),
        ("cluster", "1xA100-80G-8cpu-32gib", "A100-80GB", pytest.approx(2.08)),
        ("cluster", "2cpu-4gib", None, pytest.approx(0.02)),
        ("cluster", "2xA100-80G-16cpu-64gib", "A100-80GB", pytest.approx(4.16)),
    ]
    assert catalog.table.max_count.tolist() == [2, 4, 1, 2]
    assert catalog.warnings == snapshot


def test_a_cluster_that_does_not_answer_or_has_nothing(has, monkeypatch, snapshot):
    has({"memory": 1.0})
    with pytest.raises(CatalogError, match=r"to plan with\. It has no node with a CPU: see ray st"):
        load_catalog(cloud())

    def silent(address: str) -> None:
        raise StratosError(f"no Ray dashboard answers at {address}.")

    monkeypatch.setattr("stratos.contrib.ray.nodes.shares_of_cluster", silent)
    with pytest.raises(CatalogError) as refused:
        load_catalog(cloud())
    assert str(refused.value) == snapshot


@pytest.mark.parametrize(
    ("sizes", "card"),
    [((79.6,), "A100-80GB"), ((39.4,), "A100"), ((79.6, 39.4), "A100"), ((79.6, None), "A100"),
     ((None,), "A100")],
)  # fmt: skip
def test_an_a100_has_the_memory_that_ray_tells(monkeypatch, sizes, card):
    """A job that asks for a type may get any node of it: the smallest counts."""
    a100 = {"CPU": 16.0, "GPU": 1.0, "memory": 64.0 * 2**30, "accelerator_type:A100": 1.0}
    made = shares([Node(str(i), "10.0.0.1", a100, gib) for i, gib in enumerate(sizes)])
    monkeypatch.setattr("stratos.contrib.ray.nodes.shares_of_cluster", lambda _: made)
    monkeypatch.setattr("stratos.contrib.ray.nodes.expected_waits", lambda _, of: free_now({}, of))
    catalog = load_catalog(cloud())
    assert [one.accelerator for one in catalog.offers] == [card]
    said = [one for one in catalog.warnings if "of which there are several sizes" in one]
    assert said == ([] if None not in sizes else [
        "Ray calls GPUs A100, of which there are several sizes: they are planned with 40 GB. Where "
        "they have 80 GB, have the type in Ray's accelerator_type named A100-80GB."
    ])  # fmt: skip


def test_what_is_free_now_is_not_waited_for_and_of_the_rest_nothing_is_known():
    made = shares([Node("1", "10.0.0.1", GPUS)])
    assert free_now({"CPU": (8.0, 16.0), "GPU": (1.0, 2.0)}, made) == (
        {("cluster", "1xA100-80G-8cpu-32gib"): 0.0}, "8 of 16 CPU and 1 of 2 GPU are in use now"
    )  # fmt: skip
    assert free_now({}, made) == ({}, "Ray does not tell what is in use")


def test_the_shipped_cloud_says_every_field_and_has_offers(has):
    has(CPUS)
    plain = yaml.safe_load(shipped_choices("cloud")["ray"].read_text())
    assert set(plain) == {field.name for field in fields(CloudConfig)}
    assert plain.pop("quotas") is None, "null leaves the default: none"
    shipped = msgspec.convert(plain, CloudConfig)
    assert shipped.name == "ray" and load_catalog(shipped).offers
