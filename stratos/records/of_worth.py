"""Whether a student is worth it, beside the other ways to get the answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from stratos.records.measured import Interval


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
    ways: tuple[Way, ...]
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
