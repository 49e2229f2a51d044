"""What the commands of the tutorials printed: all of it, and of a run the lines that matter."""

from __future__ import annotations

from functools import partial
from typing import Any

import record

from figures_of.common import source

FOLDER = "tutorials"
_STAGES = ("probe ", "plan ", "synthesize ", "distill ", "evaluate ", "deploy ", "report ")
_ACCURACIES = "Exact match "
_VERDICT = ("Distil", "Don't distil", "Open")


def printed(name: str, figure: str) -> str:
    """Return what a block printed, with machine and minutes where it took one or more."""
    kept = record.load(name)
    one = kept["result"][figure]
    lines = _excerpt(one["printed"].splitlines())
    shown = ["```text", *lines, "```"]
    if one["minutes"] >= 1:
        busy = (
            ", with other work on the machine" if kept["load_average"] > kept["cores"] + 1 else ""
        )
        shown += ["", f"{source(name)}; {one['minutes']:.0f} minutes{busy}."]
    return "\n".join(shown)


def _excerpt(lines: list[str]) -> list[str]:
    """Return of a run its stages, its verdict, and all from the accuracies on; else all lines."""
    if not any(line.startswith("plan ") for line in lines):
        return lines
    told = (*_STAGES, *_VERDICT)
    head = [one for one in lines if one.startswith(told) and "still at work" not in one]
    start = next(i for i, line in enumerate(lines) if line.startswith(_ACCURACIES))
    return [*head, *(line for line in lines[start:] if line not in head)]


def _blocks() -> dict[str, Any]:
    found: dict[str, Any] = {}
    for path in sorted((record.RESULTS / FOLDER).glob("*.json")):
        name = f"{FOLDER}/{path.stem}"
        for figure in record.load(name)["result"]:
            if not figure.startswith("block "):
                found[figure] = partial(printed, name, figure)
    return found


BLOCKS = _blocks()
