"""Which stages of a run are made, and whose records are read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from stratos.config import Config
from stratos.run.resume import Stage


def asked_stages(config: Config, stages: Sequence[Stage[Any]]) -> frozenset[str]:
    """Return the stages that are asked for, and those that come with one of them."""
    parts = {one.name for one in stages if one.is_part_of in config.stages}
    return frozenset({*config.stages, *parts} - _switched_off(config, stages))


def needed_stages(config: Config, stages: Sequence[Stage[Any]]) -> frozenset[str]:
    """Return the stages that are asked for, and those whose records they take."""
    needed = set(asked_stages(config, stages))
    for stage in reversed(stages):
        if stage.name in needed:
            needed |= {*stage.after, *stage.uses}
    return frozenset(needed - _switched_off(config, stages))


def _switched_off(config: Config, stages: Sequence[Stage[Any]]) -> frozenset[str]:
    return frozenset(stage.name for stage in stages if not stage.is_on(config))
