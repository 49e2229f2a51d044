"""What the plan is chosen from, as plain data: candidates, options of servers, limits."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from stratos.config import LimitsConfig, ObjectiveConfig
from stratos.records import Interval, Offer, RoleChoice

ROLES = ("teacher", "train", "serve")
"""Roles in the order of their work; the first two are done one after the other."""

UNKNOWN = "unknown"
"""How the source of an accuracy begins that nothing was measured for."""


@dataclass(frozen=True)
class Option:
    """One way to do the work of a role: a server at a price, or none."""

    offer: Offer | None
    spot: bool
    hours: float
    usd: float
    latency_ms: float = 0.0
    """Predicted p95 of one answer; 0 for a role that answers nobody."""
    count: int = 1
    note: str = ""

    @property
    def name(self) -> str:
        """Short name, by which ties are broken too."""
        if self.offer is None:
            return self.note or "no server"
        return f"{self.offer.name}{' spot' if self.spot else ''}"

    def as_choice(self, role: str) -> RoleChoice:
        """Return the option as the record that the plan keeps."""
        return RoleChoice(
            role=role,
            offer=self.offer,
            count=self.count,
            spot=self.spot,
            hours=self.hours,
            usd=self.usd,
            note=self.note,
        )


@dataclass(frozen=True)
class Candidate:
    """A teacher, a student and a strategy that may be taken together."""

    teacher: str
    student: str
    strategy: str
    accuracy: Interval
    work: tuple[str, str, str]
    """Keys of `Problem.options`, one per role."""
    prompt: str = ""
    """The task's prompt that the teacher did best with."""

    @property
    def name(self) -> str:
        """Short name, by which ties are broken too."""
        return f"{self.teacher} → {self.student} by {self.strategy}"

    @property
    def is_known(self) -> bool:
        """False if the accuracy rests on nothing that was measured."""
        return not self.accuracy.source.startswith(UNKNOWN)

    @property
    def counted_accuracy(self) -> float:
        """Accuracy that limits and objectives count: the mean, and 0 for an unknown one.

        An unknown accuracy meets no limit and wins no comparison, so that what was measured is
        preferred to what might be.
        """
        return self.accuracy.mean if self.is_known else 0.0


@dataclass(frozen=True)
class Problem:
    """Everything that `solve` reads."""

    candidates: tuple[Candidate, ...]
    options: Mapping[str, tuple[Option, ...]]
    limits: LimitsConfig = field(default_factory=LimitsConfig)
    objective: ObjectiveConfig = field(default_factory=ObjectiveConfig)
    spent_usd: float = 0.0
    """Dollars that are gone already; they count in the budget."""
    left_out: Mapping[str, str] = field(default_factory=dict)
    evidence: tuple[str, ...] = ()
    """Sentences with the numbers that candidates were kept or left out by."""
    warnings: tuple[str, ...] = ()
    n_offers: int = 0
    price_dates: tuple[str, str] = ("", "")


@dataclass(frozen=True)
class Choice:
    """One complete plan: a candidate with an option for each of its roles."""

    candidate: Candidate
    options: tuple[Option, Option, Option]

    @property
    def accuracy(self) -> float:
        """Predicted accuracy as it counts."""
        return self.candidate.counted_accuracy

    @property
    def usd(self) -> float:
        """Dollars of all roles."""
        return sum(option.usd for option in self.options)

    @property
    def hours(self) -> float:
        """Hours until the student is served: teacher, then training."""
        return self.options[0].hours + self.options[1].hours

    @property
    def latency_ms(self) -> float:
        """Predicted p95 of one answer."""
        return self.options[2].latency_ms

    @property
    def costs(self) -> tuple[float, float, float, float]:
        """The four things that a plan is judged by, each the smaller the better."""
        return (-self.accuracy, self.usd, self.hours, self.latency_ms)

    @property
    def sort_name(self) -> tuple[str, ...]:
        """Names that break the last ties."""
        return (self.candidate.name, *(option.name for option in self.options))


def prune(options: Iterable[Option]) -> tuple[Option, ...]:
    """Drop every option that another of the same role dominates.

    An option is dominated if another costs no more dollars, hours and latency. This is exact: the
    roles of a plan are chosen independently of each other, and every limit and every objective is
    non-decreasing in each of the three, so putting the dominating option in the place of the
    dominated one keeps a plan feasible and makes it no worse. Of equal options the first by name
    stays, which is the one that the tie-break would take.
    """
    ordered = sorted(options, key=lambda o: (o.usd, o.hours, o.latency_ms, o.name))
    kept: list[Option] = []
    for option in ordered:
        # What dominates it is no dearer, so it is already in the list.
        if not any(k.hours <= option.hours and k.latency_ms <= option.latency_ms for k in kept):
            kept.append(option)
    return tuple(kept)
