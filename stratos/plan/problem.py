"""What the plan is chosen from, as plain data: candidates, options of servers, limits, caps."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal, TypeVar

from stratos.config import LimitsConfig, ObjectiveConfig, PlanConfig
from stratos.core import reasons
from stratos.plan.option import Caps, Egress, Mix, Option, Place, Served
from stratos.records import Assumption, Interval, ModelCard, RoleChoice, pair
from stratos.synthesize.choice import Reason
from stratos.synthesize.strategy import Strategy

# Candidates that the plan excludes, with the reason as a value.


@dataclass(frozen=True)
class LeftOut:
    """A teacher, a student, a strategy or a pair of them that no plan may take."""

    subject: str
    """What it is, as tables name it."""
    reason: Reason
    why: reasons.Reason
    """The same with its amounts."""
    strategy: str = ""
    """Label of the strategy that it is about, "" for none."""
    teacher: str = ""
    """The teacher that it is about, "" for none."""

    @property
    def text(self) -> str:
        """Why, in words."""
        return str(self.why)


class Exclusions(dict[str, LeftOut]):
    """What is left out so far, by its subject; a later reason takes the place of an earlier one."""

    def add(
        self,
        subject: str,
        reason: Reason,
        why: reasons.Reason,
        *,
        strategy: str = "",
        teacher: str = "",
    ) -> None:
        """Leave something out."""
        self[subject] = LeftOut(subject, reason, why, strategy, teacher)


T = TypeVar("T")

ROLES = ("teacher", "train", "serve")
"""Roles in the order of their work; the first two are done one after the other."""

__all__ = ["ROLES", "Candidate", "Choice", "Mix", "Option", "Problem", "Served"]


@dataclass(frozen=True)
class Candidate:
    """A teacher, a student and a strategy that may be taken together."""

    teacher: str
    student: str
    strategy: str
    """Its label: `Problem.strategies` has the strategy itself."""
    accuracy: Interval
    work: tuple[str, str, str]
    """Keys of `Problem.options`, one per role."""
    prompt: str = ""
    """The task's prompt that the teacher did best with."""
    confidence: Literal["low", "mean"] = "mean"
    """What of the predicted interval an accuracy limit counts."""
    stand_in: float = 0.0
    """What is counted in place of an unknown accuracy: 0, unless nothing is known of any candidate.
    Then it is what the teacher knows of what is learnt from it."""
    train_tokens: int = 0
    """Tokens of its training."""
    model_mb: float = 0.0
    """Megabytes of the weights that its servers load at most; 0 where no limit asks."""
    memory_gb: float = 0.0
    """Gigabytes of a process of these servers at most; 0 where no limit asks."""
    weights_mb: float = 0.0
    """Megabytes of the student's own weights, which only tables read."""

    @property
    def worth(self) -> tuple[float, ...]:
        """Accuracy as it is counted and as a limit counts it, and how small it is."""
        return self.counted_accuracy, self.limit_accuracy, -self.model_mb, -self.memory_gb

    @property
    def name(self) -> str:
        """Short name, by which ties are broken too."""
        return pair(self.teacher, self.student, self.strategy)

    @property
    def is_known(self) -> bool:
        """False if the accuracy rests on nothing that was measured."""
        return self.accuracy.is_known

    @property
    def counted_accuracy(self) -> float:
        """Accuracy that objectives count: the mean, and 0 for an unknown one.

        An unknown accuracy wins no comparison, so that what was measured is preferred to what
        might be; where a training was too short to predict from, it is what that one showed; where
        nothing was measured, pairs are ordered by what they learn from.
        """
        if self.is_known:
            return self.accuracy.mean
        tried = self.accuracy.tried
        return self.stand_in if tried is None else tried.share

    @property
    def limit_accuracy(self) -> float:
        """Accuracy that an accuracy limit counts; an unknown one meets none."""
        if not self.is_known:
            return 0.0
        return self.accuracy.low if self.confidence == "low" else self.accuracy.mean


@dataclass(frozen=True)
class Cut:
    """A student whose vocabulary is cut to the task, beside the whole one."""

    whole: str
    """Name of the student with all of its tokens."""
    mb: tuple[float, float]
    """Megabytes of the bundles' weights, whole and cut."""


@dataclass(frozen=True)
class Jobs:
    """Stages that run as jobs: each is submitted only if the high end of its dollars is there."""

    roles: frozenset[str] = frozenset()
    """Roles of the plan whose work is a job."""
    trial_hours: float = 0.0
    """Of servers that try the student, all jobs together."""
    trial_usd_per_hour: float | None = None
    """Price of these; None for that of the server that the plan has."""


@dataclass(frozen=True)
class Problem:
    """Everything that `solve` reads."""

    candidates: tuple[Candidate, ...]
    options: Mapping[str, tuple[Option, ...]]
    """Options of each work. Where a rate has to be served these are single servers, to be mixed."""
    limits: LimitsConfig = field(default_factory=LimitsConfig)
    objective: ObjectiveConfig = field(default_factory=ObjectiveConfig)
    strategies: Mapping[str, Strategy] = field(default_factory=dict)
    """Label to strategy."""
    spent_usd: float = 0.0
    """Dollars that are gone already; they count in the budget."""
    spent_hours: float = 0.0
    """Hours that probe and pilot took; they count in the deadline."""
    exclusions: tuple[LeftOut, ...] = ()
    """What may not be chosen, with the reason."""
    not_rented: Mapping[str, str] = field(default_factory=dict)
    """Servers that are not considered unless the run asks for them, with the reason."""
    evidence: tuple[str, ...] = ()
    """Sentences with the numbers that candidates were kept or left out by."""
    ranges: Mapping[str, str] = field(default_factory=dict)
    """Work of a teacher to what makes the number of its answers a range."""
    wait_hours: Mapping[tuple[str, str, str], float] = field(default_factory=dict)
    """Cloud, region and instance type of a cluster's servers to the hours they are waited for."""
    preempts: Mapping[tuple[str, str], Mapping[str, str]] = field(default_factory=dict)
    """Cloud and partition to those whose jobs its own may preempt, and what becomes of those."""
    warnings: tuple[str, ...] = ()
    n_offers: int = 0
    max_tokens: Mapping[str, dict[str, int]] = field(default_factory=dict)
    """Of each teacher: the longest answer under each prompt that the probe tried."""
    teachers: Mapping[str, ModelCard] = field(default_factory=dict)
    """Teacher to its card: prices, their source, and when it ends."""
    assumed: Mapping[str, tuple[Assumption, ...]] = field(default_factory=dict)
    """Work to the numbers that its hours, dollars or latency rest on and nobody measured."""
    rates: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    """Requests per second by bucket, of each serving work that has to keep up with a rate."""
    gb: Mapping[str, float] = field(default_factory=dict)
    """GB that leave a teacher's work for the training once, and that every server of a serving
    work fetches from the training."""
    egress: Egress = field(default_factory=Egress)
    caps: Caps = field(default_factory=Caps)
    """What bounds the servers of a mix; options of other roles keep it by themselves."""
    mix_gap: float = 0.0
    """Share of its dollars by which a plan with a mix may be dearer than the best mix that its
    place of training allows; 0 solves every place by itself."""
    settings: PlanConfig = field(default_factory=PlanConfig)
    up: frozenset[str] = frozenset()
    """Roles whose servers are nodes of a cluster, which nobody has to start."""
    jobs: Jobs = field(default_factory=Jobs)
    """The stages that an executor carries out, which set their dollars aside before."""
    cuts: Mapping[str, Cut] = field(default_factory=dict)
    """Name of each student with a cut vocabulary that is offered beside the whole one."""
    more_rows: str = ""
    """What more labelled rows may bring, as a sentence; "" where nothing tells."""
    _made: dict[Callable[[Problem], Any], Any] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )
    """What `once` has made of this very problem; `replace` starts without it."""

    def once(self, make: Callable[[Problem], T]) -> T:
        """Return what a function, or a class, makes of the problem; it is called once."""
        if make not in self._made:
            self._made[make] = make(self)
        made: T = self._made[make]
        return made

    @property
    def left_out(self) -> dict[str, str]:
        """What may not be chosen, to the reason in words."""
        return {excluded.subject: excluded.text for excluded in self.exclusions}

    def spent_of(self, limit: str) -> float:
        """Return what is gone already of a limit: of the budget or of the deadline."""
        return {"budget_usd": self.spent_usd, "deadline_hours": self.spent_hours}.get(limit, 0.0)

    def set_aside_usd(self, choice: Choice) -> float:
        """Return the dollars that a plan must have for its jobs to be submitted; 0 without jobs.

        What is planned for serving is not among them: nothing is served before they are done.
        """
        teacher, train, serve = choice.options
        before = {"teacher": teacher, "train": train}
        is_job = any(before[role].offer is not None for role in self.jobs.roles)
        if not is_job and not self.jobs.trial_hours:
            return 0.0
        price = self.jobs.trial_usd_per_hour
        if price is None:
            price = max((part.usd_per_hour / part.count for part in serve.parts), default=0.0)
        most = sum(
            max(option.usd, *(option.usd_range or (0.0,))) + option.last_call_usd
            for option in before.values()
        )
        return most + choice.egress_usd + self.jobs.trial_hours * price

    def ahead(self, limits: LimitsConfig) -> LimitsConfig:
        """Return limits with the deadline as it counts from now; its hours are a plan's own.

        What is spent of the budget is no part of it: the solver takes that off by itself.
        """
        if limits.deadline_hours is None:
            return limits
        return replace(limits, deadline_hours=limits.deadline_hours - self.spent_hours)

    def egress_usd(self, work: str, source: Place | None, target: Place | None) -> float:
        """Return the dollars that move what a work makes or serves from one place to another."""
        return self.gb.get(work, 0.0) * self.egress.price(source, target)

    def choice(self, candidate: Candidate, teacher: Option, train: Option, serve: Served) -> Choice:
        """Return a complete plan, with the egress between its places."""
        first, _, last = candidate.work
        egress = self.egress_usd(first, teacher.location, train.location)
        for part in serve.parts:
            egress += part.count * self.egress_usd(last, train.location, part.location)
        return Choice(candidate, (teacher, train, serve), egress)


@dataclass(frozen=True)
class Choice:
    """One complete plan: a candidate with an option for each of its roles."""

    candidate: Candidate
    options: tuple[Option, Option, Served]
    egress_usd: float = 0.0

    @property
    def accuracy(self) -> float:
        """Predicted accuracy as objectives count it."""
        return self.candidate.counted_accuracy

    @property
    def limit_accuracy(self) -> float:
        """Predicted accuracy as an accuracy limit counts it."""
        return self.candidate.limit_accuracy

    @cached_property
    def usd(self) -> float:
        """Dollars of all roles, and of what moves between them."""
        return sum(option.usd for option in self.options) + self.egress_usd

    @property
    def held_usd(self) -> float:
        """Dollars that a budget must have: with what is set aside for a teacher's last call."""
        return self.usd + self.options[0].last_call_usd

    @property
    def hours(self) -> float:
        """Hours until the student is trained: teacher, then training."""
        return self.options[0].hours + self.options[1].hours

    @property
    def latency_ms(self) -> float:
        """Predicted p95 of one answer, on the slowest of its servers."""
        return self.options[2].latency_ms

    @cached_property
    def costs(self) -> tuple[float, float, float, float]:
        """The four things that a plan is judged by, each the smaller the better."""
        return (-self.accuracy, self.usd, self.hours, self.latency_ms)

    @property
    def sort_name(self) -> tuple[str, ...]:
        """Names that break the last ties."""
        return (self.candidate.name, *(option.sort_name for option in self.options))

    def roles(self) -> tuple[RoleChoice, ...]:
        """Return the servers of every role as the records that the plan keeps."""
        return tuple(
            choice
            for role, option in zip(ROLES, self.options, strict=True)
            for choice in option.as_choices(role)
        )
