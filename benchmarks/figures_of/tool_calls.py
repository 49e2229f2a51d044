"""Figures of docs/contrib/tools.md: the metric of tool calls beside the checker of bfcl-eval."""

from __future__ import annotations

import record

WHY = {
    "only the metric: a whole number as a float": (
        "the metric",
        "2.0 is an integer in JSON Schema",
    ),
    "only the package: other case, against the tool's schema": (
        "the metric",
        "the value is not one of the `enum`, or not of the `format`",
    ),
    "only the package: other spaces, against the tool's schema": (
        "the metric",
        "the value is not one of the `enum`, or not of the `format`",
    ),
    "only the package: other punctuation, against the tool's schema": (
        "the metric",
        "the value is not one of the `enum`, or not of the `format`",
    ),
    "only the metric: an optional argument less": (
        "the metric",
        "the schema's default is the right value",
    ),
    "only the metric: other order": (
        "the metric",
        "a call fits two gold calls, and the package pairs greedily",
    ),
    "only the package: other punctuation": (
        "open",
        "a sign behind a single word counts here (`a?`), and not in the package",
    ),
}
"""Kind of disagreement to who is right, and why."""


def tool_calls() -> str:
    """How far both agree: `tools.py`."""
    kept = record.load("tools")
    found = kept["result"]
    n_items = sum(found["n_items"].values())
    lines = [
        f"{n_items:,} single-turn items of {kept['wheel'].split('-py3')[0]} (Python; "
        f"{found['n_refused']} could not be read), {found['n_judged']:,} answers: its own right "
        f"ones, and changes of them. Both judge {found['n_agreed']:,} alike "
        f"({found['n_agreed'] / found['n_judged']:.1%}). Of the unchanged answers: "
        f"{found['by_change']['as it is'][0]:,} of {found['by_change']['as it is'][1]:,}.",
        "",
        "| called right by one alone | answers | who is right, and why |",
        "|---|---|---|",
    ]
    for kind, n in sorted(found["kinds"].items(), key=lambda pair: -pair[1]):
        who, why = WHY[kind]
        lines.append(f"| {kind} | {n:,} | {who}: {why} |")
    return "\n".join(
        [*lines, "", f"{kept['date']}; each one is in `benchmarks/results/tools.json`."]
    )


BLOCKS = {"tool_calls": tool_calls}
