"""The divergences that an objective may have, from their own table."""

from __future__ import annotations

from stratos.distill.divergences import DIVERGENCES, Divergence


def table() -> str:
    """Return a row for each divergence: its name, what it is, its parameters, where it is from."""
    rows = [
        f"| `{one.name}` | {one.formula} | {_parameters(one)} | {one.source} |"
        for one in DIVERGENCES.values()
    ]
    return "\n".join(["| divergence | is | parameters | source |", "|---|---|---|---|", *rows])


def _parameters(one: Divergence) -> str:
    told = [f"`{p.name}` {p.low:g} to {p.high:g} ({p.default:g})" for p in one.parameters]
    return ", ".join(told) or "–"


BLOCKS = {"divergences": table}
