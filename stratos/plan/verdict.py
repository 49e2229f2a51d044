"""The verdict on distilling as a value: the outcome, and every amount that it rests on."""

from __future__ import annotations

from dataclasses import dataclass

from stratos.core.reasons import Reason
from stratos.plan.break_even import Horizon, Outcome
from stratos.records import Interval, ScaledToZero, Way


@dataclass(frozen=True)
class Verdict:
    """Whether distilling pays; `stratos.plan.words` says it."""

    beside_models: Outcome
    """Whether it pays beside other models."""
    ways: tuple[Way, ...]
    """All ways to have the requests answered, the student first."""
    once_usd: Interval
    """Of teacher, training and data, from now on."""
    servers_usd_per_day: float
    """Of the student's servers, idle or not."""
    horizon: Horizon
    requests_per_day: float | None
    """At first; None where it was not given."""
    reference: Way | None = None
    """The alternative that decides; None where there is none."""
    unable: tuple[Way, ...] = ()
    """Priced ways that do not do the task; those that are only too slow are not among them."""
    break_even_per_day: Interval | None = None
    """Requests a day from which on the student is cheaper than the reference."""
    payback_days: Interval | None = None
    reference_usd: float = 0.0
    """What the reference costs within the horizon, as expected."""
    scaled: ScaledToZero | None = None
    """What the student's server costs if it is given back while nobody asks."""
    doubt: Reason | None = None
    """Why distilling is not advised however well it pays."""
    notes: tuple[Reason, ...] = ()
    """What else is to be known of it, in the order in which it is said; the doubt among it."""
    without_model: Reason | None = None
    """What does the task without any model."""

    @property
    def outcome(self) -> Outcome:
        """The verdict: where something does the task without a model, it is never "distil"."""
        if self.without_model is None or self.beside_models == "stay":
            return self.beside_models
        return "open"

    @property
    def distilling_usd(self) -> float:
        """What the student costs within the horizon, as expected."""
        return self.once_usd.mean + self.serving_usd

    @property
    def serving_usd(self) -> float:
        """What its servers cost within the horizon."""
        return self.servers_usd_per_day * self.horizon.days
