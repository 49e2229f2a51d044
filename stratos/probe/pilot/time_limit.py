"""Keep an automatic pilot within its time limit on a busy machine."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from stratos.plan.problem import Candidate

PATIENCE = 1.5
"""How much longer than it may take a training under way is let go on."""


@dataclass
class Pace:
    """Time that is left for trainings, and how much slower than expected they have been."""

    seconds: float
    """What all of them may take."""
    estimate: Callable[[Candidate, int], float]
    """Seconds of a pair's training of so many tokens on this machine, if it is not busy."""
    started: float = field(default_factory=time.monotonic)
    expected: float = 0.0
    """Seconds that the trainings so far were expected to take."""

    @property
    def left(self) -> float:
        """Seconds that are left."""
        return self.seconds - (time.monotonic() - self.started)

    @property
    def slowness(self) -> float:
        """How much longer than expected the trainings so far took; 1 before the first."""
        took = time.monotonic() - self.started
        return max(1.0, took / self.expected) if self.expected else 1.0

    def tokens(
        self,
        pair: Candidate,
        wanted: int,
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
            wanted: tokens as planned; halved until its part of what is left is enough.
            least: fewer would tell nothing.
            later: trainings that share what is left; each has a part as large as it is expected to
                take.
            may_wait: the shortest may take as long as a training under way is let go on.
        """
        expected = self.estimate(pair, wanted)
        part = expected / max(
            1e-9, expected + sum(self.estimate(other, tokens) for other, tokens in later)
        )
        shortest = None
        while wanted >= least:
            seconds = self.slowness * self.estimate(pair, wanted)
            if seconds <= part * self.left:
                return wanted
            shortest = wanted if seconds <= self.left + may_wait * self.patience else None
            wanted //= 2
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
        """Longest time of a training, as `trainer.max_time` has it."""
        seconds = max(1, round(self.left + self.patience))
        days, rest = divmod(seconds, 86_400)
        return f"{days:02}:{rest // 3600:02}:{rest // 60 % 60:02}:{rest % 60:02}"
