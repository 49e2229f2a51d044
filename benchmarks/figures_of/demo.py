"""The demo of README: what `make demo` printed, without its plan tables."""

from __future__ import annotations

import record

from figures_of.common import source

_STAGES = ("probe ", "plan ", "synthesize ", "distill ", "evaluate ", "deploy ", "report ")


def demo() -> str:
    """Return the lines of the stages, the table of accuracies, and what they come to."""
    lines = (record.RESULTS / "demo.txt").read_text().splitlines()
    stages = [line for line in lines if line.startswith(_STAGES)]
    start = next(i for i, line in enumerate(lines) if line.startswith("Exact match on test items"))
    end = next(i for i, line in enumerate(lines) if line.startswith("Records "))
    found = record.load("demo")["result"]
    told = (
        f"{found['minutes']:.0f} minutes in all, with a little other work on the machine (load "
        f"{found['load_before']:.1f} before it). {source('demo')}."
    )
    return "\n".join(["```text", *stages, *lines[start : end + 1], "```", "", told])


BLOCKS = {"demo": demo}
