"""Figures of drift: false alarms, and what is found."""

from __future__ import annotations

import record

from figures_of.common import source, table


def drift() -> str:
    """Write how many checks alarm, without a change and with a part of the live requests spoilt."""
    kept = record.load("drift")["result"]
    names = {"": "nothing", "unread": "answers unreadable", "reworded": "questions reworded"}
    rows = [
        [
            f"{one['n_evaluated']:,} / {one['n_live']:,}",
            names[one["change"]] + (f", {one['share']:.0%} of them" if one["share"] else ""),
            f"{one['n_alarms']} of {one['n_checks']}",
            f"{one['low']:.1%} to {one['high']:.1%}",
        ]
        for one in kept["rows"]
    ]
    head = ["test items / live requests", "changed", "alarms", "95% interval"]
    return f"{table(head, rows)}\n\n`--alpha {kept['alpha']:g}`, Mahjong; {source('drift')}."


BLOCKS = {"drift": drift}
