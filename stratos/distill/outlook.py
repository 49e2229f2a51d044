"""Expected training time on this machine, as a sentence or an error that says what to type."""

from __future__ import annotations

import math
from dataclasses import dataclass

from stratos.core.counted import counted
from stratos.core.formats import about, duration
from stratos.core.machine import n_cores

_MUCH = 0.2
"""Part of the time from which on that of the validations is said."""
_BUSY_TIMES = 3
"""How many times as long as foretold trainings of a few minutes took beside other work, at most: 11
of 12 took longer, at load averages of 6 to 23 on two cores."""
_LONG_SECONDS = 60.0
"""From which on that is said."""
_USED = 0.9
"""Part of the time that may be taken which an advice counts with."""


@dataclass(frozen=True)
class Outlook:
    """What a training consists of, and how long it may take."""

    student: str
    n_steps: int
    tokens_per_step: float
    n_validations: int
    epochs: float
    max_hours: float | None
    """`limits.train_hours`."""
    deadline_hours: float | None
    """`limits.deadline_hours`."""
    max_seconds: float | None
    """`trainer.max_time`, at which a training ends by itself."""
    smaller: tuple[tuple[str, float], ...] = ()
    """Smaller students of the run, largest first, and the part of the time that each would take."""
    passed_hours: float = 0.0
    """What the stages before took, which counts for the deadline."""
    planned: str = ""
    """What the plan has for it, as a sentence."""

    def seconds(self, per_step: float, per_validation: float) -> float:
        """Return the seconds of the whole training."""
        whole = self.n_steps * per_step + self.n_validations * per_validation
        return whole if self.max_seconds is None else min(whole, self.max_seconds)

    def told(
        self,
        seconds: float,
        per_step: float,
        per_validation: float,
        n_threads: int,
        n_processes: int = 1,
        other_cores: float = 0.0,
    ) -> str:
        """Say how long it takes, and what validations take of that where it is much.

        Args:
            seconds: of the whole training.
            per_step: seconds of a step.
            per_validation: seconds of a validation.
            n_threads: that it trains on.
            n_processes: that share each step.
            other_cores: what other work takes while this one would take all.
        """
        validations = self.n_validations * per_validation
        included = f"{counted(self.n_validations, 'validation')} included"
        if validations > _MUCH * seconds:
            included += (
                f" (about {about(min(validations, seconds))}; callbacks.validate_every_steps)"
            )
        on = counted(n_threads, "CPU thread")
        if n_processes > 1:
            on = f"{n_processes} processes of one CPU thread"
        told = (
            f"{self.student}: {counted(self.n_steps, 'step', spec=',')} of "
            f"{self.tokens_per_step:,.0f} tokens, {duration(per_step)} each on {on}: about "
            f"{about(seconds)} here, "
            f"{included}."
        )
        if other_cores and seconds >= _LONG_SECONDS:
            told += (
                f" Other work takes {other_cores:.1f} of {counted(n_cores(), 'core')} now: beside "
                f"such work trainings took up to {_BUSY_TIMES} times as long as was foretold."
            )
        return f"{told} {self.planned}".rstrip()

    def trouble(self, seconds: float, per_step: float) -> str:
        """Return why the training is not begun and what to type, "" where it may be."""
        limits = [
            (hours, key, before)
            for hours, key, before in (
                (self.max_hours, "limits.train_hours", 0.0),
                (self.deadline_hours, "limits.deadline_hours", self.passed_hours),
            )
            if hours is not None
        ]
        passed = [one for one in limits if seconds > 3600 * (one[0] - one[2])]
        if not passed:
            return ""
        most = 3600 * min(max(0.0, hours - before) for hours, _, before in passed)
        part = _USED * most / seconds
        enough = {key: math.ceil(seconds / 3600 / _USED + before) for _, key, before in passed}
        said = " and ".join(f"{key}={hours:g}" for hours, key, _ in passed)
        took = max(before for *_, before in passed)
        before_it = f" (the stages before it took {about(3600 * took)})" if took else ""
        ways = []
        if part > 0:
            ways.append(
                f"trainer.max_tokens={_rounded(part * self.n_steps * self.tokens_per_step)}"
            )
        if part * self.epochs >= 1:
            ways.append(f"trainer.max_epochs={math.floor(part * self.epochs)}")
        fitting = [name for name, share in self.smaller if share < part]
        ways += [f"student={name}" for name in fitting[:1]]
        *others, last = [*ways, " ".join(f"{key}={hours}" for key, hours in enough.items())]
        shorter = f"{', '.join(others)} to stay below, or " if others else ""
        return (
            f"The training of {self.student} would take about {about(seconds)} on this machine "
            f"({counted(self.n_steps, 'step', spec=',')} of {self.tokens_per_step:,.0f} tokens, "
            f"measured at {duration(per_step)} each), more than {said} allows{before_it}. Nothing "
            f"was trained. Type {shorter}{last} to wait for it; the same command resumes from here."
        )


def _rounded(tokens: float) -> int:
    """Return tokens with two digits, rounded down."""
    unit = 10 ** max(0, math.floor(math.log10(max(1.0, tokens))) - 1)
    return max(1, int(tokens // unit * unit))
