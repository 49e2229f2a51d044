"""Scale the planned training down for a pilot."""

from __future__ import annotations

import math
from dataclasses import replace

from stratos.config import Config
from stratos.core.by_name import find
from stratos.plan.options.workload import n_labelled
from stratos.plan.problem import Candidate

PARTS = (0.25, 0.5, 1.0)
"""Lengths of the trainings of a pair, as parts of `plan.pilot_tokens`."""
LEAST_ITEMS = 64
"""Items that a corpus has at least: fewer hardly fill a step."""
_WARMUP_PART = 0.05
"""Largest part of the steps that may be warm-up."""
_N_CHECKPOINTS = 4
"""Checkpoints of each training, so that a killed one loses little."""


def lengths(
    config: Config, candidate: Candidate, parts: tuple[float, ...] = PARTS
) -> tuple[int, ...]:
    """Return how many tokens each training of a pair sees, never more than planned."""
    longest = min(config.plan.pilot_tokens, candidate.train_tokens)
    return tuple(sorted({max(1, round(part * longest)) for part in parts}))


def scaled(config: Config, candidate: Candidate, tokens: int) -> Config:
    """Return the config of one short training of a pair.

    Tokens and items shrink by the same factor, so that an item is seen as often as planned; the
    learning rate falls to zero at the end, as it will. A checkpoint on the way of a longer training
    would be another thing: its learning rate is still high.
    """
    part = tokens / candidate.train_tokens
    n_steps = max(1, tokens // config.trainer.batch_tokens)
    strategy = find(config.strategies, candidate.strategy)
    assert strategy is not None, "a candidate is of a configured strategy"
    n_rows = min(strategy.n_items, n_labelled(config) or strategy.n_items)
    n_items = max(LEAST_ITEMS, math.ceil(n_rows * part))
    return replace(
        config,
        students=tuple(one for one in config.students if one.name == candidate.student),
        strategies=(replace(strategy, n_items=min(strategy.n_items, n_items)),),
        trainer=replace(
            config.trainer,
            max_tokens=tokens,
            warmup_steps=min(config.trainer.warmup_steps, math.ceil(_WARMUP_PART * n_steps)),
        ),
        callbacks=replace(
            config.callbacks,
            checkpoint_every_steps=min(
                config.callbacks.checkpoint_every_steps, math.ceil(n_steps / _N_CHECKPOINTS)
            ),
            validate_every_steps=0,
            stop_at_exact=None,
            # Measured once, at its end, so that nothing is chosen and nothing need be held back.
            n_final_validation_items=config.callbacks.n_validation_items,
        ),
    )
