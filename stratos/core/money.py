"""How dollars are written in messages and tables; `formats.usd` writes them on a page."""

from __future__ import annotations


def cents(value: float) -> str:
    """Write dollars and cents, as a table of the plan has them: "$1,234.50"."""
    return f"${value:,.2f}"


def exact_usd(value: float) -> str:
    """Write dollars as the ledger counts them, to a hundredth of a cent: "$0.0123"."""
    return f"${value:.4f}"
