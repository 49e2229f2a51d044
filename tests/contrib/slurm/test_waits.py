"""How long jobs wait, by what sbatch of SLURM 24.11 expects."""

from __future__ import annotations

import subprocess
import time
from datetime import UTC, datetime

import pytest

from stratos.contrib.slurm import nodes as slurm_nodes
from stratos.contrib.slurm.queue import expected_start, expected_waits
from stratos.core.shares import Share


@pytest.fixture
def says(monkeypatch: pytest.MonkeyPatch):
    def answers(sbatch: str) -> list[tuple[str, ...]]:
        asked: list[tuple[str, ...]] = []

        def run(*command: str, **_: float) -> subprocess.CompletedProcess[str]:
            asked.append(command)
            return subprocess.CompletedProcess(command, int(not sbatch), "", sbatch)

        monkeypatch.setattr(slurm_nodes, "run", run)
        return asked

    return answers


def at(seconds: float) -> str:
    when = datetime.fromtimestamp(time.time() + seconds, UTC)
    when = f"{when:%Y-%m-%dT%H:%M:%S}"
    return f"sbatch: Job 3 to start at {when} using 1 processors on nodes n1 in partition main"


SHARES = [Share("main", 2, 4000, "h100", 1, ("ib",), 2), Share("urgent", 4, 8000, "", 0, (), 1)]


def test_what_sbatch_expects(says) -> None:
    asked = says(at(7200 + 30))
    assert expected_start(["-p", "main"]) == pytest.approx(7230, abs=2)
    assert expected_waits(SHARES) == (
        {("main", SHARES[0].name): 2.0, ("urgent", SHARES[1].name): 2.0}, ""
    )  # fmt: skip
    assert set(asked[1:]) == {
        ("sbatch", "--test-only", "-p", "main", "-c", "2", "--mem=4000M", "--gres=gpu:h100:1",
         "--constraint=ib", "--wrap=true"),
        ("sbatch", "--test-only", "-p", "urgent", "-c", "4", "--mem=8000M", "--wrap=true"),
    }  # fmt: skip


def test_where_sbatch_says_nothing_the_wait_is_not_known(says) -> None:
    says("")
    assert expected_waits(SHARES) == ({}, "sbatch --test-only does not tell it")
