"""Figures of docs/accuracy.md: predicted accuracies and their intervals."""

from __future__ import annotations

import record

from figures_of.common import source, table


def accuracy_coverage() -> str:
    """How often intervals of predicted accuracies hold: `planner/calibration.py`."""
    kept = record.load("planner/accuracy")
    learners = {
        "simulated": "simulated",
        "softmax_regression": "softmax (10 clouds)",
        "many_steps": "many steps",
        "network": "network",
        "memory": "nearest neighbour",
    }
    found = {name: kept["result"][name] for name in learners}
    lines = [
        f"| prediction from | {' | '.join(learners.values())} |",
        f"|---|{'---|' * len(learners)}",
    ]
    for row in found["simulated"]:
        cells = [
            f"{of[row]['in_95']:.1%} · {of[row]['in_80']:.1%} · {of[row]['width_95']:.2f} · "
            f"{of[row]['in_95_of_60_items']:.1%}"
            for of in found.values()
        ]
        lines.append(f"| {row} | {' | '.join(cells)} |")
    seconds = kept["result"]["cpu_seconds"]
    n_seeds = kept["result"]["n_seeds"]
    return "\n".join(
        [
            *lines,
            "",
            f"{n_seeds} tasks each; {kept['machine']}, {kept['date']}, {seconds} CPU seconds.",
        ]
    )


def accuracy_recorded() -> str:
    """Recorded runs of shipped students, each predicted from the others."""
    rows = record.load("planner/accuracy")["result"]["recorded"]
    lines = [
        "| run left out | the others predict | as its test items may show it | they showed |",
        "|---|---|---|---|",
    ]
    for one in rows:
        mean, low, high = one["predicted"]
        held = "" if one["is_held"] else ", missed"
        lines.append(
            f"| {one['student']}, seed {one['seed']} | {mean:.3f} ({low:.3f} to {high:.3f}), from "
            f"{one['n_others']} | {one['shown'][0]:.3f} to {one['shown'][1]:.3f} | "
            f"{one['measured']:.3f} of {one['n_items']:,}{held} |"
        )
    return "\n".join(lines)


def decoding() -> str:
    """What direct decoding saves: `generation.py`."""
    kept = record.load("generation")
    found = kept["result"]["batches"]
    rows = []
    for size, one in found.items():
        ways = one["ways"]
        others = ("transformers", "model.generate")
        slower = [f"{ways[name]['ratio']:.1f}×" for name in others]
        same = min(way["same"] for way in ways.values())
        rows.append([size, f"{ways['direct']['cpu_us_per_token']:.0f} µs", *slower, f"{same:.0%}"])
    head = (
        "answers at once",
        "CPU time a token, direct",
        "batches by transformers",
        "`model.generate`",
        "same answers",
    )
    n = kept["result"]["parameters"] / 1e6
    return "\n\n".join(
        [
            table(head, rows),
            f"A Mahjong student of {n:.1f}M parameters on one thread; ratios are CPU time against "
            f"direct decoding (`benchmarks/generation.py`). {source('generation')}, load average "
            f"{kept['load_average']:.0f}.",
        ]
    )


def own_texts() -> str:
    """What a training step on the student's own texts takes: `on_policy.py`."""
    kept = record.load("on_policy")
    found = kept["result"]
    rows = [
        [
            f"`{name}`",
            f"{one['cpu_s_per_step']:.2f} s",
            f"{one['generation_share']:.0%}",
            f"{one['cpu_us_per_token']:.0f} µs",
        ]
        for name, one in found["decoders"].items()
    ]
    head = ("`evaluate.decoder`", "CPU time a step", "of it generation", "CPU time a token")
    tokens = found["settings"]["batch_tokens"]
    return "\n\n".join(
        [
            table(head, rows),
            f"Steps of {tokens:,} tokens, all of them a Mahjong student's own texts, with a "
            "teacher of its size, on one thread (`benchmarks/on_policy.py`). "
            f"{source('on_policy')}, load average {kept['load_average']:.0f}.",
        ]
    )


BLOCKS = {
    "accuracy_coverage": accuracy_coverage,
    "accuracy_recorded": accuracy_recorded,
    "decoding": decoding,
    "own_texts": own_texts,
}
