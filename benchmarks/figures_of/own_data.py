"""Figures of docs/tasks.md: eight small files, one command without a setting each."""

from __future__ import annotations

from typing import Any

import record

from figures_of.common import processor, table


def _results() -> dict[str, dict[str, Any]]:
    names = sorted(path.stem for path in (record.RESULTS / "own_data").glob("*.json"))
    return {name: record.load(f"own_data/{name}") for name in names}


def _share(one: dict[str, Any]) -> str:
    return f"{one['exact']:.1%}"


def _row(name: str, one: dict[str, Any]) -> list[str]:
    if one["failed"]:
        return [name, f"no result: {one['failed']}", *["–"] * 5, f"{one['minutes']:.1f}"]
    student, best, planned = one["scores"]["student"], one["best_baseline"], one["planned_accuracy"]
    said = {"better": "better", "worse": "worse", "open": "no significant difference"}
    predicted = "unknown"
    if planned["is_known"]:
        predicted = f"{planned['mean']:.0%} ({planned['low']:.0%}–{planned['high']:.0%})"
        predicted += ", missed" if planned["outcome"] == "outside" else ", held"
    return [
        name,
        f"{one['student']}, {one['strategy']}",
        f"{_share(student)} of {student['n_items']}",
        f"{best['exact']:.1%}, {best['name']}" if best else "–",
        said.get(one["outcome"], str(one["outcome"])),
        predicted,
        f"{one['cpu_minutes']:.1f}",
        f"{one['minutes']:.1f}",
    ]


def own_data() -> str:
    """Student, best baseline and prediction of each small task: `own_data/run.py`."""
    found = _results()
    head = ("task", "student", "exact", "best baseline", "", "predicted", "CPU min", "min")
    kept = next(iter(found.values()))
    loads = [one["load_average"] for one in found.values()]
    return (
        table(head, (_row(name, one["result"]) for name, one in found.items()))
        + f"\n\n{processor(kept)}, {kept['cores']} cores, {kept['date']}, with other work: load "
        + f"of {min(loads):.0f} to {max(loads):.0f}."
    )


BLOCKS = {"own_data": own_data}
