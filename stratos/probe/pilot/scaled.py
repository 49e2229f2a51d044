"""Scale the planned training down for a pilot.

An automatic pilot keeps within its time limit. That counts its own work: on a busy machine it
takes longer by the wall clock, and measures the same.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from stratos.config import Config
from stratos.core.machine import WorkClock, slowness_now
from stratos.core.names import find
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
    n_rows = min(strategy.n_items, n_labelled(config.task) or strategy.n_items)
    n_items = max(LEAST_ITEMS, math.ceil(n_rows * part))
    return replace(
        config,
        students=tuple(student for student in config.students if student.name == candidate.student),
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


PATIENCE = 1.5
"""How much longer than it may take a training under way is let go on."""


@dataclass
class Pace:
    """Time that is left for trainings, and how much slower than expected they have been."""

    seconds: float
    """What all of them may take."""
    estimate: Callable[[Candidate, int], float]
    """Seconds of a pair's training of so many tokens on this machine, if it is not busy."""
    clock: Callable[[], float] = field(default_factory=WorkClock)
    """Seconds so far: of own work, or of the wall clock where a deadline counts them."""
    expected: float = 0.0
    """Seconds that the trainings so far were expected to take."""
    slowness_now: Callable[[], float] = lambda: min(slowness_now(), 1 / WorkClock.LEAST_SHARE)
    """How many seconds of the wall clock pass now in one of `clock`."""

    @property
    def seconds_left(self) -> float:
        """Seconds that are left."""
        return self.seconds - self.clock()

    @property
    def slowness(self) -> float:
        """How much longer than expected the trainings so far took; 1 before the first."""
        return max(1.0, self.clock() / self.expected) if self.expected else 1.0

    def tokens(
        self,
        pair: Candidate,
        desired: int,
        least: int,
        later: Sequence[tuple[Candidate, int]] = (),
        *,
        may_wait: bool = False,
    ) -> int | None:
        """Return how many tokens a training may have, None where no useful number fits.

        Where its part is too short for any, it has that of those behind it: pairs come in the order
        in which they count.

        Args:
            pair: the pair.
            desired: tokens as planned; halved until its part of what is left is enough.
            least: fewer would tell nothing.
            later: trainings that share what is left; each has a part as large as it is expected to
                take.
            may_wait: the shortest may take as long as a training under way is let go on.
        """
        expected = self.estimate(pair, desired)
        part = expected / max(
            1e-9, expected + sum(self.estimate(candidate, tokens) for candidate, tokens in later)
        )
        shortest = None
        while desired >= least:
            seconds = self.slowness * self.estimate(pair, desired)
            if seconds <= part * self.seconds_left:
                return desired
            shortest = desired if seconds <= self.seconds_left + may_wait * self.patience else None
            desired //= 2
        return shortest

    @property
    def patience(self) -> float:
        """Seconds beyond the limit that a training under way is let go on."""
        return (PATIENCE - 1) * self.seconds

    def trained(self, pair: Candidate, tokens: int) -> None:
        """Count a training."""
        self.expected += self.estimate(pair, tokens)

    @property
    def max_time(self) -> str:
        """Longest time of a training that begins now, as `trainer.max_time` has it."""
        seconds = max(1, round(self.slowness_now() * (self.seconds_left + self.patience)))
        days, rest = divmod(seconds, 86_400)
        return f"{days:02}:{rest // 3600:02}:{rest // 60 % 60:02}:{rest % 60:02}"
