"""A run folder in which the probe is done, without asking anybody."""

from __future__ import annotations

from pathlib import Path

from stratos.records import Complexity, Interval, ModelCard, Probe, TeacherProbe
from stratos.run import resume
from stratos.run.stages import PROBE


def probe_by_hand(run: Path) -> None:
    """Write the record of a probe that found a blind teacher."""
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
    (run / "probe").mkdir(parents=True)
    (run / "probe" / "answers.jsonl").write_text("{}\n")
    probe = Probe(
        "mahjong", (one,), {}, Complexity("high", False, ("0 of 64 exact",)),
        answers_path="probe/answers.jsonl", seconds=20.0,
    )  # fmt: skip
    resume.keep(PROBE, run, "made by hand", probe)
