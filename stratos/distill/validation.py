"""Validation items: a few during training for model selection, more at the end.

The measurements during a training choose the step whose weights are kept, and the best of several
is too high on average. So the kept weights are measured once more, first of all on items that chose
nothing: that figure is the student's validation accuracy, on which later plans rest.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from stratos.config import Config
from stratos.tasks.base import Item

_LEAST_SECONDS = 30.0
_SHARE_OF_TRAINING = 0.1
"""Longest time of the last measurement, as a part of the training's; never below the least."""


class _TimeIsUpError(Exception):
    """Answers take longer than they may."""


@dataclass(frozen=True)
class Validated:
    """What the kept weights reach on validation items."""

    exact: float
    n_items: int
    n_reused: int
    """How many of the items also chose the weights."""
    n_choosing: int
    """Items by which the weights were chosen."""


def final_items(config: Config) -> tuple[list[Item], int]:
    """Return the items of the last measurement, and how many of them lie at its end and are reused.

    Those that chose the weights come last, so that they are asked only where there are no others.
    """
    n_choosing = config.callbacks.n_validation_items
    found = config.task.items("validation", config.callbacks.n_validation_read)
    items = [*found[n_choosing:], *found[:n_choosing]][: config.callbacks.n_final]
    return items, max(0, len(items) - len(found[n_choosing:]))


def validate_kept(
    config: Config,
    model: Any,
    tokenizer: Any,
    training_seconds: float,
    tick: Callable[[int, int], None] = lambda done, total: None,
) -> Validated:
    """Measure the kept weights on as many items as the time allows, a batch at least.

    Args:
        config: of the run.
        model: with the weights that are kept.
        tokenizer: its tokenizer.
        training_seconds: how long the training took.
        tick: called with (done, total).
    """
    import torch

    model.to("cuda" if torch.cuda.is_available() else "cpu")
    items, n_reused = final_items(config)
    end = time.monotonic() + max(_LEAST_SECONDS, _SHARE_OF_TRAINING * training_seconds)
    right: list[float] = []

    def poll() -> None:
        if right and time.monotonic() > end:
            raise _TimeIsUpError

    for start in range(0, len(items), config.evaluate.batch_size):
        batch = items[start : start + config.evaluate.batch_size]
        try:
            right += right_of(config, model, tokenizer, batch, poll)
        except _TimeIsUpError:
            break
        tick(len(right), len(items))
    n_again = max(0, len(right) - (len(items) - n_reused))
    n_choosing = len(config.task.items("validation", config.callbacks.n_validation_items))
    return Validated(sum(right) / len(right), len(right), n_again, n_choosing)


def right_of(
    config: Config,
    model: Any,
    tokenizer: Any,
    items: Sequence[Item],
    poll: Callable[[], None],
    max_new_tokens: int | None = None,
    choose_threads: bool = True,
) -> list[float]:
    """Return 1 or 0 for each item; answers are as long as in the evaluation, or as told."""
    from stratos.models.decode.batched import complete
    from stratos.models.decode.decoder import Decoder, Decoding

    completions = complete(
        model,
        tokenizer,
        [config.task.student_messages(item) for item in items],
        max_new_tokens=max_new_tokens or config.evaluate.max_new_tokens,
        batch_size=config.evaluate.batch_size,
        poll=poll,
        choose_threads=choose_threads,
        decoding=Decoding(Decoder(config.evaluate.decoder)),
    )
    return [
        config.task.score(completion.text, item).exact
        for completion, item in zip(completions, items, strict=True)
    ]
