"""Figures of plans: accuracies, catalogs, speed and gain of a plan, and the estimate's errors."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import record

from figures_of.tables import NONE, columns, result, source, span, table
from stratos.estimate.fitted import Errors, Factor, fitted

LEARNERS = {
    "simulated": "simulated",
    "softmax_regression": "softmax (10 clouds)",
    "many_steps": "many steps",
    "network": "network",
    "memory": "nearest neighbour",
}
CASES = {
    "real-cold": "90,000 rows, catalog cold",
    "real-warm": "90,000 rows, catalog warm",
    "million": "1,000,000 synthetic offers, in memory",
    "private": "3,700 private nodes, 3 students, 2,000 requests/s",
    "real-rate": "90,000 rows, 20 requests/s in 3 sizes",
}
QUANTITIES = {
    "training": "training",
    "first_token": "time to first token",
    "output_token": "time per output token",
}
FACTORS = {
    Factor.ENGINE: "the engine",
    Factor.GPU: "the GPU",
    Factor.PRECISION: "the precision",
    Factor.COMBINATION: "only their combination",
}
COVERAGE = "estimate/coverage"
LEAST_ROWS = 10
"""Fewer say nothing of a group."""


def accuracy_coverage() -> str:
    """How often intervals of predicted accuracies hold."""
    content = record.load("planner/accuracy")
    measured = content["result"]
    cell = "{in_95:.1%} · {width_95:.2f}"
    rows = [
        [source_name, *(cell.format_map(measured[name][source_name]) for name in LEARNERS)]
        for source_name in measured["simulated"]
    ]
    return (
        f"{table(('prediction from', *LEARNERS.values()), rows)}\n\n{measured['n_seeds']} tasks "
        f"each; {content['machine']}, {content['date']}, {measured['cpu_seconds']} CPU seconds."
    )


def scale() -> str:
    """CPU seconds and memory of plans."""
    rows = columns(
        [{"name": name, **row} for name, row in result("planner/scale").items()],
        ("case", lambda row: CASES.get(row["name"], row["name"])),
        ("CPU s", "{total:.1f}"),
        ("wall clock", "{by the clock:.1f} s"),
        (
            "target",
            lambda row: f"{row['target']:g} s{', missed' * (row['total'] > row['target'])}",
        ),
        ("peak", "{peak MiB:,} MiB"),
        ("plans on the frontier", "{points:,}"),
    )
    return f"{rows}\n\n{source('planner/scale')}."


HELD_OUT = ("engine", "GPU", "precision", "model", "size", "setting")


def errors() -> str:
    """How far predictions of what the fit had not seen are off, by what was held out."""
    measured = result(COVERAGE)
    rows = [{**row, "quantity": "training", "load": ""} for row in measured["training"]]
    rows += [row for row in measured["serving"] if row["rows"] >= LEAST_ROWS]
    groups: dict[tuple[str, bool, str], list[dict[str, Any]]] = {}
    for row in rows:
        key = row["held_out"], row["load"] == "saturated", row["quantity"]
        groups.setdefault(key, []).append(row)
    lines = [
        [f"{held_out}{', saturated' * is_saturated}", *cells]
        for held_out in HELD_OUT
        for is_saturated in (False, True)
        if any(cells := [_errors(groups.get((held_out, is_saturated, q), [])) for q in QUANTITIES])
    ]
    return table(("held out", *QUANTITIES.values()), [[c or NONE for c in row] for row in lines])


def _errors(group: Sequence[dict[str, Any]]) -> str:
    if not group:
        return ""
    inside = [row["coverage"] for row in group if "coverage" in row]
    shares = f"; {span((100 * share for share in inside), '.0f')}%" if inside else ""
    return f"{span(100 * row['mape'] for row in group)}%{shares}"


def intervals() -> str:
    """How wide an interval is by what was never measured, as it ships."""
    errors = [fitted().errors[quantity] for quantity in QUANTITIES]
    rows = [["nothing (all measured)", *map(_known, errors)]]
    rows += [[name, *(_unseen(row, factor) for row in errors)] for factor, name in FACTORS.items()]
    return table(("never measured", *QUANTITIES.values()), rows)


def _known(errors: Errors) -> str:
    low, high = ([getattr(known, end) for known in errors.known] for end in ("low", "high"))
    return f"{span(low, '.2f')} to {span(high, '.2f')}"


def _unseen(errors: Errors, factor: Factor) -> str:
    if factor not in errors.unseen:
        return NONE
    half = math.exp(math.hypot(errors.within, errors.unseen[factor].between))
    return f"{1 / half:.2f} to {half:.2f}"


def queues() -> str:
    """The queue's formulas beside simulations."""
    engines: dict[str, list[float]] = {}
    for row in result("estimate/queues")["tokens"]:
        engines.setdefault(f"{row['engine']}, c = {row['slots']}", []).append(_ratio(row["p95_ms"]))
    steps = "; ".join(f"{name}: {span(ratios, '.2f')}" for name, ratios in engines.items())
    return f"Step by step, at ρ of 0.3 to 0.85, formula over simulation, p95: {steps}."


def _ratio(pair: Sequence[float]) -> float:
    return pair[0] / pair[1]


BLOCKS = {
    "accuracy_coverage": accuracy_coverage,
    "planner_scale": scale,
    "estimate_errors": errors,
    "estimate_intervals": intervals,
    "estimate_queues": queues,
}
