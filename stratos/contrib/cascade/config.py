"""The config group `cascade`: the promise, what it may cost, and what its endpoint does."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Literal

from msgspec import Meta

from stratos.config import Amount, Config, Count, RoomConfig
from stratos.core.reasons import Reason

GROUP = "cascade"


@dataclass(frozen=True)
class CascadeConfig(RoomConfig):
    """A student that asks its teacher where it is unsure (top-level `cascade.`)."""

    validation_keys = ("accuracy",)

    accuracy: Annotated[float, Meta(gt=0, lt=1)] | None = None
    """Share of right answers that is promised; null makes no cascade."""
    confidence: Annotated[float, Meta(gt=0, lt=1)] = 0.95
    """1 minus the probability with which a promise is given that the cascade does not keep."""
    measure: Literal["auto", "probability", "agreement"] = "auto"
    """What tells how sure the student is: the probability of its answer, or how many of
    `n_samples` drawn answers agree with it; auto takes the first where the engine tells it."""
    n_samples: Count = 4
    """Answers that are drawn for each request (`cascade.measure=agreement`)."""
    n_items: Count = 1000
    """Validation items that choose the threshold, at most; student and teacher answer them."""
    teacher_usd: Amount | None = None
    """Maximum dollars for the teacher's answers to them; None takes what `evaluate.teacher_usd`
    allows."""
    teacher_seconds: Annotated[float, Meta(gt=0)] = 30.0
    """Seconds that a request waits for the teacher, tries after the first included."""
    if_unavailable: Literal["student", "error"] = "student"
    """What a request gets where the teacher does not answer in time: the student's answer with a
    header that says so, or an error."""
    usd_per_day: Amount | None = None
    """Dollars a day (UTC) for the teacher; the student answers alone when they are spent."""
    usd_per_month: Amount | None = None
    """The same for a calendar month (UTC)."""

    def problems(self, config: Config) -> Iterator[Reason]:
        """Yield what keeps a promised accuracy from being looked into."""
        from stratos.contrib.cascade.words import MeasureUnknown, NoPromise, NothingServed

        if self.accuracy is None:
            for key in ("usd_per_day", "usd_per_month", "teacher_usd"):
                if getattr(self, key) is not None:
                    yield NoPromise(key)
            return
        engine = config.deploy.engine
        if config.deploy.is_off:
            yield NothingServed(self.accuracy)
        elif engine is not None and self.measure not in ("auto", *engine.measures):
            yield MeasureUnknown(self.measure, engine.title)


def settings(config: Config) -> CascadeConfig:
    """Return the group of a run's config."""
    group = config.rooms.get(GROUP, CascadeConfig())
    assert isinstance(group, CascadeConfig)
    return group


def makes_cascade(config: Config) -> bool:
    """Return whether a run ends with a cascade: one is asked for, and the student is served."""
    return settings(config).accuracy is not None and not config.deploy.is_off
