"""How dollars are written in messages and tables; `formats.usd` writes them on a page."""

from __future__ import annotations

import math


def cents(value: float) -> str:
    """Write dollars and cents, as a table of the plan has them: "$1,234.50"."""
    return f"${value:,.2f}"


def fine_usd(value: float) -> str:
    """Write dollars like `exact_usd`, an amount below a cent with two digits: "$0.000012"."""
    if not 0 < value < 0.01:
        return exact_usd(value)
    return f"${value:.{max(4, 1 - math.floor(math.log10(value)))}f}"


def exact_usd(value: float) -> str:
    """Write dollars as the ledger counts them, to a hundredth of a cent: "$0.0123"."""
    return f"${value:.4f}"
