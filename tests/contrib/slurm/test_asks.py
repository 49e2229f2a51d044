"""What no node of SLURM can take is refused when the command starts, on a real SLURM."""

from __future__ import annotations

import pytest
from one_cluster import Cluster
from one_run import Command

from stratos.contrib.slurm.executor import Slurm
from stratos.contrib.slurm.words import NoNodeTakes


def test_a_job_that_no_node_can_take_is_refused_before_anything_is_asked(
    on_slurm: Command, slurm: Cluster
) -> None:
    before = on_slurm.ledger()
    on = ("executor=slurm", "executor.partition=main", "executor.gpus=8")
    assert on_slurm.start(*on).wait(120) == 2, on_slurm.said
    said = " ".join(on_slurm.said.split())
    assert (
        "executor.gpus=8: no node of SLURM can take such a job (allocation failure: Requested node "
        "configuration is not available)"
    ) in said
    assert "change executor.gpus, or executor.partition" in said
    assert on_slurm.ledger() == before and slurm.jobs() == []


def test_nodes_have_what_is_asked_for_or_not(
    slurm: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("SLURM_CONF", "PATH"):
        monkeypatch.setenv(name, slurm.env[name])
    held = (Slurm(), Slurm(gpus=2), Slurm(gres="gpu:h100:2", cpus=4), Slurm(memory_gib=7.5))
    for one in held:
        assert one.no_node_takes() is None
    for one in (
        Slurm(gpus=3),
        Slurm(gres="gpu:h100:3"),
        Slurm(gres="gpu:a100:1"),
        Slurm(gres="fpga:1"),
        Slurm(cpus=64, partition="urgent"),
        Slurm(memory_gib=900.0),
    ):
        assert isinstance(one.no_node_takes(), NoNodeTakes)
    with slurm.drained():  # it waits until they are back
        assert held[1].no_node_takes() is None
    assert Slurm(gpus=0).no_node_takes() is None
