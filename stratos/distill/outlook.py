"""Expected training time on this machine, as a sentence or an error that says what to type."""

from __future__ import annotations

import math
from dataclasses import dataclass

from stratos.core.counted import counted
from stratos.core.formats import about, duration
from stratos.core.machine import n_cores
from stratos.distill.words import PassedLimit, TooLong

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

    def summary(
        self,
        seconds: float,
        per_step: float,
        per_validation: float,
        n_threads: int,
        n_processes: int = 1,
        other_cores: float = 0.0,
    ) -> str:
        """Return how long it takes, and what validations take of that where it is much.

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
        text = (
            f"{self.student}: {counted(self.n_steps, 'step', spec=',')} of "
            f"{self.tokens_per_step:,.0f} tokens, {duration(per_step)} each on {on}: about "
            f"{about(seconds)} here, "
            f"{included}."
        )
        if other_cores and seconds >= _LONG_SECONDS:
            text += (
                f" Other work takes {other_cores:.1f} of {counted(n_cores(), 'core')} now: beside "
                f"such work trainings took up to {_BUSY_TIMES} times as long as was foretold."
            )
        return f"{text} {self.planned}".rstrip()

    def too_long(self, seconds: float, per_step: float) -> TooLong | None:
        """Return why the training is not begun, and what would make it fit; None where it may be.

        Args:
            seconds: of the whole training.
            per_step: seconds of a step.
        """
        limits = [
            (hours, key, before)
            for hours, key, before in (
                (self.max_hours, "limits.train_hours", 0.0),
                (self.deadline_hours, "limits.deadline_hours", self.passed_hours),
            )
            if hours is not None
        ]
        passed = [
            (hours, key, before)
            for hours, key, before in limits
            if seconds > 3600 * (hours - before)
        ]
        if not passed:
            return None
        most = 3600 * min(max(0.0, hours - before) for hours, _, before in passed)
        part = _USED * most / seconds
        epochs = math.floor(part * self.epochs)
        fitting = (name for name, share in self.smaller if share < part)
        return TooLong(
            student=self.student,
            seconds=seconds,
            n_steps=self.n_steps,
            tokens_per_step=self.tokens_per_step,
            step_seconds=per_step,
            limits=tuple(
                PassedLimit(key, hours, math.ceil(seconds / 3600 / _USED + before))
                for hours, key, before in passed
            ),
            passed_hours=max(before for *_, before in passed),
            max_tokens=_rounded(part * self.n_steps * self.tokens_per_step) if part > 0 else None,
            max_epochs=epochs if epochs >= 1 else None,
            smaller=next(fitting, None),
        )


def _rounded(tokens: float) -> int:
    """Return tokens with two digits, rounded down."""
    unit = 10 ** max(0, math.floor(math.log10(max(1.0, tokens))) - 1)
    return max(1, int(tokens // unit * unit))
