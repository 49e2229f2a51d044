"""The runs of docs/gallery.md: a picture, the report, and what made it."""

from __future__ import annotations

from functools import partial
from typing import Any

import record


def shown(name: str) -> str:
    """Return the picture of a run, the link to its report, its command, date and accuracy."""
    kept = record.load("gallery")
    one = kept["result"][name]
    right = f"{one['exact']:.1%} ({one['low']:.1%} to {one['high']:.1%})"
    return (
        f"[![The report of {name}](gallery/{name}.png)](gallery/{name}.html)\n\n"
        f"Student: {right} of {one['n_items']:,} test items. "
        f"[The report](gallery/{name}.html) ({one['size_kb']:,} kB), {one['date']}:\n\n"
        f"    {one['command']}"
    )


def _blocks() -> dict[str, Any]:
    try:
        found = record.load("gallery")["result"]
    except FileNotFoundError:
        return {}
    return {f"gallery_{name}": partial(shown, name) for name in found}


BLOCKS = _blocks()
