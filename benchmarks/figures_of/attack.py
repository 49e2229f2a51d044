"""Figures of the attack: what was tried, and what was survived."""

from __future__ import annotations

from collections import Counter
from typing import Any

import record

from figures_of.common import source, table

_INPUTS = {
    "overrides": "values on the command line",
    "settings": "the user's YAML files, and choices that do not exist",
    "rows": "data files, and task settings",
    "catalogs": "catalogs, regions, quotas, GPU files",
    "students": "model folders as students, and model sizes",
    "teachers": "model folders, GGUF files and endpoints as teachers",
}
_OTHERS = {
    "disks": "full, read-only or foreign disks, blocked paths, closed or full output",
    "secrets": "runs with every kind of secret, all files scanned",
    "kills": "kills of one run, at random times",
    "usage": "wrong token counts",
    "limit": "answers longer than `max_tokens`",
    "http": "redirects, slow-drip responses, endless lists",
    "flaky": "mixed faults under load",
    "batches": "batches: lost answers, outages, kills",
    "ends": "sweeps, terminals and processes that end early",
}


def tried() -> str:
    """Everything that was tried: `attack.py`."""
    found = record.load("attack/whole")["result"]
    cases: dict[str, dict[str, int]] = found["cases"]
    inputs = {name: cases[f"inputs: {name}"] for name in _INPUTS if f"inputs: {name}" in cases}
    damages = {name: one for name, one in cases.items() if name.startswith("damage: ")}
    rows = [
        ["**bad inputs**: rejected with one message, nothing paid", *_numbers(_sum(inputs))],
        *([_INPUTS[name], *_numbers(one)] for name, one in inputs.items()),
        [
            "**damaged files of a finished run**: repaired, or reported with the command that "
            "repairs it",
            *_numbers(_sum(damages)),
        ],
        *([name.removeprefix("damage: "), *_numbers(one)] for name, one in damages.items()),
        *([text, *_numbers(cases[name])] for name, text in _OTHERS.items() if name in cases),
    ]
    return table(("", "tried", "survived"), rows) + f"\n\n{source('attack/whole')}."


def _sum(cases: dict[str, dict[str, int]]) -> Counter[str]:
    total: Counter[str] = Counter()
    for one in cases.values():
        total.update(one)
    return total


def _numbers(found: Any) -> tuple[str, str]:
    return f"{found['tried']:,}", f"{found['survived']:,}"


BLOCKS = {"attack_tried": tried}
