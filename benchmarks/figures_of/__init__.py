"""What each block of figures says, from the raw results: see `figures.py`."""

from __future__ import annotations

from collections.abc import Callable

from figures_of import (
    accuracy,
    attack,
    cascade,
    demo,
    distillation,
    divergences,
    drift,
    estimate,
    executors,
    gallery,
    gsm8k,
    gym,
    logs,
    own_data,
    planning,
    running,
    serving,
    students,
    summary,
    tool_calls,
    tool_students,
    tracking,
    tutorials,
    variants,
)

BLOCKS: dict[str, Callable[[], str]] = {
    **accuracy.BLOCKS,
    **attack.BLOCKS,
    **cascade.BLOCKS,
    **demo.BLOCKS,
    **distillation.BLOCKS,
    **divergences.BLOCKS,
    **drift.BLOCKS,
    **estimate.BLOCKS,
    **executors.BLOCKS,
    **gallery.BLOCKS,
    **gsm8k.BLOCKS,
    **gym.BLOCKS,
    **logs.BLOCKS,
    **own_data.BLOCKS,
    **planning.BLOCKS,
    **running.BLOCKS,
    **serving.BLOCKS,
    **students.BLOCKS,
    **summary.BLOCKS,
    **tool_calls.BLOCKS,
    **tool_students.BLOCKS,
    **tracking.BLOCKS,
    **tutorials.BLOCKS,
    **variants.BLOCKS,
}
