"""What the plan has chosen, what it rests on, and what was not chosen."""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from math import ceil
from typing import Literal

from stratos.core.extensions import extensions
from stratos.records.base import CardRun, Interval, Tried

NO_TEACHER = "none"
"""Name of the teacher of a run that has none."""


def pair(teacher: str, student: str, strategy: str) -> str:
    """Return what is taken together, in a few words."""
    return student if teacher == NO_TEACHER else f"{teacher} → {student} by {strategy}"


@dataclass(frozen=True)
class Way:
    """A way to have the task's requests answered: the planned student, or another model."""

    name: str
    is_student: bool
    accuracy: Interval
    usd_per_answer: Interval | None
    """Of a hosted model, or of the part that one has in a promised way. None for one whose servers
    are paid by the hour."""
    latency_ms: float | None
    """Mean of a hosted model, as the probe saw it; of one on servers its 95th percentile."""
    why_not: str = ""
    """Why it is no alternative; "" where it is one."""
    retires: str = ""
    """Day from which it answers no more, as YYYY-MM-DD; "" where none is known."""
    is_logged: bool = False
    """The model of the task's log: its accuracy is the share of its answers that nothing speaks
    against, an upper bound."""
    kind: Literal["student", "hosted", "prompt", "open", "promised"] = "hosted"
    """prompt: a hosted model with another prompt; open: a model as it is, on rented servers;
    promised: what a room of contrib adds, whose accuracy is promised."""
    usd_per_day: float | None = None
    """Of the servers of an open model, or of those of a promised way, idle or not."""
    usd_per_day_range: tuple[float, float] | None = None
    """Its ends, by how many servers the requests may take; None where that is not known."""
    servers: str = ""
    """On which an open model would run."""
    prompt: str = ""
    """With which a hosted model is asked; "" for the others."""
    unsure: str = ""
    """Why it may be no alternative, though that is not shown; "" where nothing says so."""


@dataclass(frozen=True)
class ScaledToZero:
    """The student's server when it is given back while nobody asks."""

    usd_per_day: float
    """Mean over the horizon."""
    share_on: float
    """Of the time."""
    share_waiting: float
    """Of the requests: those that come while it starts."""
    start_s: float
    """Seconds until it answers."""
    keep_s: float
    """Seconds without a request after which it is given back."""


@dataclass(frozen=True)
class Worth:
    """Whether distilling pays, against the cheapest hosted model that does the task as well."""

    outcome: Literal["distil", "stay", "open"]
    text: str
    """The same in words, with the numbers that decide it."""
    alternatives: tuple[Way, ...]
    reference: str
    """The hosted model that it is compared with; "" where there is none."""
    once_usd: Interval
    """Of teacher, training and data, from now on."""
    servers_usd_per_day: float
    """Of the student's servers, idle or not."""
    months: float
    requests_per_day: float | None = None
    """In the first month; None where it was not said."""
    growth_per_month: float = 0.0
    payback_days: Interval | None = None
    """After which the student stays cheaper; None where it is not by the end of the horizon. Its
    high end is infinite where it may not be."""
    break_even_per_day: Interval | None = None
    """Requests a day from which on it is cheaper over the whole horizon."""
    scaled: ScaledToZero | None = None
    """What its server costs if it is given back while nobody asks; None where that saves nothing,
    is not told, or breaks the latency limit."""
    headline: str = ""
    """The beginning of the text, with what speaks against the student."""


@functools.cache
def own_clouds() -> frozenset[str]:
    """Return the clouds whose servers run already: this machine, and the nodes of clusters."""
    return frozenset(("local", *(cloud for room in extensions() for cloud in room.clusters)))


@dataclass(frozen=True)
class Offer:
    """A server that can be rented: one instance type in one region at one price."""

    cloud: str
    region: str
    instance_type: str
    accelerator: str | None
    """Canonical GPU name such as "A100-80GB"; None for a CPU server."""
    accelerator_count: int
    vcpus: float
    memory_gib: float
    vram_gib: float
    """Memory of ONE accelerator; 0 for a CPU server."""
    usd_per_hour: float
    usd_per_hour_spot: float | None = None
    price_date: str = ""
    source: str = ""

    @property
    def name(self) -> str:
        """Short name for tables and error messages."""
        gpu = f" ({self.accelerator_count}x{self.accelerator})" if self.accelerator else ""
        return f"{self.cloud}/{self.region} {self.instance_type}{gpu}"

    @property
    def is_rented(self) -> bool:
        """Whether it has to be ordered and booted before it works."""
        return self.cloud not in own_clouds()


@dataclass(frozen=True)
class ServingSetting:
    """How a server that answers requests is run, and what is expected of it."""

    engine: str
    """Kind of the serving engine, such as transformers or vllm."""
    slots: int = 1
    """Answers that one replica gives at once."""
    tensor_parallel: int = 1
    """GPUs that one replica is cut over."""
    utilisation: float = 0.0
    """Share of its capacity that it is planned to be busy to; 0 for requests one at a time."""
    requests_per_s: tuple[float, ...] = ()
    """What one server answers of each size of requests alone, at that utilisation."""
    format: str = ""
    """Export that is served; "" for the bundle's own weights."""
    alone: tuple[float, ...] = ()
    """By size: share of its seconds with all slots busy that an answer alone takes, where answers
    share a processor; else none."""

    @property
    def name(self) -> str:
        """Short name, by which ties are broken too."""
        cut = f", {self.tensor_parallel} GPUs a replica" if self.tensor_parallel > 1 else ""
        busy = f", {self.utilisation:.0%} busy" if self.utilisation else ""
        form = f" {self.format}" if self.format else ""
        return f"{self.engine}{form}, {self.slots} at once{cut}{busy}"


@dataclass(frozen=True)
class Price:
    """One price that a plan rests on, and where it is from."""

    kind: str
    """server, teacher or egress."""
    what: str
    """What is paid for: an offer, a teacher, a cloud's egress."""
    usd: float
    unit: str
    """What the dollars are for, such as "an hour"."""
    date: str = ""
    """Day of the price, "" where the source has none."""
    source: str = ""


@dataclass(frozen=True)
class Assumption:
    """A number that a plan rests on and that nobody has measured for it."""

    name: str
    value: float
    unit: str
    why: str
    """Where the number is from."""
    replaced_by: str
    """What would take its place: a key to set, or a measurement."""


@dataclass(frozen=True)
class RoleChoice:
    """The server of one role, how long it is held, and what that costs."""

    role: str
    """teacher, train or serve."""
    offer: Offer | None
    """None where the role needs no server (a hosted teacher, a strategy that asks none)."""
    count: int
    spot: bool
    hours: float
    usd: float
    note: str = ""
    hours_range: tuple[float, float] | None = None
    """Low and high end of `hours`, by the error of the estimate."""
    usd_range: tuple[float, float] | None = None
    traffic: tuple[float, ...] = ()
    """For serving: share of each bucket of requests that these servers answer."""
    as_batch: bool = False
    """For a hosted teacher: its answers are bought through the provider's batch API."""
    last_call_usd: float = 0.0
    """For a hosted teacher: how much more than a call costs is set aside for it. The last call
    needs so much beyond `usd`, and does not spend it."""
    after_deploy_usd: float = 0.0
    """For a hosted teacher: part of `usd`, for what is asked once the student is served."""
    run: ServingSetting | None = None
    """For serving: how the server is run; None for the other roles."""
    filled: Interval | None = None
    """For serving: how many of these servers the requests of the busiest hours fill, by what one is
    estimated to answer; None where requests come one at a time."""
    wait_hours: float | None = None
    """For a node of a cluster: hours until it would be handed out, beside `hours`; None where that
    is not known."""


def servers_for(filled: Interval | None, count: int) -> tuple[int, int]:
    """Return the fewest and the most servers that requests may take which fill so many."""
    if filled is None:
        return count, count
    return min(count, max(1, ceil(filled.low))), max(count, ceil(filled.high))


@dataclass(frozen=True)
class WhatIf:
    """What one limit is worth: the plan with it lifted or moved, found by solving again."""

    limit: str
    """Key of the config, such as "limits.budget_usd" or "cloud.regions"."""
    value: float | None
    """The limit as it is; None where it is not a number."""
    other_value: float | None
    """The limit that the other plan was solved under; None lifts it."""
    point: PlanPoint
    """The plan under the other limit; the chosen one again, if the limit does not bind."""
    text: str
    """The same as a sentence."""
    binds: bool = True
    """False if the plan would be the same without the limit."""


@dataclass(frozen=True)
class PlanPoint:
    """One complete plan as a row of the frontier or of the comparison of objectives."""

    teacher: str
    student: str
    strategy: str
    accuracy: float
    """Mean of the prediction; 0 where it is unknown."""
    usd: float
    hours: float
    latency_ms: float
    """Predicted p95 of one answer."""
    servers: dict[str, str]
    """Role to the offer's short name."""
    net_usd: float
    """Net cost in dollars, accuracy, hours and latency counted at the plan's exchange rates: what
    differences of it say counts."""
    accuracy_known: bool = True
    """False if nothing was measured that it can be predicted from."""
    accuracy_low: float = 0.0
    accuracy_high: float = 1.0
    """Ends of the predicted interval; of an unknown accuracy what bounds it."""
    accuracy_tried: Tried | None = None
    """Of an unknown accuracy, what a short training showed nevertheless."""
    weights_mb: float = 0.0
    """Megabytes of the student's own weights; 0 where nobody tells."""


@dataclass(frozen=True)
class StageTime:
    """What a stage behind the plan is expected to take, where it runs."""

    stage: str
    hours: float
    planned_hours: float | None = None
    """Of the plan, on a server that the run does not use; None where it is the same."""


@dataclass(frozen=True)
class Plan:
    """Teacher, student, strategy and servers, chosen together, and why."""

    status: str
    """optimal, or the solver's word for a plan that it could not prove optimal."""
    solver: str
    teacher: str
    student: str
    strategy: str
    roles: tuple[RoleChoice, ...]
    accuracy: Interval
    usd: float
    hours: float
    latency_ms: float
    objective: str
    frontier: tuple[PlanPoint, ...]
    n_frontier: int
    """Size of the whole frontier, of which `frontier` may show a part."""
    alternatives: dict[str, PlanPoint]
    """What accuracy-first, cost-first, fastest and lowest latency would have chosen."""
    reasons: tuple[str, ...]
    left_out: dict[str, str]
    """Candidate to the reason why it was not considered."""
    warnings: tuple[str, ...]
    n_offers: int
    price_dates: tuple[str, str]
    """Oldest and newest of the prices that the plan uses."""
    seconds: float
    net_usd: float
    """Net cost as in `PlanPoint`."""
    prompt: str = ""
    """The task's prompt that the teacher did best with in the probe; "" takes the task's first."""
    train_tokens: int = 0
    """Tokens that the training is expected to take."""
    max_tokens: dict[str, int] = field(default_factory=dict)
    """Longest answer of the teacher under each prompt that the probe tried, in tokens."""
    usd_range: tuple[float, float] | None = None
    """Low and high end of `usd`, by the error of the estimate."""
    hours_range: tuple[float, float] | None = None
    egress_usd: float = 0.0
    """Part of `usd` that moves data, checkpoints and bundle between regions and clouds."""
    spent_usd: float = 0.0
    """Dollars that were gone before the plan and count in its budget."""
    spent_hours: float = 0.0
    """Hours that probe and pilot took before the plan. They count in its deadline; `hours` are
    those that come after."""
    what_if: tuple[WhatIf, ...] = ()
    history: tuple[CardRun, ...] = ()
    """Past runs of this machine that predicted accuracies rest on, copied so that a resumed run
    sees the same ones."""
    history_recipe: str = ""
    """Digest of what a past run had to share with this one to be among them."""
    prices: tuple[Price, ...] = ()
    """Every price that the plan uses."""
    assumptions: tuple[Assumption, ...] = ()
    """Every number that the plan uses and nobody measured."""
    exchange: dict[str, float] = field(default_factory=dict)
    """Dollars that a point of accuracy, an hour of waiting and 100 ms count, by key of
    `objective`."""
    teacher_retires: str = ""
    """Day from which the teacher answers no more, as YYYY-MM-DD; "" where none is known."""
    worth: Worth | None = None
    """Whether it pays; None where no hosted model was probed."""
    is_late: bool = False
    """Whether the student that it chose was trained before it was made."""
    ahead: tuple[StageTime, ...] = ()
    """The stages of the run that follow, up to the report."""
    in_cloud_usd: float | None = None
    """Dollars of the cheapest plan of this student on rented servers; None where the choice was
    among those already, or none of them meets the limits."""

    @property
    def pair(self) -> str:
        """What it chose, in a few words."""
        return pair(self.teacher, self.student, self.strategy)

    @property
    def servers_usd_per_day(self) -> float:
        """Dollars a day of the student's servers, idle or not."""
        return sum(24 * role.usd / role.hours for role in self.roles_of("serve") if role.hours > 0)

    @property
    def servers_usd_per_day_range(self) -> tuple[float, float]:
        """The same with the fewest and the most servers that the requests may take."""
        low = high = 0.0
        for role in self.roles_of("serve"):
            each = 24 * role.usd / role.hours / role.count if role.hours > 0 else 0.0
            fewest, most = servers_for(role.filled, role.count)
            low, high = low + each * fewest, high + each * most
        return low, high

    @property
    def once_usd(self) -> float:
        """Dollars of all but serving, from when it was made on."""
        return max(0.0, self.usd - sum(role.usd for role in self.roles_of("serve")))

    def roles_of(self, name: str) -> tuple[RoleChoice, ...]:
        """Return every choice for one role: serving may mix servers."""
        return tuple(role for role in self.roles if role.role == name)

    def role(self, name: str) -> RoleChoice:
        """Return the choice for one role."""
        return next(role for role in self.roles if role.role == name)
