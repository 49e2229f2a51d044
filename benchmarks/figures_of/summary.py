"""Of docs/evidence/summary.md: each row from a raw result, as a range over what was measured."""

from __future__ import annotations

import csv
from collections.abc import Callable
from typing import Any

from figures_of.tables import result, source, span, table, written
from figures_of.training import SFT, SFT_CASES, STEP, STEP_CASES, peer_speeds
from stratos.deploy.card import TERMS

PEERS, STARTUP, CORPUS = "planner/peers", "startup", "corpus/mahjong"


def _optima(chains: Any) -> str:
    done = [chain for chain in chains if chain["theirs_usd"] is not None]
    return (
        f"same optima; ours in {span((chain['ours_s'] for chain in chains), '.2f')} s, "
        f"theirs in {span((chain['theirs_s'] for chain in done), '.2f')} s, "
        f"{len(chains) - len(done)} did not finish"
    )


def _memory(shapes: Any) -> str:
    return f"{span((row['stratos_memory_over']['trl GKD'] for row in shapes.values()), '.2f')}×"


ROWS: tuple[tuple[str, str, str | Callable[[Any], str], str], ...] = (
    (
        PEERS,
        "plan vs SkyPilot's optimizer on 11 task chains and diamonds "
        "(`benchmarks/planner/peers.py`)",
        _optima,
        "same",
    ),
    (
        STEP,
        "distillation step, tokens per CPU s, 5 shapes (`benchmarks/training/step.py`), vs TRL's "
        "GKDTrainer; vs a plain loop; vs a plain loop with TRL's chunked loss",
        lambda _: peer_speeds(STEP, STEP_CASES),
        "2×; 1.5×; –",
    ),
    (STEP, "peak memory of the step, as a share of TRL's GKDTrainer", _memory, "0.33×"),
    (
        SFT,
        "fine-tuning, 4 students (`benchmarks/training/sft.py`), vs TRL's SFTTrainer packed (no "
        "fast attention on a CPU); vs the same sorted by length; vs a plain loop",
        lambda _: peer_speeds(SFT, SFT_CASES),
        "1.5× the best",
    ),
    (
        STARTUP,
        "start-up of `--help`, `--cfg job` vs a bare Hydra app (`benchmarks/product/startup.py`)",
        "{--help[ratio]:.2f}×, {--cfg job[ratio]:.2f}×",
        "1.5×",
    ),
    (
        STARTUP,
        "`stages=[plan]` with a cached probe, whole process",
        "{plan[cpu_s]:.1f} CPU s, {plan[wall_s]:.1f} s",
        "3 s",
    ),
    (
        CORPUS,
        "corpus of 100,000 verified, deduplicated Mahjong items "
        "(`benchmarks/tasks/mahjong_engine.py --corpus 100000`)",
        "{wall_s:.0f} s, {cpu_s:.0f} CPU s",
        "60 s",
    ),
)
"""Raw result, what was measured, how it came out, and the target."""


def peers() -> str:
    """What the summary says beside public peers, and of speeds that no other page has."""
    rows = [
        (title, written(cell, result(name)), target, source(name))
        for name, title, cell, target in ROWS
    ]
    return table(("what", "measured", "target", "made on"), rows)


def terms() -> str:
    """What licences say of training another model on a teacher's answers."""
    with TERMS.open(encoding="utf-8", newline="") as file:
        rows = [
            [row["license"], row["may_train"], row["clause"], f"{row['version']}, {row['checked']}",
             f"<{row['source']}>"]
            for row in csv.DictReader(file)
        ]  # fmt: skip
    head = ("licence of the teacher", "may its answers train another model", "clause", "version",
            "source")  # fmt: skip
    return table(head, rows)


BLOCKS = {"peers": peers, "terms": terms}
