"""Figures of kinds of student on real rows."""

from __future__ import annotations

from typing import Any

import record

from figures_of.tables import NONE, source, table

OWN_ROWS = "kinds/own_rows"
EXTRACTION = "kinds/extraction"
TAUGHT = "kinds/taught"
DOUBLING = "kinds/doubling"
NEXT_ROWS = "kinds/next_rows"


def own_rows() -> str:
    """Return what the command makes of real rows, in seconds."""
    kept = record.load(OWN_ROWS)
    head = ("rows", "student", "predicted", "right of unseen rows", "TF-IDF alone",
            "probabilities off by", "served after")  # fmt: skip
    loads = ", ".join(f"{one['load_before']:.1f}" for one in kept["result"])
    return (
        f"{table(head, map(_row, kept['result']))}\n\nOne command each, without settings "
        "(`benchmarks/kinds/own_rows.py`). In brackets: 95% intervals; a prediction that missed is "
        f"marked. {source(OWN_ROWS)}; load before each run: {loads}."
    )


def _row(one: dict[str, Any]) -> list[str]:
    planned, measured = one["predicted"], one["measured"]
    missed = "" if planned["low"] <= measured["mean"] <= planned["high"] else ", missed"
    linear = one["free"].get("linear")
    return [
        f"{one['set']}: {one['n_rows']:,}",
        one["student"],
        f"{planned['mean']:.1%} ({planned['low']:.0%}–{planned['high']:.0%}){missed}",
        f"{measured['mean']:.1%} ({measured['low']:.0%}–{measured['high']:.0%}) of "
        f"{one['n_test']:,}",
        "–" if linear is None else f"{linear:.1%}",
        f"{100 * one['calibration_error']:.1f} points",
        f"{one['served_s']:.0f} s",
    ]


def real_rows() -> str:
    """Return of the same what a reader asks first."""
    head = ("rows", "student", "right of unseen rows (95%)", "TF-IDF alone", "served after")
    rows = [
        [cells[i] for i in (0, 1, 3, 4, 6)] for cells in map(_row, record.load(OWN_ROWS)["result"])
    ]
    unseen = record.load(EXTRACTION)["result"]["invoices"]["test"]
    missed = [
        f"{cells[0]}, {cells[2].partition(',')[0]}"
        for cells in map(_row, record.load(OWN_ROWS)["result"])
        if "missed" in cells[2]
    ]
    return (
        f"{table(head, rows)}\n\n{_bought()}\n\nPredictions that missed: "
        f"{'; '.join(missed) or 'none'}. What fell short: invoices of layouts that no row shows, "
        f"{unseen['exact']:.1%} of {unseen['n']:,}.\n"
        "`benchmarks/kinds/own_rows.py` and `extraction.py`, "
        f"{source(OWN_ROWS)}."
    )


def _bought() -> str:
    """Return in a sentence what a teacher's labels add to some gold ones."""
    run = record.load(TAUGHT)["result"]
    measured = run["measured"]
    return (
        f"banking77, {run['n_gold']} labels and ${run['usd']:.2f} of a large model's "
        f"({run['free']['teacher']:.1%} right): {measured['mean']:.1%} ({measured['low']:.0%}–"
        f"{measured['high']:.0%}) of {run['n_test']:,} (`taught.py`, {source(TAUGHT)})."
    )


def taught() -> str:
    """Return what a teacher's labels add to some gold ones."""
    run = record.load(TAUGHT)["result"]
    planned, measured = run["predicted"], run["measured"]
    missed = "" if planned["low"] <= measured["mean"] <= planned["high"] else ", missed"
    return (
        f"By the command, with {run['n_gold']} gold rows, and the teacher asked for the labels of "
        f"{run['n_rows'] - run['n_gold']:,} others, for ${run['usd']:.3f} in all: "
        f"{measured['mean']:.1%} ({measured['low']:.0%}–{measured['high']:.0%}) of "
        f"{run['n_test']:,} test rows; predicted {planned['mean']:.1%} ({planned['low']:.0%}–"
        f"{planned['high']:.0%}){missed}. The teacher has {run['free']['teacher']:.1%} of its "
        f"share of them, TF-IDF on the same labels {run['free']['linear']:.1%}. Served after "
        f"{run['served_s']:.0f} s with the recorded waiting times, {run['cpu_s']:.0f} CPU s. "
        f"`benchmarks/kinds/taught.py`, {source(TAUGHT)}."
    )


def taggers() -> str:
    """Return what taggers answer right on wordings that rows show, and on others."""
    kept = record.load(EXTRACTION)["result"]
    invoices, addresses = kept["invoices"]["test"], kept["addresses"]
    fit = kept["invoices"]["fit"]
    mine, peers = (
        ", ".join(f"{100 * split[who]['exact']:.1f}" for split in addresses) + "%"
        for who in ("test", "peer")
    )
    rows = [
        [
            f"invoices and mails, {fit['n_rows']:,} rows; {invoices['n']:,} test rows of other "
            "layouts",
            f"{invoices['exact']:.1%} ({100 * invoices['low']:.0f}–{100 * invoices['high']:.0f}); "
            f"cross-validation said {fit['accuracy']:.1%}",
            "the large model that wrote the labels: 96.0%",
        ],
        [
            f"US addresses, {addresses[0]['fit']['n_rows']:,} rows; {addresses[0]['test']['n']:,} "
            "test rows, three splits",
            mine,
            f"usaddress' features in a CRF: {peers}",
        ],
    ]
    off = {"invoices": invoices}
    for name, what in (("reservations", "reservations"), ("orders", "orders with lists")):
        known, unseen = kept[name]["known_templates"], kept[name]["unseen_templates"]
        n = kept[name]["fit"]["n_rows"]
        right = f"{known['exact']:.1%}, {unseen['exact']:.1%}"
        rows.append([f"{what}, {n:,} rows; known wordings, others", right, NONE])
        off[name] = unseen
    points = [100 * (one["mean_probability"] - one["exact"]) for one in off.values()]
    return (
        f"{table(('set', 'right of unseen rows', 'beside it'), rows)}\n\nMissed: on wordings that "
        f"no row shows, probabilities are {min(points):.0f} to {max(points):.0f} points too high.\n"
        f"{source(EXTRACTION)}."
    )


def doubling() -> str:
    """Return how often what twice the rows bring was inside what was said before."""
    sizes = record.load(DOUBLING)["result"]["sizes"]
    head = ("rows → twice as many", "trials", "inside the interval", "came short of it", "width",
            "gain")  # fmt: skip
    rows = [
        [
            f"{int(n):,} → {2 * int(n):,}",
            f"{one['n']}",
            f"{one['n_within']} of {one['n']}",
            f"{one['n_below']}",
            f"{100 * one['median_width']:.1f} points",
            f"{100 * one['median_gain']:.1f} points",
        ]
        for n, one in sizes.items()
    ]
    predicted = "; ".join(
        f"{int(n):,} rows: inside in {one['n_accuracy_within']} of {one['n']}, "
        f"{100 * one['median_accuracy_width']:.0f} points wide, on average "
        f"{100 * one['mean_accuracy_above']:+.1f} points from what was reached"
        for n, one in sizes.items()
    )
    return (
        f"{table(head, rows)}\n\nThe accuracy itself, as predicted with its 95% interval: "
        f"{predicted}.\n`benchmarks/kinds/doubling.py`, {source(DOUBLING)}."
    )


def next_rows() -> str:
    """Return what labels of named rows bring beside as many of random ones."""
    result = record.load(NEXT_ROWS)["result"]
    by_size = result["sets"]
    names = dict.fromkeys(name for sets in by_size.values() for name in sets)
    head = ("set", *(f"{n} known rows: named − random" for n in by_size))
    rows = [
        [name, *(_difference(sets[name]) if name in sets else NONE for sets in by_size.values())]
        for name in names
    ]
    ahead = "; ".join(
        f"with {n} known rows in {sum(one['difference'] > 0 for one in sets.values())} of "
        f"{len(sets)} sets, on average by "
        f"{100 * sum(one['difference'] for one in sets.values()) / len(sets):+.1f} points"
        for n, sets in by_size.items()
    )
    return (
        f"{table(head, rows)}\n\nPoints, mean and standard error of paired draws, and draws in "
        f"which named rows were better. {result['n_next']} named rows are ahead {ahead}. "
        f"`benchmarks/kinds/next_rows.py`, {source(NEXT_ROWS)}."
    )


def _difference(one: dict[str, Any]) -> str:
    return (
        f"{100 * one['difference']:+.1f} ± {100 * one['standard_error']:.1f} "
        f"({one['n_better']} of {one['n']})"
    )


BLOCKS = {
    "doubling": doubling,
    "next_rows": next_rows,
    "own_rows": own_rows,
    "taught": taught,
    "real_rows": real_rows,
    "taggers": taggers,
}
