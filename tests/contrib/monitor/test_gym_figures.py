"""What docs/contrib/monitor.md says of the kept runs of benchmarks/gym.py."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[3] / "benchmarks"))


def kept(kind: str, outcome: str, note: str, quantity: str = "", **figures: Any) -> dict[str, Any]:
    """Return a prediction as a run keeps it."""
    words = {"planned": "p", "interval": "i", "measured": "m"}
    return {"quantity": quantity or kind, **words, "outcome": outcome, "kind": kind, "note": note,
            "figures": figures}  # fmt: skip


BUSY = "other work slowed this machine"
ROWS = [
    {"task": "gcd", "predicted": [
        # 90 s are counted on both sides: 10 to 40 s were predicted, and 30 came.
        kept("hours", "inside", "both count that the stages before the plan took 1 min 30 s",
             measured=120 / 3600, planned=110 / 3600, low=100 / 3600, high=130 / 3600),
        kept("dollars", "inside", "", measured=0.0, planned=0.0, low=0.0, high=0.0),
        kept("latency", "open", BUSY, "fast", measured=3.0, planned=5.0, low=4.0, high=8.0),
        kept("latency", "open", BUSY, "slow", measured=9.0, planned=5.0, low=4.0, high=8.0),
        kept("latency", "open", BUSY, "so", measured=5.0, planned=5.0, low=4.0, high=8.0),
        kept("memory", "inside", "", measured=0.1, planned=2.0, low=0.0, high=2.0),
    ]},
    {"task": "cryptarithm", "failed": "stopped after 153 CPU seconds"},
]  # fmt: skip


@pytest.fixture
def gym(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    module = importlib.import_module("figures_of.gym")
    result = {"rows": ROWS, "chosen": ["gcd", "cryptarithm", "lcm"]}
    monkeypatch.setattr(module.record, "load", lambda name: {"result": result})
    return module


def line(text: str, head: str) -> list[str]:
    [found] = [one for one in text.splitlines() if one.startswith(f"| {head} |")]
    return [cell.strip() for cell in found.strip("|").split("|")][1:]


def test_what_was_over_before_the_plan_is_on_neither_side(gym: ModuleType) -> None:
    hours = line(gym.gym_hits(), "hours")
    assert hours[0] == "1 of 1"
    assert hours[3:5] == ["4×", "1.50×"], "40 / 10 s, 30 / 20 s"
    assert line(gym.gym_planned(), "`gcd`")[4:] == ["20.0 s", "10.0 s to 40.0 s (4×)", "30.0 s",
                                                    "held"]  # fmt: skip


def score(exact: float, n_items: int = 256) -> dict[str, Any]:
    """Return what a run keeps of one role."""
    return {"name": "x", "exact": exact, "low": 0.0, "high": 1.0, "n_items": n_items}


def test_all_that_needs_no_model_is_counted_and_a_tie_is_no_lead(gym: ModuleType) -> None:
    fixed = {"comparison": None, "cpu_minutes": 1.0, "cpu_s": 60.0, "train_tokens": 9,
             "train_cpu_seconds": 1.0, "load_before": 1.0}  # fmt: skip
    free = {"untouched": score(0.0, 8), "teacher": score(0.0, 32), "majority": score(0.2),
            "lookup": score(0.3), "chance": score(0.25)}  # fmt: skip
    told = {"aiw": (1.0, 1.0), "gcd": (0.4, 0.8), "lcm": (0.4, None)}
    rows = [
        {"task": task, **fixed, "scores": {"student": score(ours), **free}
         | ({} if linear is None else {"linear": score(linear)})}
        for task, (ours, linear) in told.items()
    ]  # fmt: skip
    kept_now = {"machine": "a", "cores": 2, "date": "d",
                "result": {"rows": rows, "chosen": list(told)}}  # fmt: skip
    gym.record.load = lambda name: kept_now
    printed = gym.gym_students()
    assert line(printed, "`task.name`")[5] == "TF-IDF"
    assert line(printed, "`gcd`")[5] == "80.0%" and line(printed, "`lcm`")[5] == gym.NONE
    assert "on 1 task, fewer than the best of them on 1, and as many on `aiw`; on 0 " in printed
    assert "untouched, asked 8 alone" in printed and "fitted on the 2 tasks" in printed


def test_nothing_paid_is_no_hit_and_a_bound_no_interval(gym: ModuleType) -> None:
    told = gym.gym_hits()
    assert line(told, "dollars")[0] == "0 of 0" and line(told, "dollars")[5] == "1"
    assert "| memory |" not in told
    assert "1 of 1 runs stay below it; half of the runs use 5% of it or less." in told


def test_faster_beside_other_work_is_a_miss_and_what_was_excused_is_counted(
    gym: ModuleType,
) -> None:
    latency = line(gym.gym_hits(), "latency")
    assert latency[0] == "0 of 1" and latency[5:] == ["2", "1 of 2"]
    assert line(gym.gym_server(), "slow")[5:] == ["1", "0 of 1"]
    assert "| `gcd` | fast |" in gym.gym_misses()


def test_a_run_that_failed_is_shown(gym: ModuleType) -> None:
    assert line(gym.gym_planned(), "`cryptarithm`")[0] == "failed: stopped after 153 CPU seconds"
    assert gym.gym_hits().endswith(
        "2 of 3 chosen tasks were run. Failed, and in no row above: `cryptarithm` (stopped after "
        "153 CPU seconds)."
    )
