"""Figures of the page of a sweep: what it costs."""

from __future__ import annotations

from statistics import median

import record

from figures_of.common import source, table


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


BLOCKS = {"sweep_page": sweep_page}
