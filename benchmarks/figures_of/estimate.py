"""Figures of docs/estimate.md: constants, errors by what was held out, intervals, queues."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean
from typing import Any

import record

from figures_of.common import source, span, table
from stratos.estimate.fitted import Errors, Factor, fitted
from stratos.estimate.queueing import busy_probability, wait_of_waiting

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


def constants() -> str:
    """What `benchmarks/estimate/fit.py` found, as it ships."""
    train, serve = fitted().training, fitted().inference
    rows = [
        ("γ", "products: share of P; in fp8 of its rate", f"{train.gemm:.2f}; {train.fp8_gemm:.2f}",
         f"{serve.gemm:.2f}; below 16 bits {serve.gemm_quantised:.2f}"),
        ("α", "attention: share of A", f"{train.attention:.2f}", f"{serve.attention:.2f}"),
        ("λ", "link: share of its bandwidth", f"{train.link:.2f}", f"{serve.link:.2f}"),
        ("ε", "bytes of norms, activations, residuals", f"{train.elementwise_bytes:.0f}", "–"),
        ("η", "one hop of a ring", _us(train.hop_s), "–"),
        ("δ", "one all-reduce", "–", _us(serve.reduce_floor_s)),
        ("ω", "weights: share of B", "–", f"{serve.weights:.2f}"),
        ("κ", "cache: share of B", "–", f"{serve.cache:.2f}"),
        ("φ", "minimum time per block of a decode step", "–", _us(serve.layer_floor_s)),
        ("χ", "added to it below 16 bits", "–", _us(serve.quantise_floor_s)),
        ("ψ", "time per sequence in a decode step", "–", _us(serve.sequence_floor_s)),
        ("π", "minimum time per block of a prefill", "–", f"{1000 * serve.prefill_floor_s:.2f} ms"),
        ("σ", "time of a request besides its prefill", "–", f"{1000 * serve.first_token_s:.0f} ms"),
    ]  # fmt: skip
    return table(("", "constant", "training", "inference"), rows)


def _us(seconds: float) -> str:
    return f"{1e6 * seconds:.1f} µs"


def training_errors() -> str:
    """Tokens per second of sizes and GPUs that the fit had not seen."""
    result = record.load("estimate/coverage")["result"]
    rows = [
        [
            f"{one['held_out']} {one['level']}, {one['precision']}",
            *_error(one),
            _covered(one) if "coverage" in one else "–",
        ]
        for one in result["training"]
    ]
    return table(("held out", *ERROR, "inside the shipped interval"), rows)


ERROR = ("rows", "MAPE", "Spearman", "measured / predicted")


def _error(one: dict[str, Any]) -> list[str]:
    rank = "–" if one["spearman"] is None else f"{one['spearman']:.3f}"
    ends = f"{one['ratio_low']:.2f} to {one['ratio_high']:.2f}"
    return [str(one["rows"]), f"{one['mape']:.1%}", rank, ends]


def _covered(one: dict[str, Any]) -> str:
    return f"{one['coverage']:.1%} of {one['low']:.2f} to {one['high']:.2f}"


def serving_errors(quantity: str) -> str:
    """One quantity of serving, by what the fit had not seen and by load."""
    rows = []
    for one in record.load("estimate/coverage")["result"]["serving"]:
        if one["quantity"] != quantity or one["rows"] < 10:
            continue
        load = ", saturated" if one["load"] == "saturated" else ""
        nested = one["nested"]
        rows.append(
            [
                f"{one['held_out']} {one['level']}{load}",
                *_error(one),
                _covered(one),
                "–" if nested is None else _covered(nested),
            ]
        )
    head = (
        "held out",
        *ERROR,
        "inside the shipped interval",
        "inside that of other rows",
    )
    return table(head, rows)


def coverage() -> str:
    """The sentences that sum up the two tables."""
    result = record.load("estimate/coverage")["result"]
    lines = []
    for name, title in (("first_token", "Time to first token"), ("output_token", "Output token")):
        parts = []
        for what in ("engine", "GPU", "precision", "setting"):
            chosen = [
                one for one in result["serving"] if (one["held_out"], one["quantity"]) ==
                (what, name)
            ]  # fmt: skip
            inside = sum(one["coverage"] * one["rows"] for one in chosen)
            share = inside / sum(one["rows"] for one in chosen)
            parts.append(f"{what} {share:.1%}")
        lines.append(f"{title}, inside the interval, held out by: {', '.join(parts)}.")
    found = ", ".join(
        f"{QUANTITIES[name]} {share:.1%}" for name, share in result["in_sample"].items()
    )
    return "\n".join([*lines, f"In sample (MAPE): {found}."])


def sensitivity() -> str:
    """What the errors rest on: `estimate/sensitivity.py`."""
    result = record.load("estimate/sensitivity")["result"]
    held, priors = result["settings"], result["priors"]
    alike = [100 * held[f"output token {name}"] for name in ("batch", "prompt", "tensor_parallel")]
    weaker, stronger = (
        span((100 * one["output_token"] for one in priors if one["strength"] == strength), ".1f")
        for strength in (0.3, 3.0)
    )
    return (
        "`benchmarks/estimate/sensitivity.py`, MAPE: output token with a batch, prompt length or\n"
        f"tensor parallel degree held out {span(alike, '.1f')}%; with priors\n"
        f"a third as strong {weaker}%, three times as strong {stronger}% (model or GPU held out);\n"
        f"tokens/s with checkpointing held out {held['training checkpointing']:.1%}."
    )


def intervals() -> str:
    """How wide an interval is by what was never measured, as it ships."""
    rows = []
    for factor, name in FACTORS.items():
        cells = [_wide(fitted().errors[quantity], factor) for quantity in QUANTITIES]
        rows.append([name, *cells])
    measured = [_known(fitted().errors[quantity]) for quantity in QUANTITIES]
    head = ("never measured", *QUANTITIES.values())
    return table(head, [["nothing (all measured)", *measured], *rows])


def _known(errors: Errors) -> str:
    low, high = ([getattr(one, end) for one in errors.known] for end in ("low", "high"))
    return f"{span(low, '.2f')} to {span(high, '.2f')}"


def _wide(errors: Errors, factor: Factor) -> str:
    if factor not in errors.unseen:
        return "–"
    half = math.exp(math.hypot(errors.within, errors.unseen[factor].between))
    return f"{1 / half:.2f} to {half:.2f}"


def queues() -> str:
    """The queue's formulas beside simulations: `estimate/queues.py`."""
    result = record.load("estimate/queues")["result"]
    over = [_ratio(one["p95"]) for one in result["requests"]]
    waits = [one for one in result["requests"] if one["mean_wait"][1] >= 0.01]
    waited = [(one["mean_wait"][0] + 0.1) / (one["mean_wait"][1] + 0.1) for one in waits]
    rows = [
        [
            one["server"],
            one["engine"],
            str(one["slots"]),
            f"{one['utilisation']:g}",
            *(f"{ms:,.0f}" for ms in one["mean_first_token_ms"]),
            *(f"{ms:,.0f}" for ms in one["p95_ms"]),
        ]
        for one in result["tokens"]
    ]
    head = ("server", "engine", "c", "ρ", "first token, ms", "simulated", "p95, ms", "simulated")
    return "\n".join(
        [
            f"Request by request, c of 1 to 64 and ρ of 0.1 to 0.85, formula over simulation: p95 "
            f"{span(over, '.2f')}, mean time to first token {span(waited, '.2f')} (the first token "
            "takes a tenth of the answer). Step by step, for an engine that batches:",
            "",
            table(head, rows),
        ]
    )


def _ratio(pair: Sequence[float]) -> float:
    return pair[0] / pair[1]


def _formula(one: dict[str, Any], utilisation: float) -> float:
    """Return the formula's mean, of answers as long as they were under load."""
    if utilisation >= 1.0:
        return math.inf
    mean = one["answer_under_load_ms"]
    square = mean**2 * (1 + one["variation"] ** 2)
    wait = float(wait_of_waiting(one["slots"], utilisation, mean, square))
    busy = busy_probability(one["slots"], utilisation)
    return float(one["first_token_without_queue_ms"]) + busy * wait


def first_token() -> str:
    """Time to first token of a CPU server under load: `serving/first_token.py`."""
    kept, rows = record.load("serving/first_token"), []
    cases = dict.fromkeys((one["engine"], one["slots"], one["share"]) for one in kept["result"])
    for engine, slots, share in cases:
        chosen = [
            one
            for one in kept["result"]
            if (one["engine"], one["slots"], one["share"]) == (engine, slots, share)
        ]
        busy = [
            one["requests_per_s"] * one["answer_under_load_ms"] / 1000 / slots for one in chosen
        ]
        found = [
            [one["first_token_without_queue_ms"] for one in chosen],
            [one["predicted_ms"] for one in chosen],
            [_formula(one, share) for one, share in zip(chosen, busy, strict=True)],
            [one["replayed_ms"] for one in chosen],
        ]
        measured = [one["measured_ms"] for one in chosen]
        rows.append(
            [
                engine,
                str(slots),
                f"{share:g}",
                span(busy, ".2f"),
                *(f"{fmean(values):,.0f}" for values in found),
                f"{fmean(measured):,.0f} ({span(measured, ',.0f')})",
            ]
        )
    head = (
        "engine",
        "c",
        "ρ",
        "ρ measured",
        "no queue, ms",
        "formula",
        "formula, answers under load",
        "replayed arrivals",
        "measured (each round)",
    )
    load = span((one["load_average"] for one in kept["result"]), ".0f")
    return f"{table(head, rows)}\n\n{source('serving/first_token')}, load average {load}."


BLOCKS = {
    "estimate_constants": constants,
    "estimate_training_errors": training_errors,
    "estimate_first_token_errors": lambda: serving_errors("first_token"),
    "estimate_output_token_errors": lambda: serving_errors("output_token"),
    "estimate_coverage": coverage,
    "estimate_intervals": intervals,
    "estimate_sensitivity": sensitivity,
    "estimate_queues": queues,
    "estimate_first_token_under_load": first_token,
}
