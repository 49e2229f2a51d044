"""Figures of training: steps, caches, divergences, decoding, and the students that came."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import record

from figures_of.tables import (
    NONE,
    columns,
    load_average,
    made_on,
    result,
    share,
    source,
    span,
    table,
)
from stratos.distill.divergences import DIVERGENCES, Divergence

STEP, SFT, BEGINNING = "distillation/step", "distillation/sft", "distillation/beginning"
FEW_SHOT = "distillation/few_shot"
SHAPES = {
    "medium_vocabulary": "tiny body, vocabulary 50,000",
    "large_vocabulary": "tiny body, vocabulary 152,000",
    "body": "12 layers of 256, vocabulary 15,000",
    "body_unequal": "the same, documents of unequal length",
    "deep_body": "16 layers of 384, vocabulary 15,000",
    "few_shot": "12 layers of 256, the teacher behind 1,500 tokens of examples",
}
STEP_CASES = ("trl GKD", "plain loop", "plain loop, TRL's chunked loss")
SFT_CASES = ("trl packed", "trl sorted", "plain loop")
DEPTH_SETS = ("banking77", "movie", "sums")
FIT_SETS = {
    "Gemma 3 270M, banking77": "gemma3_270m-banking77",
    "the same, 17% of the other tokens kept": "gemma3_270m-banking77-share",
    "Gemma 3 270M, R8": "gemma3_270m-r8",
    "Gemma 3 270M, addresses": "gemma3_270m-address",
    "Gemma 3 270M, invoices": "gemma3_270m-invoices",
    "SmolLM2-135M, banking77": "smollm2-banking77",
    "SmolLM2-135M, R8": "smollm2-r8",
    "SmolLM2-135M, addresses": "smollm2-address",
}
BEGINNING_CASES = ("single documents", "plain loop", "plain loop, head of answers", "trl")


def divergences() -> str:
    """Every divergence that an objective may have, from their own table."""
    return columns(
        map(vars, DIVERGENCES.values()),
        ("divergence", "`{name}`"),
        ("is", "{formula}"),
        ("parameters", lambda row: _parameters(DIVERGENCES[row["name"]])),
        ("source", "{source}"),
    )


def _parameters(divergence: Divergence) -> str:
    ranges = [f"`{p.name}` {p.low:g} to {p.high:g} ({p.default:g})" for p in divergence.parameters]
    return ", ".join(ranges) or NONE


def step() -> str:
    """Whole distillation steps beside peers."""
    cases = columns(
        [*_cases(STEP), *_cases(FEW_SHOT)],
        ("shape, precision", lambda row: f"{SHAPES[row['shape_name']]}, {row['dtype']}"),
        *((case, lambda row, case=case: _beside(case, row)) for case in STEP_CASES),
    )
    return (
        f"{cases}\n\nEach cell: Stratos's tokens per CPU second over the column's · its rise of "
        f"peak memory over the column's.\n{source(STEP, FEW_SHOT)}."
    )


def beginning() -> str:
    """Training on rows that begin alike beside peers."""
    rows = [
        [
            f"{row['shape_name']}, {row['dtype'].removeprefix('none, ')}",
            "{tokens_per_s:,.0f} · {mib:,.0f} MiB".format_map(row["median"]["stratos"]),
            *(_beside(case, row) for case in BEGINNING_CASES),
        ]
        for row in _cases(BEGINNING)
    ]
    heads = ("rows, precision", "Stratos, tokens per CPU s", *BEGINNING_CASES)
    runs = {len(row["runs"]["stratos"]) for row in _cases(BEGINNING)}
    return (
        f"{table(heads, rows)}\n\nTokens of whole documents. Each cell: Stratos's tokens per CPU "
        f"second over the column's · its rise of peak memory over the column's. Runs of each: "
        f"{span(runs, 'd')}.\n"
        f"{source(BEGINNING)}."
    )


def _cases(name: str) -> list[dict[str, Any]]:
    rows = []
    for case, row in result(name).items():
        shape, _, dtype = case.partition(", ")
        rows.append({**row, "shape_name": shape, "dtype": dtype})
    return rows


def _beside(case: str, row: dict[str, Any]) -> str:
    """Return our speed and memory over a peer's, where it was measured."""
    if case not in row["median"]:
        return NONE
    ratios = row["stratos_times_as_fast_as"][case], row["stratos_memory_over"][case]
    return "{:.2f}× · {:.2f}×".format(*ratios)


def peer_speeds(name: str, cases: tuple[str, ...]) -> str:
    """Return, by precision, how many times as fast as each peer Stratos is over all shapes."""
    by_dtype: dict[str, list[dict[str, float]]] = {}
    for row in _cases(name):
        by_dtype.setdefault(row["dtype"], []).append(row["stratos_times_as_fast_as"])

    def spans(rows: list[dict[str, float]]) -> str:
        return "; ".join(f"{span(row[case] for row in rows if case in row)}×" for case in cases)

    return " · ".join(f"{dtype} {spans(rows)}" for dtype, rows in by_dtype.items())


def cache() -> str:
    """The cache of signals."""
    names = [f"distillation/cache_{name}" for name in ("topk", "sampled")]
    rows = columns(
        map(result, names),
        ("cache", "{settings[cache]}"),
        ("bytes a token", "{bytes_per_token:.0f}"),
        ("tokens per CPU s, teacher asked", "{tokens_per_cpu_s[online]:,.0f}"),
        ("later epoch", "{tokens_per_cpu_s[cache]:,.0f}"),
        ("over the first", "{later_epoch_over_first:.1f}×"),
        ("over asking again", "{cache_over_online:.1f}×"),
        ("reading", "{reading_share:.1%}"),
    )
    return f"{rows}\n\n{source(*names)}."


def decoding() -> str:
    """What direct decoding saves."""
    generation = result("generation")
    slower = ("transformers", "model.generate")
    heads = ("batches by transformers", "`model.generate`")
    rows = columns(
        [{"size": size, **row} for size, row in generation["batches"].items()],
        ("answers at once", "{size}"),
        ("CPU time a token, direct", "{ways[direct][cpu_us_per_token]:.0f} µs"),
        *(
            (head, f"{{ways[{case}][ratio]:.1f}}×")
            for head, case in zip(heads, slower, strict=True)
        ),
        ("same answers", lambda row: f"{min(row['ways'][case]['same'] for case in slower):.0%}"),
    )
    return (
        f"{rows}\n\nA Mahjong student of {generation['parameters'] / 1e6:.1f}M parameters on one "
        "thread; ratios are CPU time against direct decoding (`benchmarks/training/decoding.py`). "
        f"{source('generation')}, load average {load_average('generation')}."
    )


def _over_teacher(row: dict[str, Any]) -> str:
    """Return the lower bound of the ratio; of a teacher that has none right only what it may."""
    if not row["teacher"]["exact"]:
        return f"teacher ≤ {row['teacher']['high']:.3f}"
    return f"≥ {row['ratio_at_least']:.1f} (≤ {row['ratio_bound']:.1f})"


def students() -> str:
    """Every recorded run of an embedded student, and the same without a path."""
    paths = sorted((record.RESULTS / "students").glob("*.json"))
    recorded = {path.stem: record.load(f"students/{path.stem}") for path in paths}
    rows = [
        {"run": name, "made_on": made_on(content), **content["result"]}
        for name, content in recorded.items()
    ]
    tested = (("full flush", "full_flush"), ("general", "general"), ("both", "all"))
    lines = columns(
        rows,
        ("run", "{run}"),
        ("tokens", lambda row: f"{row['train_tokens'] / 1e6:.0f}M"),
        ("validation", "{validation[exact]:.3f}"),
        *((title, lambda row, name=name: share(row["test"][name])) for title, name in tested),
        ("look-up", "{baselines[lookup][exact]:.3f}"),
        ("over the teacher", _over_teacher),
        ("train min", lambda row: f"{row['train_seconds'] / 60:.1f}"),
        ("train CPU s", "{train_cpu_seconds:,.0f}"),
        ("run min", "{times[minutes]:.1f}"),
        ("made on", "{made_on}"),
    )
    return lines


def gsm8k() -> str:
    """A language model before and after it learnt GSM8K."""
    measured = result("gsm8k")
    before = measured["untouched"]
    first = ["nothing", NONE, NONE, _right(before["exact"]), NONE, NONE, "1",
             f"{before['tokens_per_answer']:.0f}", f"{before['cut_off']}", NONE]  # fmt: skip
    heads = ("trained on", "items", "tokens", "exact match", "gained, lost", "p", "times untouched",
             "tokens an answer", "cut off", "CPU min of training")  # fmt: skip
    rows = [_of_arm("the file's solutions, all weights", measured["arms"]["full"], before["exact"])]
    longest = measured["arms"]["full"]["settings"]["max_new_tokens"]
    free = ", ".join(f"{name} {exact:.1%}" for name, exact in before["free"].items())
    return (
        f"{table(heads, [first, *rows])}\n\n{before['exact']['of']:,} questions of the official "
        f"test file, greedy answers of at most {longest} tokens. In brackets: 95% intervals "
        "(Wilson). p: McNemar's exact test against the untouched student. Without a model: "
        f"{free}. An answer that was cut off counts as what was read of it. {source('gsm8k')}, "
        "beside other work."
    )


def _of_arm(title: str, arm: dict[str, Any], before: dict[str, Any]) -> list[str]:
    exact = arm["exact"]
    return [
        title,
        f"{arm['items']:,}",
        f"{arm['tokens']:,}",
        _right(exact),
        f"{arm['gained']}, {arm['lost']}",
        f"{arm['mcnemar_p']:.1g}",
        f"{exact['right'] / before['right']:.1f}",
        f"{arm['tokens_per_answer']:.0f}",
        f"{arm['cut_off']}",
        f"{arm['cpu_seconds']['training'] / 60:.0f}",
    ]


def depth() -> str:
    """Students that have lost their layers, beside the whole ones."""
    lines = columns(
        ({"set": name, **result(f"distillation/depth-{name}")} for name in DEPTH_SETS),
        ("set", "{set}"),
        ("layers", "{shallow[layers][0]} of {shallow[layers][1]}"),
        ("right", "{whole[n_right]} → {shallow[n_right]} of {n_test:,}"),
        ("lost, won", "{lost}, {won}"),
        ("p", "{p_value:.2g}"),
        ("CPU s of training", "{whole[cpu_seconds]:.0f} → {shallow[cpu_seconds]:.0f}"),
        ("of the whole run, trials included", "{whole[cpu_s]:.0f} → {shallow[cpu_s]:.0f}"),
    )
    return f"{lines}\n\n{source(*(f'distillation/depth-{name}' for name in DEPTH_SETS))}."


def fit() -> str:
    """Students whose vocabulary is cut to their rows, beside the whole ones."""
    lines = columns(
        ({"set": title, **result(f"distillation/fit-{name}")} for title, name in FIT_SETS.items()),
        ("student, set", "{set}"),
        ("tokens", "{whole[n_tokens]:,} → {cut[n_tokens]:,}"),
        ("MiB, float32", _of_fit("mib_float32", ".0f")),
        ("CPU s a step", _of_fit("cpu_s_a_step", ".1f")),
        ("CPU ms an answer", _of_fit("cpu_ms_an_answer", ".0f")),
        ("right", "{whole[n_right]} → {cut[n_right]}"),
        ("same weights, same answer", "{equal[trained]} of {n_test}"),
        ("of texts without cut tokens", _equal_of_known),
    )
    return f"{lines}\n\n{source(*(f'distillation/fit-{name}' for name in FIT_SETS.values()))}."


def _of_fit(value: str, form: str) -> Callable[[Mapping[str, Any]], str]:
    """Return what writes a value of the whole and of the cut student, and their ratio."""

    def cell(row: Mapping[str, Any]) -> str:
        whole, cut = row["whole"][value], row["cut"][value]
        return f"{whole:{form}} → {cut:{form}} ({cut / whole:.2f}×)"

    return cell


def _equal_of_known(row: Mapping[str, Any]) -> str:
    n_known = row["n_test"] - row["n_test_of_other_tokens"]
    n_unequal = row["n_test"] - row["equal"]["trained"] - row["unequal_of_other_tokens"]
    return f"{n_known - n_unequal} of {n_known}"


def _right(exact: dict[str, Any]) -> str:
    low, high = (f"{100 * exact[end]:.1f}" for end in ("low", "high"))
    return f"{exact['right']}/{exact['of']} = {exact['right'] / exact['of']:.1%} ({low}–{high})"


BLOCKS = {
    "divergences": divergences,
    "step": step,
    "beginning": beginning,
    "cache": cache,
    "decoding": decoding,
    "students": students,
    "gsm8k": gsm8k,
    "depth": depth,
    "fit": fit,
}
