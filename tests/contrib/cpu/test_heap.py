"""Memory that is freed stays with the process, and goes back to the system at the end."""

from __future__ import annotations

import subprocess
import sys

import pytest

from stratos.contrib.cpu import cpu_speedups as heap

_SCRIPT = """
import resource
from stratos.contrib.cpu import cpu_speedups as heap

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(50):
        some = [bytearray(3_000_000) for _ in range(20)]
        del some
    return (resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) / 50

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()

as_it_is = faults()
with heap.reused_heap():
    faults()
    while_kept, held = faults(), resident()
print(as_it_is, while_kept, held, resident())
"""


def _measured(script: str = _SCRIPT, **environment: str) -> list[float]:
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, env=environment
    )
    return [float(number) for number in done.stdout.split()]


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc alone")
def test_pages_are_touched_once_and_go_back_at_the_end():
    as_it_is, while_kept, held, after = _measured()
    assert while_kept < as_it_is / 20
    assert held - after > 50e6


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc alone")
def test_what_the_environment_says_of_memory_stays():
    as_it_is, while_kept, _, _ = _measured(MALLOC_TRIM_THRESHOLD_="131072")
    assert while_kept > as_it_is / 2


def test_without_glibc_nothing_is_done(monkeypatch):
    for name in heap._SETTINGS:
        monkeypatch.delenv(name, raising=False)
    assert sys.platform != "linux" or heap._set({}) is not None
    monkeypatch.setattr(heap.ctypes, "CDLL", lambda _: object())
    assert heap._set({}) is None
    with heap.reused_heap():
        pass


_OVER = """
import resource
from stratos.contrib.cpu import cpu_speedups as heap
from stratos.models.pretrained.folder import free_memory
import torch

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()

with heap.reused_heap():
    trained = [bytearray(3_000_000) for _ in range(60)]
    above = bytearray(3_000_000)
del trained
before = resident()
free_memory()
print(before, resident())
"""


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc alone")
def test_what_a_training_leaves_goes_back_when_its_stage_is_over():
    """Its optimizer is freed behind its last step, and lies below what is still in use."""
    before, after = _measured(_OVER)
    assert before - after > 150e6
