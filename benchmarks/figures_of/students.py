"""Figures of the embedded students: `benchmarks/students.py`."""

from __future__ import annotations

from typing import Any

import record

from figures_of.common import processor, source, table


def runs(*, bare: bool) -> dict[str, dict[str, Any]]:
    """Return the kept runs by name: those with a reasoning path, or those without."""
    names = sorted(path.stem for path in (record.RESULTS / "students").glob("*.json"))
    return {n: record.load(f"students/{n}") for n in names if ("-bare-" in n) == bare}


def _share(one: dict[str, Any]) -> str:
    return f"{one['exact']:.3f} ({one['low']:.3f}–{one['high']:.3f})"


def _row(name: str, kept: dict[str, Any]) -> list[str]:
    one = kept["result"]
    times = one["times"] or {}
    gemm = times.get("gemm_cpu_seconds")
    teacher = one["teacher"]
    return [
        name,
        f"{one['train_tokens'] / 1e6:.0f}M",
        f"{one['validation']['exact']:.3f}",
        *(_share(one["test"][name]) for name in ("full_flush", "general", "all")),
        f"{one['baselines']['lookup']['exact']:.3f}" if "lookup" in one["baselines"] else "–",
        f"{one['ratio_at_least']:.1f} (≤ {one['ratio_bound']:.1f})" if teacher else "–",
        f"{one['train_seconds'] / 60:.1f}",
        f"{one['train_cpu_seconds']:,.0f}",
        f"{one['train_cpu_seconds'] / gemm:,.0f}" if gemm else "–",
        f"{times['minutes']:.1f}" if times else "–",
    ]


HEAD = (
    "run",
    "tokens",
    "validation",
    "full flush",
    "general",
    "both",
    "look-up",
    "ratio ≥",
    "train min",
    "train CPU s",
    "in matrix products",
    "run min",
)


def students() -> str:
    """Every kept run of an embedded student, and the same without a path."""
    rows = [_row(name, kept) for name, kept in runs(bare=False).items()]
    rows += [_row(name, kept) for name, kept in runs(bare=True).items()]
    kept = next(iter(runs(bare=False).values()))
    dates = sorted({one["date"] for one in (runs(bare=False) | runs(bare=True)).values()})
    return table(HEAD, rows) + f"\n\n{processor(kept)}, {kept['cores']} cores, {dates[-1]}."


def ablation() -> str:
    """The same student, items and tokens with the path and with the bare answer."""
    with_path = {(k["result"]["student"], k["seed"]): k for k in runs(bare=False).values()}
    rows = []
    for kept in runs(bare=True).values():
        bare = kept["result"]
        other = with_path[bare["student"], kept["seed"]]["result"]
        rows.append(
            [
                f"{bare['student']}, seed {kept['seed']}",
                *(
                    f"{_share(one['test'][name])}"
                    for name in ("full_flush", "general")
                    for one in (other, bare)
                ),
            ]
        )
    head = ("", "full flush: path", "bare answer", "general: path", "bare answer")
    return table(head, rows)


def asked_to_reason() -> str:
    """The embedded teacher with room to reason: `teacher_reasoning.py`."""
    said = {
        "own_words": "step by step in its own words, with the rules",
        "worked": "two worked examples of the path that students learn",
    }
    found = record.load("teacher_reasoning")["result"]
    rows = [
        [
            said[name],
            f"{len(one['right'])} of {one['n_items']} ({100 * one['low']:.0f}–"
            f"{100 * one['high']:.1f}%)",
            f"{one['names_an_answer']:.0%}",
            f"{one['tokens_an_answer']:.0f}",
            str(one["n_cut"]),
        ]
        for name, one in found["ways"].items()
    ]
    head = ("prompt", "right", "names tiles", "tokens an answer", f"cut at {found['max_tokens']}")
    return f"{table(head, rows)}\n\n{source('teacher_reasoning')}, {found['split']} items."


BLOCKS = {"students": students, "ablation": ablation, "asked_to_reason": asked_to_reason}
