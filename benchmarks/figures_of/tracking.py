"""Figures of tracking and of the page of a sweep: what they cost."""

from __future__ import annotations

from statistics import median

import record

from figures_of.common import source, table


def tracking() -> str:
    """Write the CPU seconds that each logger adds, and their share of two trainings.

    What comes out below nothing is noise, and written as nothing.
    """
    kept = record.load("tracking")["result"]
    students = [name for name in kept["rows"][0] if name.startswith("stratos_")]
    head = ["loggers", "start and end, CPU s", "a minute, CPU s", "a point, CPU ms"]
    head += [f"share of the training {name}" for name in students]
    rows = [
        [
            one["logger"],
            f"{one['fixed_s']:.2f}",
            f"{max(0.0, one['minute_s']):.2f}",
            f"{one['point_ms']:.2f}",
            *(f"{max(0.0, one[name]):.1%}" for name in students),
        ]
        for one in kept["rows"]
    ]
    return f"{table(head, rows)}\n\n{source('tracking')}; `benchmarks/tracking.py`."


def sweep_page() -> str:
    """Write what the page of many runs takes to make, and each kind of click."""
    kept = record.load("sweep_page")["result"]
    rows = [
        [f"the page of {kept['n_runs']} runs with {kept['n_answers']:,} answers each, CPU s",
         f"{median(kept['cpu_seconds']):.1f}", "5"],
        ["size of the page, MB", f"{kept['bytes'] / 1e6:.1f}", "–"],
    ]  # fmt: skip
    rows += [
        [f"click: {name}, longest of {len(times)}, ms", f"{max(times):.0f}", "100"]
        for name, times in kept["clicks_ms"].items()
    ]
    told = f"{source('sweep_page')}; `benchmarks/sweep_page.py`."
    return f"{table(['what', 'measured', 'target'], rows)}\n\n{told}"


BLOCKS = {"tracking": tracking, "sweep_page": sweep_page}
