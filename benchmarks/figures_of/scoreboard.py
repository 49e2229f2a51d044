"""Figures of the scoreboard: what the command predicted, chose and reached, beside peers."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from statistics import fmean, median
from typing import Any

import record

from figures_of.tables import NONE, machine, table

TASKS = ("banking77", "banking10", "cards10", "reuters8", "reuters52", "newsgroups", "sarcasm",
         "movie", "amazon", "tweets", "slovene", "invoices", "addresses")  # fmt: skip
SIZES = ("50", "200", "1000", "all")
CLOSE = 0.01
"""Accuracy by which nothing is lost by another choice."""
HEAD = ("task", "rows (seeds)", "student", "predicted", "measured", "best peer", "regret",
        "minutes", "MB", "p95, ms", "verdict", "load")  # fmt: skip
Cell = dict[str, Any]


def cells() -> list[Cell]:
    """Return all measured cells, with what is best beside the student."""
    lines = (record.RESULTS / "scoreboard.jsonl").read_text(encoding="utf-8").splitlines()
    measured = [json.loads(line) for line in lines]
    for cell in measured:
        beside = cell.get("peers") or cell.get("free", {})
        cell["peer"] = max(beside.values(), default=None)
        if "failed" not in cell:
            best = max([*beside.values(), *cell.get("kinds", {}).values(), cell["reached"][1]])
            cell["regret"] = best - cell["reached"][1]
    return measured


def scoreboard() -> str:
    """Return the table, what it comes to, and what is missing of it."""
    measured, groups = cells(), dict[tuple[str, str], list[Cell]]()
    for cell in measured:
        groups.setdefault((cell["task"], cell["size"]), []).append(cell)
    order = sorted(groups, key=lambda key: (key[0], SIZES.index(key[1])))
    rows = [_row(key[0], groups[key]) for key in order]
    dates = ", ".join(dict.fromkeys(cell["date"] for cell in measured))
    commits = ", ".join(dict.fromkeys(cell["commit"][:8] for cell in measured))
    usd = sum(cell.get("usd", 0.0) for cell in measured)
    return "\n\n".join(
        [
            table(HEAD, rows),
            f"{machine(measured[0])}, {dates}, {commits}; ${usd:.2f} in all.",
            summary(),
            "\n".join(_missing(groups)),
        ]
    )


def _row(task: str, group: list[Cell]) -> list[str]:
    rows = f"{group[0]['n_rows']:,} ({len(group)})"
    whole = [cell for cell in group if "failed" not in cell]
    made = ", ".join(f"{cell['load_average']:.0f}" for cell in group)
    peer = NONE if group[0]["peer"] is None else f"{fmean(c['peer'] for c in group):.1%}"
    if not whole:
        ends = " ".join(dict.fromkeys(map(_ending, group)))
        return [task, rows, NONE, NONE, NONE, peer, *[NONE] * 4, ends, made]
    means = [fmean(cell[key] for cell in whole) for key in ("minutes", "megabytes", "p95_ms")]
    n_missed = sum(not _is_inside(cell) for cell in whole)
    missed = "" if not n_missed else f", **{n_missed} missed**"
    return [
        task,
        rows,
        _counted(cell["student"] for cell in whole),
        _interval(whole, "expected") + missed,
        _interval(whole, "reached"),
        peer,
        f"{100 * fmean(cell['regret'] for cell in whole):.1f}",
        f"{means[0]:.1f}",
        f"{means[1]:.0f}",
        f"{means[2]:.0f}",
        _counted(cell["verdict"][0] if cell["verdict"] else NONE for cell in whole),
        made,
    ]


def _ending(cell: Cell) -> str:
    return "stopped" if cell["failed"].startswith("more than") else "refused"


def _counted(names: Iterable[str]) -> str:
    return ", ".join(name for name, _ in Counter(names).most_common())


def _interval(group: list[Cell], key: str) -> str:
    low, mean, high = (fmean(cell[key][end] for cell in group) for end in range(3))
    return f"{mean:.1%} ({100 * low:.0f}–{100 * high:.0f})"


def _is_inside(cell: Cell) -> bool:
    low, _, high = cell["expected"]
    return bool(low <= cell["reached"][1] <= high)


def summary() -> str:
    """Return in a few sentences how often predictions held, and what the choices cost."""
    measured = cells()
    whole = [cell for cell in measured if "failed" not in cell]
    inside = sum(map(_is_inside, whole))
    width = median(100 * (cell["expected"][2] - cell["expected"][0]) for cell in whole)
    higher = fmean(100 * (cell["expected"][1] - cell["reached"][1]) for cell in whole)
    close = sum(cell["regret"] <= CLOSE for cell in whole)
    serve = [cell for cell in whole if cell["verdict"] and cell["verdict"][0] == "serve"]
    right = sum(cell["reached"][1] >= cell["peer"] - CLOSE for cell in serve)
    return (
        f"{len(measured)} cells, {len(whole)} with a student. The 95% interval of the prediction "
        f"held in {inside} of {len(whole)}, at a median width of {width:.0f} points; its mean was "
        f"{higher:.1f} points above what was reached. Regret of at "
        f"most a point: {close} of {len(whole)}. Of {len(serve)} verdicts to serve, no peer was "
        f"more than a point better in {right}."
    )


def _missing(groups: dict[tuple[str, str], list[Cell]]) -> Iterator[str]:
    """Yield what has not been measured, and why a cell has no student."""
    for size in SIZES:
        lacking = [task for task in TASKS if (task, size) not in groups]
        if lacking:
            named = "all tasks" if len(lacking) == len(TASKS) else ", ".join(lacking)
            yield f"- Not measured yet, {size} rows: {named}."
    for (task, _), group in groups.items():
        failed = next((cell for cell in group if "failed" in cell), None)
        if failed is not None:
            why = failed["failed"].partition(". ")[0].removesuffix(".")
            yield f"- {task}, {failed['n_rows']} rows, {_ending(failed)}: {why}."


BLOCKS = {"scoreboard": scoreboard}
