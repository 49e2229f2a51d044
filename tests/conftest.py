"""What the tests of the whole command share."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from stratos.records import Complexity, Interval, ModelCard, Probe, TeacherProbe
from stratos.run import resume
from stratos.run.stages import PROBE

# The same examples on every machine, and none of them too slow for a busy one.
settings.register_profile(
    "suite", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("suite")

sys.path.append(str(Path(__file__).parent))  # what a test may lack
sys.path.append(str(Path(__file__).parent / "teachers"))  # servers that speak as real ones do


@pytest.fixture
def probed(tmp_path: Path) -> Path:
    """A run folder in which the probe is done: a blind teacher."""
    card = ModelCard(
        "smollm2", n_params=134_515_008, n_layers=30, hidden_size=576, n_heads=9, n_kv_heads=3,
        intermediate_size=1536, vocab_size=49152, context_length=8192, license="Apache-2.0",
    )  # fmt: skip
    blind = Interval(0.0, 0.0, 0.0566, "64 validation items, Wilson")
    chance = Interval(0.25, 0.16, 0.37, "64 validation items, Wilson")
    one = TeacherProbe(
        "smollm2", card, "default", n_items=64, exact=blind, choice=chance, exact_by_slice={},
        parsable=0.9, echoes=0.4, input_tokens=20_000, output_tokens=1_000, seconds=20.0,
        cpu_seconds=40.0, usd=0.0, n_cached=0,
    )  # fmt: skip
    run = tmp_path / "run"
    (run / "probe").mkdir(parents=True)
    (run / "probe" / "answers.jsonl").write_text("{}\n")
    probe = Probe(
        "mahjong", (one,), {}, Complexity("high", False, ("0 of 64 exact",)),
        answers_path="probe/answers.jsonl", seconds=20.0,
    )  # fmt: skip
    resume.keep(PROBE, run, "made by hand", probe)
    return run
