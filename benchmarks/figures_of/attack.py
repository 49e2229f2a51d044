"""Figures of the attack: what was tried, and what was survived."""

from __future__ import annotations

from collections import Counter
from typing import Any

import record

from figures_of.common import source, table

_INPUTS = {
    "overrides": "values on the command line",
    "settings": "YAML files of the user's, and choices that there are not",
    "rows": "files of questions, and the settings of a task",
    "catalogs": "catalogs, regions, quotas, files of GPUs",
    "students": "folders of models as students, and sizes",
    "teachers": "folders and GGUF files as teachers, endpoints",
}
_OTHERS = {
    "disks": "full, read-only or foreign disks, files in the way, closed or full output",
    "secrets": "runs with a secret of each kind, every file scanned",
    "kills": "kills of one run, at moments that a seed draws",
    "usage": "lies about tokens",
    "limit": "answers beyond their limit",
    "http": "redirects, answers that drip, endless lists",
    "flaky": "mixes of faults under load",
    "batches": "batches: lost answers, outages, kills",
    "ends": "ends of sweeps, terminals and processes",
}


def tried() -> str:
    """Everything that was tried: `attack.py`."""
    found = record.load("attack/whole")["result"]
    cases: dict[str, dict[str, int]] = found["cases"]
    inputs = {name: cases[f"inputs: {name}"] for name in _INPUTS if f"inputs: {name}" in cases}
    damages = {name: one for name, one in cases.items() if name.startswith("damage: ")}
    rows = [
        ["**bad inputs**: refused in one message, nothing paid", *_numbers(_sum(inputs))],
        *([_INPUTS[name], *_numbers(one)] for name, one in inputs.items()),
        [
            "**damaged files of a finished run**: mended, or named with what to type",
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
