"""Nodes of a Ray cluster as offers; how a dashboard tells them is tested on a real one."""

from __future__ import annotations

import pytest

from stratos.catalog import load_catalog
from stratos.config import CloudConfig
from stratos.core.errors import CatalogError, StratosError
from stratos.core.ray_nodes import Node, shares

GPUS = {"CPU": 16.0, "GPU": 2.0, "memory": 64.0 * 2**30, "accelerator_type:A100-80G": 1.0}
ODD = {"CPU": 4.0, "GPU": 1.0, "memory": 2.0**30, "accelerator_type:TPU-V4": 1.0}
CPUS = {"CPU": 2.0, "memory": 4.0 * 2**30}


def cloud(**changes) -> CloudConfig:
    return CloudConfig(name="ray", providers=("ray",), ray_address="http://head:8265", **changes)


@pytest.fixture
def has(monkeypatch: pytest.MonkeyPatch):
    def nodes(*resources: dict[str, float]) -> None:
        made = shares([Node(str(i), "10.0.0.1", one) for i, one in enumerate(resources)])
        answers = {"http://head:8265": made}
        monkeypatch.setattr("stratos.catalog.ray.shares_of_cluster", answers.__getitem__)

    return nodes


def test_nodes_are_offers_and_their_number_is_what_there_is(has) -> None:
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
    assert catalog.warnings == (
        "Nodes of Ray are left out. No specification of the GPUs of these nodes: TPU-V4. Have the "
        "types in Ray's accelerator_type named like the GPUs of cloud.gpu_file=<path>, which holds "
        "those of your own.",
    )


def test_a_cluster_that_does_not_answer_or_has_nothing(has, monkeypatch) -> None:
    has({"memory": 1.0})
    with pytest.raises(CatalogError, match=r"to plan with\. It has no node with a CPU: see ray st"):
        load_catalog(cloud())

    def silent(address: str) -> None:
        raise StratosError(f"no Ray dashboard answers at {address}.")

    monkeypatch.setattr("stratos.catalog.ray.shares_of_cluster", silent)
    with pytest.raises(CatalogError) as refused:
        load_catalog(cloud())
    assert str(refused.value) == (
        "cloud=ray: no Ray dashboard answers at http://head:8265. Or take another catalog, such as "
        "cloud=local."
    )
