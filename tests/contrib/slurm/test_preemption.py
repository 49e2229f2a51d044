"""Whose jobs preempt whose, as scontrol tells it."""

from __future__ import annotations

import subprocess

import pytest

from stratos.contrib.slurm import nodes as slurm_nodes
from stratos.contrib.slurm.limits import preempted_by

PARTITIONS = "".join(
    f"PartitionName={name} AllowGroups=ALL Default=NO GraceTime=5 PriorityJobFactor=1 "
    f"PriorityTier={tier} OverSubscribe=NO PreemptMode={mode} State=UP\n"
    for name, tier, mode in (
        ("main", 1, "REQUEUE"), ("urgent", 10, "OFF"), ("kept", 1, "OFF"), ("top", 11, "OFF"),
    )
)  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "asked", "found"),
    [
        ("partition_prio", ["main", "urgent", "kept"], {"urgent": {"main": "REQUEUE"}}),
        ("partition_prio", ["urgent", "top"], {}),
        ("partition_prio", ["urgent"], {}),
        ("qos", ["main", "urgent"], {}),
        ("none", ["main", "urgent"], {}),
    ],
)
def test_higher_tiers_preempt_partitions_that_let_them(
    monkeypatch: pytest.MonkeyPatch, kind: str, asked: list[str], found: dict[str, dict[str, str]]
) -> None:
    config = f"PreemptMode             = REQUEUE\nPreemptType             = preempt/{kind}\n"

    def run(*command: str, **_: float) -> subprocess.CompletedProcess[str]:
        text = config if command[2] == "config" else PARTITIONS
        return subprocess.CompletedProcess(command, 0, text, "")

    monkeypatch.setattr(slurm_nodes, "run", run)
    assert preempted_by(asked) == found
