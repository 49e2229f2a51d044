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
FIRST_TOKEN = ("first_token", "below")
"""Of rows that are not saturated."""
LEAST_ROWS = 10
"""Fewer say nothing of a group."""


def accuracy_coverage() -> str:
    """How often intervals of predicted accuracies hold."""
    content = record.load("planner/accuracy")
    measured = content["result"]
    cell = "{in_95:.1%} · {in_80:.1%} · {width_95:.2f} · {in_95_of_60_items:.1%}"
    rows = [
        [source_name, *(cell.format_map(measured[name][source_name]) for name in LEARNERS)]
        for source_name in measured["simulated"]
    ]
    return (
        f"{table(('prediction from', *LEARNERS.values()), rows)}\n\n{measured['n_seeds']} tasks "
        f"each; {content['machine']}, {content['date']}, {measured['cpu_seconds']} CPU seconds."
    )


def accuracy_recorded() -> str:
    """Recorded runs of shipped students, each predicted from the others."""
    ends = "{predicted[0]:.3f} ({predicted[1]:.3f} to {predicted[2]:.3f}), from {n_others}"
    return columns(
        result("planner/accuracy")["recorded"],
        ("run left out", "{student}, seed {seed}"),
        ("the others predict", ends),
        ("as its test items may show it", "{shown[0]:.3f} to {shown[1]:.3f}"),
        (
            "they showed",
            lambda row: (
                f"{row['measured']:.3f} of {row['n_items']:,}"
                + ("" if row["is_held"] else ", missed")
            ),
        ),
    )


def scale() -> str:
    """CPU seconds and memory of plans."""
    parts = ("catalog", "problem", "frontier", "plan")
    rows = columns(
        [{"name": name, **row} for name, row in result("planner/scale").items()],
        ("case", lambda row: CASES.get(row["name"], row["name"])),
        *((part, f"{{{part}:.2f}}") for part in parts),
        ("total", "{total:.1f}"),
        ("wall clock", "{by the clock:.1f} s"),
        (
            "target",
            lambda row: f"{row['target']:g} s{', missed' * (row['total'] > row['target'])}",
        ),
        ("peak", "{peak MiB:,} MiB"),
        ("plans on the frontier", "{points:,}"),
    )
    return f"{rows}\n\n{source('planner/scale')}."


def peers() -> str:
    """SkyPilot's integer program beside ours."""

    def theirs(row: dict[str, Any]) -> str:
        return "did not finish" if row["theirs_usd"] is None else f"{row['theirs_s']:.2f} s"

    def difference(row: dict[str, Any]) -> str:
        if row["theirs_usd"] is None:
            return NONE
        return f"{row['theirs_usd'] - row['ours_usd']:+.4f}"

    rows = columns(
        result("planner/peers"),
        ("tasks", "{shape}"),
        ("offers a task", "{offers}"),
        ("SkyPilot", theirs),
        ("Stratos", "{ours_s:.3f} s"),
        ("difference between the optima, $", difference),
    )
    return f"{rows}\n\n{source('planner/peers')}."


def constants() -> str:
    """The constants that ship."""
    train, serve = fitted().training, fitted().inference
    rows = [
        ("γ", "products: share of P; in fp8 of its rate", f"{train.gemm:.2f}; {train.fp8_gemm:.2f}",
         f"{serve.gemm:.2f}; below 16 bits {serve.gemm_quantised:.2f}"),
        ("α", "attention: share of A", f"{train.attention:.2f}", f"{serve.attention:.2f}"),
        ("λ", "link: share of its bandwidth", f"{train.link:.2f}", f"{serve.link:.2f}"),
        ("ε", "bytes of norms, activations, residuals", f"{train.elementwise_bytes:.0f}", NONE),
        ("η", "one hop of a ring", _us(train.hop_s), NONE),
        ("δ", "one all-reduce", NONE, _us(serve.reduce_floor_s)),
        ("ω", "weights: share of B", NONE, f"{serve.weights:.2f}"),
        ("κ", "cache: share of B", NONE, f"{serve.cache:.2f}"),
        ("φ", "minimum time per block of a decode step", NONE, _us(serve.layer_floor_s)),
        ("χ", "added to it below 16 bits", NONE, _us(serve.quantise_floor_s)),
        ("ψ", "time per sequence in a decode step", NONE, _us(serve.sequence_floor_s)),
        ("π", "minimum time per block of a prefill", NONE,
         f"{1000 * serve.prefill_floor_s:.2f} ms"),
        ("σ", "time of a request besides its prefill", NONE,
         f"{1000 * serve.first_token_s:.0f} ms"),
    ]  # fmt: skip
    return table(("", "constant", "training", "inference"), rows)


def _us(seconds: float) -> str:
    return f"{1e6 * seconds:.1f} µs"


def errors() -> str:
    """How far predictions of what the fit had not seen are off, by what was held out."""
    measured = result(COVERAGE)
    rows = [{**row, "quantity": "training", "load": ""} for row in measured["training"]] + measured[
        "serving"
    ]
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in rows:
        if row["quantity"] == "training" or row["rows"] >= LEAST_ROWS:
            held_out = row["held_out"] + ", saturated" * (row["load"] == "saturated")
            groups.setdefault((QUANTITIES[row["quantity"]], held_out), []).append(row)
    head = ("quantity", "held out", "groups", "rows", "MAPE", "measured / predicted", "inside")
    return table(head, [_errors(*key, group) for key, group in groups.items()])


def _errors(quantity: str, held_out: str, group: Sequence[dict[str, Any]]) -> list[str]:
    inside = [row["coverage"] for row in group if "coverage" in row]
    low, high = min(row["ratio_low"] for row in group), max(row["ratio_high"] for row in group)
    return [
        quantity,
        held_out,
        str(len(group)),
        str(sum(row["rows"] for row in group)),
        f"{span(100 * row['mape'] for row in group)}%",
        f"{low:.2f} to {high:.2f}",
        f"{span((100 * share for share in inside), '.0f')}%" if inside else NONE,
    ]


def coverage() -> str:
    """The sentences that sum up the two tables."""
    measured = result(COVERAGE)
    lines = []
    titles = {"first_token": "Time to first token", "output_token": "Output token"}
    for quantity, title in titles.items():
        parts = []
        for factor in ("engine", "GPU", "precision", "model", "setting"):
            rows = [
                row
                for row in measured["serving"]
                if (row["held_out"], row["quantity"]) == (factor, quantity)
            ]
            inside = sum(row["coverage"] * row["rows"] for row in rows)
            parts.append(f"{factor} {inside / sum(row['rows'] for row in rows):.1%}")
        lines.append(f"{title}, inside the interval, held out by: {', '.join(parts)}.")
    settings = [
        f"{row['level'].removeprefix('vllm ')} {row['ratio_low']:.2f} to {row['ratio_high']:.2f}"
        for row in measured["serving"]
        if row["level"].startswith("vllm on ") and (row["quantity"], row["load"]) == FIRST_TOKEN
    ]
    lines.append(f"vLLM's first token, measured over predicted, held out: {'; '.join(settings)}.")
    in_sample = ", ".join(
        f"{QUANTITIES[name]} {error:.1%}" for name, error in measured["in_sample"].items()
    )
    return "\n".join([*lines, f"In sample (MAPE): {in_sample}."])


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
    measured = result("estimate/queues")
    p95 = [_ratio(row["p95"]) for row in measured["requests"]]
    waits = [row["mean_wait"] for row in measured["requests"] if row["mean_wait"][1] >= 0.01]
    first = [_ratio([wait + 0.1 for wait in pair]) for pair in waits]
    rows = columns(
        measured["tokens"],
        ("server", "{server}"),
        ("engine", "{engine}"),
        ("c", "{slots}"),
        ("ρ", "{utilisation:g}"),
        ("first token, ms", "{mean_first_token_ms[0]:,.0f}"),
        ("simulated", "{mean_first_token_ms[1]:,.0f}"),
        ("p95, ms", "{p95_ms[0]:,.0f}"),
        ("simulated", "{p95_ms[1]:,.0f}"),
    )
    return (
        f"Request by request, c of 1 to 64 and ρ of 0.1 to 0.85, formula over simulation: p95 "
        f"{span(p95, '.2f')}, mean time to first token {span(first, '.2f')} (the first token "
        f"takes a tenth of the answer). Step by step, for an engine that batches:\n\n{rows}"
    )


def _ratio(pair: Sequence[float]) -> float:
    return pair[0] / pair[1]


BLOCKS = {
    "accuracy_coverage": accuracy_coverage,
    "accuracy_recorded": accuracy_recorded,
    "planner_scale": scale,
    "planner_peers": peers,
    "estimate_constants": constants,
    "estimate_errors": errors,
    "estimate_coverage": coverage,
    "estimate_intervals": intervals,
    "estimate_queues": queues,
}
