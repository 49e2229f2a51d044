"""Figures of docs/contrib/tools.md: calls beside the checker of the package bfcl-eval."""

from __future__ import annotations

import record

from figures_of.tables import table

AGAINST_SCHEMA = "the metric: the value is not one of the `enum`, or not of the `format`"
RIGHT = {
    "only the metric: a whole number as a float": "the metric: 2.0 is an integer in JSON Schema",
    "only the package: other case, against the tool's schema": AGAINST_SCHEMA,
    "only the package: other spaces, against the tool's schema": AGAINST_SCHEMA,
    "only the package: other punctuation, against the tool's schema": AGAINST_SCHEMA,
    "only the metric: an optional argument less": "the metric: the schema's default is the right "
    "value",
    "only the metric: other order": "the metric: a call fits two gold calls, and the package pairs "
    "greedily",
    "only the package: other punctuation": "open: a sign behind a single word counts here (`a?`), "
    "and not in the package",
}
"""Kind of disagreement to who is right, and why."""


def tool_calls() -> str:
    """How far both checkers agree."""
    kept = record.load("tools")
    judged = kept["result"]
    kinds = sorted(judged["kinds"].items(), key=lambda pair: -pair[1])
    same, n_same = judged["by_change"]["as it is"]
    rows = table(
        ("called right by one alone", "answers", "who is right, and why"),
        [(kind, f"{n:,}", RIGHT[kind]) for kind, n in kinds],
    )
    return (
        f"{sum(judged['n_items'].values()):,} single-turn items of "
        f"{kept['wheel'].split('-py3')[0]} (Python; {judged['n_refused']} could not be read), "
        f"{judged['n_judged']:,} answers: its own right ones, and changes of them. Both judge "
        f"{judged['n_agreed']:,} alike ({judged['n_agreed'] / judged['n_judged']:.1%}). Of the "
        f"unchanged answers: {same:,} of {n_same:,}.\n\n{rows}\n\n{kept['date']}; each one is in "
        "`benchmarks/results/tools.json`."
    )


BLOCKS = {"tool_calls": tool_calls}
