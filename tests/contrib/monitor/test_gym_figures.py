"""What docs/contrib/monitor.md says of the recorded runs of benchmarks/contrib/gym.py."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[3] / "benchmarks"))


def prediction(kind: str, outcome: str, note: str = "", quantity: str = "", **figures: Any) -> Any:
    """Return a prediction as a run records it."""
    words = {"planned": "p", "interval": "i", "measured": "m"}
    return {"quantity": quantity or kind, **words, "outcome": outcome, "kind": kind, "note": note,
            "figures": figures}  # fmt: skip


BUSY = "other work slowed this machine"
FASTER = f"{BUSY}, and it was faster than predicted all the same"
ROWS = [
    {"task": "gcd", "predicted": [
        prediction("hours", "inside", measured=30 / 3600, planned=20 / 3600, low=10 / 3600,
                   high=40 / 3600),
        prediction("dollars", "open", "nothing is paid", measured=0.0, planned=0.0),
        prediction("latency", "outside", FASTER, "fast", measured=3.0, planned=5.0, low=4.0,
                   high=8.0),
        prediction("latency", "open", BUSY, "slow", measured=9.0, planned=5.0, low=4.0, high=8.0),
        prediction("latency", "open", BUSY, "so", measured=5.0, planned=5.0, low=4.0, high=8.0),
        prediction("memory", "inside", measured=0.1, planned=2.0, low=0.0, high=2.0,
                   is_bound=True),
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
    [row] = [row for row in text.splitlines() if row.startswith(f"| {head} |")]
    return [cell.strip() for cell in row.strip("|").split("|")][1:]


def test_hits_widths_and_what_is_not_judged_are_counted(gym):
    printed = gym.gym_hits()
    hours = line(printed, "hours")
    assert hours[:3] == ["1 of 1", "1.50×", "1 of 1"]
    assert hours[5:7] == ["4×", "1.50×"], "40 / 10 s, 30 / 20 s"
    assert line(printed, "dollars")[2] == "0 of 0" and line(printed, "dollars")[-1] == "1"
    # All are shown, those beside other work too: medians of 3, 9 and 5 over 5, and of 3 over 5.
    names = ("fast", "slow", "so")
    latency = [line(printed, name) for name in names]
    assert [row[:2] for row in latency] == [["0 of 1", "0.60×"], ["0 of 1", "1.80×"],
                                            ["1 of 1", "1.00×"]]  # fmt: skip
    assert [(row[2], row[-1]) for row in latency] == [("0 of 1", "0"), ("0 of 0", "1"),
                                                      ("0 of 0", "1")]  # fmt: skip


def test_a_bound_is_no_interval_and_a_run_that_failed_is_shown(gym):
    printed = gym.gym_hits()
    assert "| memory |" not in printed
    assert "1 of 1 runs stay below it; half of the runs use 5% of it or less." in printed
    assert printed.endswith(
        "2 of 3 chosen tasks were run. Failed, and in no row above: `cryptarithm` (stopped after "
        "153 CPU seconds)."
    )
