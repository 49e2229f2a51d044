"""Figures of docs/planner.md: time and memory of a plan, its gain, and SkyPilot beside it."""

from __future__ import annotations

import record

from figures_of.common import source, table

CASES = {
    "real-cold": "90,000 rows, catalog cold",
    "real-warm": "90,000 rows, catalog warm",
    "million": "1,000,000 synthetic offers, in memory",
    "private": "3,700 private nodes, 3 students, 2,000 requests/s",
    "real-rate": "90,000 rows, 20 requests/s in 3 sizes",
}
OBJECTIVES = {
    "accuracy_first": "accuracy-first",
    "cost_first": "cost-first",
    "fastest": "fastest",
    "lowest_latency": "lowest latency",
}


def scale() -> str:
    """CPU seconds and memory of plans: `planner/scale.py`."""
    rows = []
    for name, one in record.load("planner/scale")["result"].items():
        missed = ", missed" if one["total"] > one["target"] else ""
        rows.append(
            [
                CASES.get(name, name),
                *(f"{one[part]:.2f}" for part in ("catalog", "problem", "frontier", "plan")),
                f"{one['total']:.1f}",
                f"{one['by the clock']:.1f} s",
                f"{one['target']:g} s{missed}",
                f"{one['peak MiB']:,} MiB",
                f"{one['points']:,}",
            ]
        )
    head = (
        "case",
        "catalog",
        "problem",
        "frontier",
        "plan",
        "total",
        "wall clock",
        "target",
        "peak",
        "plans on the frontier",
    )
    return table(head, rows) + f"\n\n{source('planner/scale')}."


def peers() -> str:
    """SkyPilot's integer program beside ours: `planner/peers.py`."""
    rows = [
        [
            one["shape"],
            str(one["offers"]),
            "did not finish" if one["theirs_usd"] is None else f"{one['theirs_s']:.2f} s",
            f"{one['ours_s']:.3f} s",
            "–" if one["theirs_usd"] is None else f"{one['theirs_usd'] - one['ours_usd']:+.4f}",
        ]
        for one in record.load("planner/peers")["result"]
    ]
    head = ("tasks", "offers a task", "SkyPilot", "Stratos", "difference between the optima, $")
    return table(head, rows) + f"\n\n{source('planner/peers')}."


def gains() -> str:
    """What the joint choice gains in the paper's score: `planner/scenarios.py`."""
    summary = record.load("planner/scenarios")["result"]["summary"]
    n, n_from_memory = summary["fates"]["feasible"], summary["from_memory"]
    rows = []
    for plan, said in (("highest_score", "highest score"), ("balanced", "`balanced`")):
        for other, name in OBJECTIVES.items():
            one = summary[plan][other]
            low, high = one["lower_quartile"], one["upper_quartile"]
            rows.append(
                [
                    said,
                    name,
                    f"{one['median']:.1%}",
                    f"{100 * low:.1f}–{100 * high:.1f}%",
                    f"{one['worst']:.1%}",
                    f"{one['lower']}",
                    f"{one['at_least_22_percent']:.0%}",
                ]
            )
    head = ("plan", "against", "median", "quartiles", "worst", "lower in", "at least 22% in")
    return (
        f"{n} of {summary['n']} scenarios have a plan; {n_from_memory} of these use accuracies "
        f"that were not measured here.\n\n{table(head, rows)}\n\n{source('planner/scenarios')}."
    )


BLOCKS = {"planner_scale": scale, "planner_peers": peers, "planner_gains": gains}
