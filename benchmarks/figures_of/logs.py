"""Figures of logs: what the checks find, and what a large log takes."""

from __future__ import annotations

import record

from figures_of.common import source, table


def log_filters() -> str:
    """Each way to spoil an answer, and how many its check finds: `logs.py filters`."""
    kept = record.load("logs/filters")["result"]["logs"]
    head = ["spoilt", *(f"found, {one['share']:.1%} of the rows each" for one in kept)]
    rows = []
    for number, kind in enumerate(kept[0]["kinds"]):
        found = [one["kinds"][number] for one in kept]
        rows.append(
            [kind["kind"], *(f"{one['found_by_any_check']}/{one['spoilt']}" for one in found)]
        )
    rows.append(["nothing, and found all the same", *(f"{one['found_unspoilt']}" for one in kept)])
    return f"{table(head, rows)}\n\n{source('logs/filters')}."


def log_personal() -> str:
    """Each kind of personal data, planted and found: `logs.py filters`."""
    kept = record.load("logs/filters")["result"]["personal"]
    rows = [[one["kind"], f"{one['found']}/{one['planted']}", f"{one['wrongly']}"] for one in kept]
    return table(["planted", "found", "found where it is not"], rows)


def log_size() -> str:
    """Rows, CPU seconds and memory of a log: `logs.py size`."""
    whole = record.load("logs/size")
    kept = whole["result"]
    rows = [
        [
            f"`{one['what']}`",
            f"{one['rows']:,}",
            f"{one['file_mib']:,.0f}",
            f"{one['cpu_s']:.1f}",
            f"{one['wall_s']:.1f}",
            f"{one['peak_mib']:,.0f}",
        ]
        for one in kept
    ]
    head = ["command", "rows", "MiB", "CPU s", "s", "peak MiB"]
    load = f"with other work: load of {whole['load_average']:.0f}"
    return f"{table(head, rows)}\n\n{source('logs/size')}, {load}."


BLOCKS = {"log_filters": log_filters, "log_personal": log_personal, "log_size": log_size}
