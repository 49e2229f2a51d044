"""Figures of docs/contrib/variants.md: variants of GSM8K's training rows."""

from __future__ import annotations

import record

from figures_of.common import source, table

_RESULT = "gsm8k_variants"


def gsm8k_variants() -> str:
    """How many rows give variants, how fast, and what a reader found."""
    found = record.load(_RESULT)["result"]
    n_rows, n_with, read = found["n_rows"], found["n_rows_with_variants"], found["read"]
    rows = [["have variants", f"{n_with:,}", f"{n_with / n_rows:.1%}"]]
    rows += [[reason, f"{n:,}", f"{n / n_rows:.1%}"] for reason, n in found["rows_without"].items()]
    told = (
        f"{found['n_made']:,} variants were made in {found['cpu_s']:.0f} CPU seconds, "
        f"{found['made_per_cpu_s']:.0f} a second with the tracing of all rows; every one verifies. "
        f"Of {read['n']} that were drawn at random and read, {read['n_right']} have a right "
        f"solution and {read['n_sensible']} are problems that somebody could pose. "
        f"({source(_RESULT)}; `benchmarks/gsm8k/variants.py`.)"
    )
    return f"{table([f'training rows ({n_rows:,})', 'rows', 'share'], rows)}\n\n{told}"


BLOCKS = {"gsm8k_variants": gsm8k_variants}
