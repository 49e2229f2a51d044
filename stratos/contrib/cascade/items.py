"""Which items measure a cascade, and whether those that choose its threshold are enough.

Each slice has the share that it has among all test items (`natural_shares`).
"""

from __future__ import annotations

from collections.abc import Collection

from stratos.config import Config
from stratos.contrib.cascade.config import CascadeConfig
from stratos.contrib.cascade.looks import level
from stratos.contrib.cascade.natural_shares import in_shares, natural
from stratos.contrib.cascade.threshold import n_needed
from stratos.core.counted import counted
from stratos.core.errors import StratosError
from stratos.core.formats import percent
from stratos.records import Scorecard
from stratos.tasks.base import Item, slices_of


def measuring_items(
    config: Config, scorecard: Scorecard, answered: Collection[str]
) -> tuple[list[Item], float]:
    """Return test items that the teacher answered, each slice in its share, and what is left."""
    n, seed = config.evaluate.n_items, scorecard.seed
    items = [item for item in config.task.items("test", n, seed) if item.id in answered]
    slice_of = slices_of(config.task, "test", n, seed)
    drawn = in_shares(slice_of, [item.id for item in items], len(items))
    return natural(items, drawn), drawn.left_out


def check_enough(n: int, options: CascadeConfig, look: int, left_out: float) -> None:
    """Refuse a promise that so few items cannot show, before anybody is asked.

    Args:
        n: items that choose.
        options: the promise.
        look: which it is of the run.
        left_out: share of requests that count as wrong.

    Raises:
        StratosError: even if all of them were answered right.
    """
    accuracy, confidence = options.accuracy, options.confidence
    assert accuracy is not None
    least = n_needed(1.0, accuracy / (1 - left_out), level(1 - confidence, look))
    if least is None or n < least:
        most = "no number shows that" if least is None else f"at least {least:,} are needed"
        raise StratosError(
            f"cascade.accuracy={accuracy:g} cannot be promised with {percent(confidence, 0)} "
            f"confidence: there are {counted(n, 'item')} to choose a threshold by, and {most}, all "
            "answered right. Give more validation rows (cascade.n_items, cascade.teacher_usd), let "
            "the training measure on fewer (callbacks.n_final_validation_items), or promise less."
        )
