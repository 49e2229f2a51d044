"""What was deployed, how it answers under load, and where the page of the run lies."""

from __future__ import annotations

from dataclasses import dataclass

from stratos.records.base import Interval
from stratos.records.of_plan import ServingSetting

_WIDE = 3.0
"""High over low end of an interval from which on what lies in it is not called "as predicted"."""


@dataclass(frozen=True)
class Prediction:
    """A quantity that was predicted for this machine before it was measured here."""

    predicted: Interval
    measured: float

    @property
    def is_inside(self) -> bool:
        """Whether what was measured lies in the predicted interval."""
        return self.predicted.low <= self.measured <= self.predicted.high

    @property
    def in_words(self) -> str:
        """The outcome; a wide interval holds almost anything, and is no success."""
        if not self.is_inside:
            return "NOT as predicted"
        is_narrow = self.predicted.high < _WIDE * self.predicted.low
        return "as predicted" if is_narrow else "in a wide interval"


@dataclass(frozen=True)
class TriedRate:
    """One rate of a load test, and what the server showed."""

    requests_per_s: float
    n_requests: int
    n_errors: int
    """Requests that failed."""
    latency_p95_ms: float
    kept_up: bool


@dataclass(frozen=True)
class LoadResult:
    """What the server here showed while requests came at random moments (open loop, Poisson)."""

    requests_per_s: float
    """Mean rate at which they came."""
    n_requests: int
    seconds: float
    """From the first moment to the last answer."""
    kept_up: bool
    """Whether the server kept up with that rate."""
    gap_variation: float
    """Standard deviation over mean of the gaps between requests as they were sent: 1 for a Poisson
    process, of few requests about as much."""
    latest_ms: float
    """By how much the load generator was late at most; it counts in the latency."""
    latency_p50_ms: float
    latency_p95_ms: float
    """Of an answer, the wait before it included."""
    capacity_per_s: float
    """Requests per second that the server gave with all its slots busy (closed loop)."""
    tries: tuple[TriedRate, ...]
    """All rates that were tried, in order."""
    p95_ms: Prediction | None = None
    """95th percentile under this rate; None where the estimate would be overrun by it."""
    capacity: Prediction | None = None
    """Requests per second at most."""
    planned_per_s: float | None = None
    """Rate that the plan has for one of its servers; None where requests come one at a time."""
    latency_p99_ms: float | None = None
    first_token_ms: tuple[float, ...] = ()
    """To the first token with the wait before it, of a streamed test at the same rate: 50th, 95th
    and 99th percentile."""
    token_ms: tuple[float, ...] = ()
    """The same of the time per token after the first."""
    n_errors: int = 0
    """Requests that failed."""
    tokens_per_s: float = 0.0
    usd_per_1000: float | None = None
    """Dollars of 1,000 answers, if the planned server gave as many as this machine; None where
    that did not keep up with the rate."""
    planned_usd_per_1000: float | None = None
    """The same at the plan's rate."""
    holds_limit: bool = True
    """Whether it kept up with the rate within the latency limit, without an error."""
    servers_here: int | None = None
    """Servers like this machine that hold the plan's rate within the limit; None where no rate is
    planned, or none was sustained."""
    is_sure: bool = True
    """Whether the requests were enough to tell if it kept up."""
    utilisation: float | None = None
    """The rate over that of its answers while all slots were busy; None where they never were."""
    limit_ms: float | None = None
    """95th percentile that the user allows."""
    stream_kept_up: bool | None = None
    """Whether it kept up in the streamed test, too; None where there was none."""


@dataclass(frozen=True)
class Export:
    """One format of the student for another engine, and how it answered held-out items."""

    format: str
    n_bytes: int
    n_items: int
    n_equal: int
    """Answers that are those of the evaluation to the letter."""
    exact: Interval
    """Share right of these items."""
    evaluated: Interval
    """The same in the evaluation."""
    loss_points: Interval
    """Points of accuracy lost; below 0 where it is better (Tango's interval)."""
    p_value: float
    """McNemar's exact test."""
    latency_p50_ms: float
    latency_p95_ms: float
    """Of one request at a time."""
    requests_per_s: float
    at_once: int
    """Requests in flight for the rate."""
    memory_mib: float
    """The most resident memory that the server has had."""
    max_loss_points: float
    """Points that it might lose."""
    known: tuple[str, ...] = ()
    """Its answers to the bundle's known questions."""
    is_kept: bool = True
    """False for one that lost too much: it is not in the bundle."""


@dataclass(frozen=True)
class Exports:
    """What a bundle holds for another engine."""

    engine: str
    version: str
    """Of the engine's package."""
    note: str
    """What has to be known about the files."""
    formats: tuple[Export, ...]
    served: str = ""
    """Format that the run served; "" where the bundle's own weights were."""


@dataclass(frozen=True)
class Deployment:
    """The bundle, and what the server that served it showed under load."""

    bundle_path: str
    server: str
    """Command that serves the bundle."""
    n_requests: int
    n_equal: int
    """Answers that equal those of the evaluation."""
    latency_p50_ms: float
    latency_p95_ms: float
    tokens_per_s: float
    service_path: str
    """Service file for the planned server."""
    bundle_bytes: int
    seconds: float
    run: ServingSetting
    """How the bundle was served here."""
    meets_latency_limit: bool | None = None
    """None where no limit was given."""
    answer_ms: Prediction | None = None
    """Mean milliseconds of an answer; predicted for an answer alone."""
    load: LoadResult | None = None
    """None where no open loop was run, for the reason in `load_note`."""
    load_note: str = ""
    others_cores: float | None = None
    """Cores that other work on this machine took while answers were timed; None: not known."""
    was_busy: bool = False
    """Whether that slowed the server: next to no core was idle. Nothing is judged then."""
    exports: Exports | None = None
    """None where the server's engine loads the bundle as it is."""
    n_rows_learnt: int = 0
    """Rows that the bundle's student has learnt, those of the test among them; 0 where it is the
    one that the test measured."""
    agreement: float | None = None
    """Share of rows of the run that it answers as the tested student does; None where it is that
    one."""
    memory_gib: Prediction | None = None
    """The most that the server's processes have had, in GiB; predicted is the most that a plan
    counts with. None on a GPU."""
    model_mb: float = 0.0
    """Megabytes of the weights that the server loads."""

    @property
    def served(self) -> Export | None:
        """What the format that is served answered; None for the bundle's own weights."""
        form = self.run.format
        formats = self.exports.formats if form and self.exports is not None else ()
        return next((export for export in formats if export.format == form), None)


@dataclass(frozen=True)
class Report:
    """Where the page of the run lies."""

    path: str
    n_bytes: int
    seconds: float
