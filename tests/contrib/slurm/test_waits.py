"""How long jobs wait, by what sbatch expects and by what sacct of SLURM 24.11 has kept."""

from __future__ import annotations

import subprocess
import time
from datetime import UTC, datetime

import pytest

from stratos.contrib.slurm import nodes as slurm_nodes
from stratos.contrib.slurm.queue import expected_start, expected_waits, past_waits
from stratos.core.shares import Share

HISTORY = "\n".join([
    *["main|2026-11-27T01:00:00|2026-11-27T01:00:00"] * 2,
    "main|2026-11-27T01:00:00|2026-11-27T02:30:00",
    "main|2026-11-27T01:00:00|2026-11-27T03:00:00",
    "main|2026-11-27T01:00:00|2026-11-27T05:00:00",
    "main|2026-11-27T01:24:32|Unknown",
    "urgent|2026-11-27T01:24:32|2026-11-27T01:24:32",
])  # fmt: skip


def test_a_partition_with_too_few_jobs_has_no_history() -> None:
    assert past_waits(HISTORY) == {"main": 1.5}


@pytest.fixture
def says(monkeypatch: pytest.MonkeyPatch):
    def answers(sbatch: str, sacct: tuple[int, str] = (1, "")) -> list[tuple[str, ...]]:
        asked: list[tuple[str, ...]] = []

        def run(*command: str, **_: float) -> subprocess.CompletedProcess[str]:
            asked.append(command)
            code, text = (int(not sbatch), sbatch) if command[0] == "sbatch" else sacct
            if command[0] == "sbatch":
                return subprocess.CompletedProcess(command, code, "", text)
            return subprocess.CompletedProcess(command, code, text, "sacct: it is disabled\n")

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


def test_where_sbatch_says_nothing_history_does_or_it_is_unknown(says) -> None:
    says("", (0, HISTORY))
    assert expected_waits(SHARES) == (
        {("main", SHARES[0].name): 1.5},
        "sbatch --test-only does not tell, nor do jobs of the last 7 days",
    )
    says("")
    assert expected_waits(SHARES) == (
        {}, "sbatch --test-only does not tell, and there is no history (it is disabled)"
    )  # fmt: skip
