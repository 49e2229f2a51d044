"""What a container gives its processes, and a clock of own work on a busy machine."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from stratos.catalog.offers import local_offer
from stratos.core import machine
from stratos.core.machine import Usage, WorkClock, group_memory, others_between, usage


def groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own: str, **files: str) -> None:
    (tmp_path / "self").write_text(own)
    for name, text in files.items():
        path = tmp_path / "cgroup" / name.replace("__", "/").replace("_dot_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    monkeypatch.setattr(machine, "CGROUPS", tmp_path / "cgroup")
    monkeypatch.setattr(machine, "GROUPS_OF_SELF", tmp_path / "self")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)))


def test_the_tightest_group_counts(tmp_path, monkeypatch):
    groups(
        tmp_path, monkeypatch, "0::/pod/box\n",
        pod__cpu_dot_max="250000 100000\n", pod__box__cpu_dot_max="max 100000\n",
        pod__memory_dot_max="max\n", pod__box__memory_dot_max=f"{3 * 2**30}\n",
    )  # fmt: skip
    assert machine.cpu_quota() == 2.5
    assert (machine.n_cores(), machine.memory_bytes()) == (3, 3 * 2**30)
    offer = local_offer()
    assert (offer.vcpus, offer.memory_gib) == (3.0, 3.0)


def test_version_1_and_a_path_of_the_host(tmp_path, monkeypatch):
    groups(
        tmp_path, monkeypatch, "4:memory:/docker/abc\n3:cpu,cpuacct:/docker/abc\n0::/\n",
        cpu__cpu_dot_cfs_quota_us="150000\n", cpu__cpu_dot_cfs_period_us="100000\n",
        memory__memory_dot_limit_in_bytes=f"{2**31}\n",
    )  # fmt: skip
    assert (machine.n_cores(), machine.memory_bytes()) == (2, 2**31)


@pytest.mark.parametrize("own", ["", "0::/\n", "rubbish\n"])
def test_without_a_limit_it_is_the_machine(own, tmp_path, monkeypatch):
    groups(tmp_path, monkeypatch, own, cpu_dot_max="max 100000\n")
    assert machine.cpu_quota() is None and machine.n_cores() == 64
    assert machine.memory_bytes() > 2**28


def test_the_system_says_of_the_processor_what_torch_says():
    import torch

    has_bf16 = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    assert machine.multiplies_bf16() == has_bf16


@pytest.mark.parametrize(
    ("idle_s", "own_s", "seconds"),
    [(0.0, 10.0, 5.0), (10.0, 10.0, 10.0), (0.0, 1.0, 2.0), (0.0, 19.5, 10.0)],
    ids=["half of the cores", "an idle core", "never less than a fifth", "alone"],
)
def test_seconds_of_other_work_do_not_count(idle_s, own_s, seconds, monkeypatch):
    """Ten seconds on two cores."""
    now = [0.0]
    usages = iter([Usage(0.0, 0.0, 0.0, 0.0), Usage(10.0, idle_s, 20.0 - idle_s, own_s)])
    monkeypatch.setattr(machine.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(WorkClock, "_usage", lambda *_: next(usages))
    clock = WorkClock()
    now[0] = 0.5
    assert clock() == 0.5, "too short to measure"
    now[0] = 10.0
    assert clock() == pytest.approx(seconds)


def test_where_nothing_is_told_it_is_the_wall_clock(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(machine.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(WorkClock, "_usage", lambda *_: None)
    clock = WorkClock()
    now[0] = 7.0
    assert clock() == 7.0


def test_others_are_what_is_busy_and_not_measured():
    before = Usage(at=0.0, idle_s=0.0, busy_s=0.0, own_s=0.0)
    quiet = Usage(at=10.0, idle_s=9.5, busy_s=10.5, own_s=10.0)
    assert others_between(before, quiet) == (pytest.approx(0.05), False)
    full = Usage(at=10.0, idle_s=0.5, busy_s=19.5, own_s=5.0)
    assert others_between(before, full) == (pytest.approx(1.45), True)
    one_core = Usage(at=10.0, idle_s=0.2, busy_s=9.8, own_s=9.7)
    assert others_between(before, one_core) == (pytest.approx(0.01), False)
    assert others_between(None, quiet) == (None, False)


def test_usage_is_read_where_the_system_tells(monkeypatch):
    with_init = usage(os.getpgid(0))
    assert with_init is not None and with_init.busy_s > 0 and with_init.own_s > 0
    monkeypatch.delattr(os, "sched_getaffinity")
    assert usage(1) is None


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="no system tells the peak")
def test_the_memory_of_a_group_is_the_most_that_it_had() -> None:
    freed = "block = b'x' * 200_000_000; del block; print(flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", freed],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert 200_000_000 < group_memory(process.pid) < 260_000_000
        process.communicate(b"\n")
    assert group_memory(process.pid) == 0
