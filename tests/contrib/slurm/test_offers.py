"""Nodes of a SLURM cluster as offers; how SLURM itself tells them is tested on a real one."""

from __future__ import annotations

import subprocess
from dataclasses import fields

import msgspec
import pytest
import yaml

from stratos.catalog import load_catalog
from stratos.catalog.cluster import card_of
from stratos.config import CloudConfig
from stratos.contrib.slurm import nodes as slurm_nodes
from stratos.core.errors import CatalogError
from stratos.core.extensions import shipped_choices

TOLD = """\
gpu|up|idle|NO|2|16|131072|gpu:nvidia_h100_80gb_hbm3:2(S:0-1)|ib
cpu|up|mixed|EXCLUSIVE|3700|64|262144|(null)|(null)
old|up|idle|NO|4|8|8192|gpu:cray9:4|(null)
cpu|up|drained|NO|5|64|262144|(null)|(null)
"""


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch):
    def say(text: str, code: int = 0, error: str = "", **others: str) -> None:
        """Have sinfo say a text, and other commands what is given by their names."""
        said = {"sbatch": "Job 1 to start at 2026-01-01T00:00:00", "scontrol": "", **others}

        def run(*command: str, **_: float) -> subprocess.CompletedProcess[str]:
            if command[0] == "sinfo":
                return subprocess.CompletedProcess(command, code, text, error)
            return subprocess.CompletedProcess(command, 0, said.get(command[0], ""), "")

        monkeypatch.setattr(slurm_nodes, "run", run)

    return say


def cloud(**changes) -> CloudConfig:
    return CloudConfig(name="slurm", providers=("slurm",), **changes)


def test_nodes_are_offers_and_their_number_is_what_there_is(told, snapshot):
    told(TOLD)
    catalog = load_catalog(cloud(usd_per_gpu_hour=2.0, usd_per_cpu_hour=0.01))
    shown = [
        (one.region, one.instance_type, one.accelerator, one.usd_per_hour) for one in catalog.offers
    ]
    assert shown == [
        ("cpu", "64cpu-256gib", None, pytest.approx(0.64)),
        ("gpu", "1xnvidia_h100_80gb_hbm3-8cpu-64gib+ib", "H100", pytest.approx(2.08)),
        ("gpu", "2xnvidia_h100_80gb_hbm3-16cpu-128gib+ib", "H100", pytest.approx(4.16)),
    ]
    assert catalog.table.max_count.tolist() == [3700, 4, 2]
    assert catalog.warnings == snapshot
    assert {one.usd_per_hour for one in load_catalog(cloud()).offers} == {0.0}


def test_partitions_are_chosen_like_regions(told):
    told(TOLD)
    assert [one.region for one in load_catalog(cloud(regions=("cpu",))).offers] == ["cpu"]
    with pytest.raises(CatalogError, match=r"'gqu'.* Did you mean gpu\? Known are: cpu, gpu\."):
        load_catalog(cloud(regions=("gqu",)))


def test_a_cluster_that_does_not_answer_or_has_nothing(told, snapshot):
    told("", 1, "slurm_load_partitions: Unable to contact slurm controller (connect failure)\n")
    with pytest.raises(CatalogError) as refused:
        load_catalog(cloud())
    assert str(refused.value) == snapshot
    told(TOLD.splitlines()[3])
    with pytest.raises(CatalogError, match=r"nothing to plan with\. It has no node that is up"):
        load_catalog(cloud())
    told(TOLD.splitlines()[2])
    with pytest.raises(CatalogError, match=r"nothing to plan with\. No specification of the GPUs"):
        load_catalog(cloud())


@pytest.mark.parametrize(
    ("name", "card"),
    [("h100", "H100"), ("a100", "A100"), ("nvidia_a100-sxm4-80gb", "A100-80GB"),
     ("tesla_t4", "T4"), ("nvidia_geforce_rtx_4090", "RTX4090"), ("NVIDIA_L40S", "L40S"),
     ("A100-80G", "A100-80GB"), ("AMD-Instinct-MI300X-OAM", "MI300X"),
     ("nvidia_a100_1g.5gb", None), ("cray9", None), ("", None)],
)  # fmt: skip
def test_gpus_by_the_names_of_clusters_and_of_drivers(name, card):
    found = card_of(name)
    assert (None if found is None else found.name) == card


def test_it_is_the_cluster_alone_that_is_asked(told):
    told(TOLD)
    both = load_catalog(CloudConfig(providers=("slurm", "local")))
    assert {one.cloud for one in both.offers} == {"slurm", "local"}


def test_the_shipped_cloud_says_every_field_and_has_offers(told):
    told("main|up|idle|NO|1|4|8192|(null)|(null)\n")
    plain = yaml.safe_load(shipped_choices("cloud")["slurm"].read_text())
    assert set(plain) == {field.name for field in fields(CloudConfig)}
    assert plain.pop("quotas") is None, "null leaves the default: none"
    shipped = msgspec.convert(plain, CloudConfig)
    assert shipped.name == "slurm" and load_catalog(shipped).offers
