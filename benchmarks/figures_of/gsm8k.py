"""Figures of docs/tasks.md: a language model before and after it learnt GSM8K."""

from __future__ import annotations

from typing import Any

import record

from figures_of.common import source, table

NONE = "–"
_SHOWN = {
    "full": "the file's solutions, all weights",
    "adapter": "the file's solutions, an adapter",
    "variants": "variants of its rows, all weights",
    "own": "its own that end in the right answer",
}


def gsm8k() -> str:
    """The untouched student and each arm: items, accuracy, McNemar's test, time."""
    kept = record.load("gsm8k")
    found = kept["result"]
    before = found["untouched"]
    head = ["trained on", "items", "tokens", "exact match", "gained, lost", "p", "times untouched",
            "tokens an answer", "cut off", "CPU min of training"]  # fmt: skip
    first = ["nothing", NONE, NONE, _share(before["exact"]), NONE, NONE, "1",
             f"{before['tokens_per_answer']:.0f}", f"{before['cut_off']}", NONE]  # fmt: skip
    rows = [_of_arm(_SHOWN[name], arm, before["exact"]) for name, arm in found["arms"].items()]
    longest = {arm["settings"]["max_new_tokens"] for arm in found["arms"].values()}
    free = ", ".join(f"{name} {share:.1%}" for name, share in before["free"].items())
    told = (
        f"{before['exact']['of']:,} questions of the official test file, greedy answers of at "
        f"most {max(longest)} tokens. In brackets: 95% intervals (Wilson). p: McNemar's exact test "
        f"against the untouched student. Without a model: {free}. An answer that was cut off "
        f"counts as what was read of it. {source('gsm8k')}, beside other work."
    )
    return f"{table(head, [first, *rows])}\n\n{told}"


def _of_arm(name: str, arm: dict[str, Any], before: dict[str, Any]) -> list[str]:
    if "failed" in arm:
        return [name, f"failed: {arm['failed']}", *[NONE] * 8]
    exact = arm["exact"]
    times = f"{exact['right'] / before['right']:.1f}" if before["right"] else NONE
    return [
        name,
        f"{arm['items']:,}",
        f"{arm['tokens']:,}",
        _share(exact),
        f"{arm['gained']}, {arm['lost']}",
        f"{arm['mcnemar_p']:.1g}",
        times,
        f"{arm['tokens_per_answer']:.0f}",
        f"{arm['cut_off']}",
        f"{arm['cpu_seconds']['training'] / 60:.0f}",
    ]


def _share(exact: dict[str, Any]) -> str:
    low, high = (f"{100 * exact[end]:.1f}" for end in ("low", "high"))
    return f"{exact['right']}/{exact['of']} = {exact['right'] / exact['of']:.1%} ({low}–{high})"


BLOCKS = {"gsm8k": gsm8k}
