"""What a container gives its processes, which see the whole machine."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from stratos.catalog.offers import local_offer
from stratos.core import machine


def groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own: str, **files: str) -> None:
    (tmp_path / "self").write_text(own)
    for name, text in files.items():
        path = tmp_path / "cgroup" / name.replace("__", "/").replace("_dot_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    monkeypatch.setattr(machine, "CGROUPS", tmp_path / "cgroup")
    monkeypatch.setattr(machine, "GROUPS_OF_SELF", tmp_path / "self")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)))


def test_the_tightest_group_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    groups(
        tmp_path, monkeypatch, "0::/pod/box\n",
        pod__cpu_dot_max="250000 100000\n", pod__box__cpu_dot_max="max 100000\n",
        pod__memory_dot_max="max\n", pod__box__memory_dot_max=f"{3 * 2**30}\n",
    )  # fmt: skip
    assert machine.cpu_quota() == 2.5
    assert (machine.n_cores(), machine.memory_bytes()) == (3, 3 * 2**30)
    offer = local_offer()
    assert (offer.vcpus, offer.memory_gib) == (3.0, 3.0)


def test_version_1_and_a_path_of_the_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    groups(
        tmp_path, monkeypatch, "4:memory:/docker/abc\n3:cpu,cpuacct:/docker/abc\n0::/\n",
        cpu__cpu_dot_cfs_quota_us="150000\n", cpu__cpu_dot_cfs_period_us="100000\n",
        memory__memory_dot_limit_in_bytes=f"{2**31}\n",
    )  # fmt: skip
    assert (machine.n_cores(), machine.memory_bytes()) == (2, 2**31)


@pytest.mark.parametrize("own", ["", "0::/\n", "rubbish\n"])
def test_without_a_limit_it_is_the_machine(
    own: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    groups(tmp_path, monkeypatch, own, cpu_dot_max="max 100000\n")
    assert machine.cpu_quota() is None and machine.n_cores() == 64
    assert machine.memory_bytes() > 2**28


def test_the_system_says_of_the_processor_what_torch_says() -> None:
    import torch

    has_bf16 = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    assert machine.multiplies_bf16() == has_bf16
