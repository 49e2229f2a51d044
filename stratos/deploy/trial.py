"""Load-test a bundle on this machine and compare with the estimate."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean

from stratos.catalog.offers import local_offer
from stratos.config import DeployConfig
from stratos.core.machine import group_memory, others_between, usage
from stratos.deploy.bundle_server import ALONE, engine_of
from stratos.deploy.engines.base import Engine, ExportError, engine_named
from stratos.deploy.engines.hugging_face import Transformers
from stratos.deploy.load_test import LOOKS, LoadTest, OpenLoop, load_test, open_loop
from stratos.deploy.server import Server
from stratos.estimate.cards import Workload
from stratos.estimate.fleet import ServedHere, calibration, remember
from stratos.estimate.hours import process_gib
from stratos.estimate.serving import Foresight, block_seconds, foresee, over_estimate
from stratos.records import (
    Interval,
    LoadResult,
    ModelCard,
    Offer,
    Plan,
    Prediction,
    RoleChoice,
    ServingSetting,
    TriedRate,
)
from stratos.tasks.base import Message

# A server under requests with random arrivals, beside the plan and the estimate.
#
# The rate is the plan's where the capacity of a closed loop is above it, else a share of that
# capacity. Where the server does not keep up, the 95th percentile breaks the limit or requests
# fail, lower rates follow, by bisection.

FIRST_SHARE = 0.85
"""Share of the capacity that is tried where the plan's rate is none or too high: closer to the
capacity the queue of a short test says little."""

CLEAR_SHARE = 0.5
"""Share of the capacity of a closed loop below which few requests tell that a server keeps up."""

MOST_TRIES = 3
"""Rates that are tried at most."""

LEAST_REQUESTS = 5
"""Requests of an open loop below which it is left out."""
MOST_REQUESTS = 1000
"""Requests of an open loop: enough for its 95th percentile, whatever time there is."""

QUANTILES = (0.5, 0.95, 0.99)

Tick = Callable[[int, int, str], None]


@dataclass(frozen=True)
class Plans:
    """What a trial is to compare with."""

    card: ModelCard | None
    """The student; None where it is no language model, of which nothing is estimated."""
    task: str
    strategy: str
    """Kind of the strategy: with the task, whose recorded runs speak."""
    run: ServingSetting
    """How the bundle is served here."""
    planned_per_s: float | None
    """Rate that the plan has for one of its servers; None where requests come one at a time."""
    cache_dir: Path
    """Where the calibration of this machine lies."""
    limit_ms: float | None = None
    """95th percentile that the user allows."""
    offer: Offer | None = None
    """The planned server, and how many there are."""
    count: int = 1
    loaded_bytes: float = 0.0
    """What a student that is no language model takes in memory at most."""


@dataclass(frozen=True)
class Asking:
    """How a server is asked."""

    server: Server
    chats: Sequence[list[Message]]
    max_tokens: int
    seconds: float
    """In which requests are due, at most."""
    seed: int
    """Of the moments."""
    tick: Tick
    slots: int = 1
    """Answers that the server makes at once."""

    def at_once(self, chats: Sequence[list[Message]], concurrency: int, what: str) -> LoadTest:
        """Ask questions in a closed loop, so many at once."""
        return load_test(
            self.server,
            chats,
            max_tokens=self.max_tokens,
            concurrency=concurrency,
            tick=lambda done, total: self.tick(done, total, what),
        )

    def at(
        self, requests_per_s: float, *, stream: bool = False, is_clear: bool = False
    ) -> OpenLoop | None:
        """Ask at a mean rate; None where too few requests would be due.

        A quick server is asked `MOST_REQUESTS`, which a second or two may hold. A streamed test is
        half as long: it is for the tokens' times alone. Another one ends as soon as its numbers are
        known well, see `open_loop`.
        """
        n = min(MOST_REQUESTS, round(requests_per_s * self.seconds)) // (2 if stream else 1)
        if n < LEAST_REQUESTS:
            return None
        parts = 1 if stream else min(LOOKS, n // LEAST_REQUESTS)
        what = f"load test, {'streamed' if stream else 'random arrivals'}"
        return open_loop(
            self.server,
            self.chats,
            requests_per_s=requests_per_s,
            n_requests=n // parts,
            max_tokens=self.max_tokens,
            seed=self.seed,
            tick=lambda done, total: self.tick(done, total, what),
            stream=stream,
            slots=self.slots,
            most_parts=parts,
            is_clear=is_clear,
        )


def under_load(
    asking: Asking, plans: Plans, expected: Foresight | None, capacity: LoadTest
) -> tuple[LoadResult | None, str]:
    """Run the open loop at the plan's rate or a lower one that is sustained; else say why not.

    Args:
        asking: the server and the questions.
        plans: what to compare with.
        expected: what the estimate has for this machine, if it has something.
        capacity: a closed loop with all slots busy.

    Returns:
        The result, and why there is none.
    """
    tests, sustained = _tests(asking, plans, capacity.requests_per_s)
    if not tests:
        return None, (
            f"{asking.seconds:g} seconds hold fewer than {LEAST_REQUESTS} requests at a rate that "
            f"this machine keeps up with: raise deploy.load_seconds."
        )
    test = tests[-1] if sustained is None else sustained
    # A label comes whole: it has no tokens whose times a streamed test could tell.
    streamed = None if plans.card is None else asking.at(test.asked_per_s, stream=True)
    p95, rate = test.latency_ms(0.95), capacity.requests_per_s
    predicted = None if expected is None else expected.p95_ms(test.asked_per_s)
    dollars, planned_dollars = _usd_per_1000(plans, test)
    result = LoadResult(
        requests_per_s=test.asked_per_s,
        n_requests=len(test.answers),
        seconds=test.seconds,
        kept_up=test.kept_up,
        is_sure=test.keeping_up.is_sure or test.asked_per_s <= CLEAR_SHARE * rate,
        utilisation=test.keeping_up.utilisation,
        gap_variation=test.gap_variation,
        latest_ms=test.latest_ms,
        latency_p50_ms=test.latency_ms(0.5),
        latency_p95_ms=p95,
        latency_p99_ms=test.latency_ms(0.99),
        capacity_per_s=rate,
        p95_ms=None if predicted is None else Prediction(predicted, p95),
        capacity=None if expected is None else Prediction(expected.requests_per_s, rate),
        planned_per_s=plans.planned_per_s,
        n_errors=test.n_errors,
        tokens_per_s=test.tokens_per_s,
        usd_per_1000=dollars,
        planned_usd_per_1000=planned_dollars,
        holds_limit=sustained is not None,
        servers_here=_servers_here(plans, None if sustained is None else test.asked_per_s),
        tries=tuple(map(_tried, tests)),
        limit_ms=plans.limit_ms,
    )
    if streamed is None:
        return result, ""
    return replace(
        result,
        first_token_ms=_quantiles(streamed.first_token_ms),
        token_ms=_quantiles(streamed.token_ms),
        n_errors=test.n_errors + streamed.n_errors,
        stream_kept_up=streamed.kept_up,
    ), ""


def _tried(test: OpenLoop) -> TriedRate:
    p95_ms = test.latency_ms(0.95)
    return TriedRate(test.asked_per_s, len(test.answers), test.n_errors, p95_ms, test.kept_up)


def _tests(asking: Asking, plans: Plans, most: float) -> tuple[list[OpenLoop], OpenLoop | None]:
    """Return the open loops that were run, and of those that are sustained the busiest.

    The plan's rate comes first wherever the capacity is above it; then a rate as close to the
    capacity as a short test can tell; then bisection.
    """
    tests: list[OpenLoop] = []
    sustained: OpenLoop | None = None
    low, high, planned = 0.0, most, plans.planned_per_s
    close = rate = FIRST_SHARE * most
    if planned is not None and planned * asking.seconds >= LEAST_REQUESTS and planned < most:
        rate = planned
    while len(tests) < MOST_TRIES:
        if (test := asking.at(rate, is_clear=rate <= CLEAR_SHARE * most)) is None:
            break
        tests.append(test)
        if _holds(test, plans.limit_ms):
            sustained, low = test, rate
            if rate in (planned, close):
                break
        else:
            high = rate
        rate = close if close < high and not low else (low + high) / 2
    return tests, sustained


def _holds(test: OpenLoop, limit_ms: float | None) -> bool:
    """Return whether a server sustains what it was asked."""
    in_time = limit_ms is None or test.latency_ms(0.95) <= limit_ms
    return test.kept_up and in_time and not test.n_errors


def _quantiles(of: Callable[[float], float]) -> tuple[float, ...]:
    values = tuple(map(of, QUANTILES))
    return () if any(map(math.isnan, values)) else values


def _servers_here(plans: Plans, sustained: float | None) -> int | None:
    """Return how many servers like this machine hold the plan's rate."""
    if plans.planned_per_s is None or not sustained:
        return None
    return math.ceil(plans.planned_per_s * plans.count / sustained - 1e-9)


def _usd_per_1000(plans: Plans, test: OpenLoop) -> tuple[float | None, float | None]:
    """Return dollars of 1,000 answers by the planned server's price: as measured, as planned.

    Measured are the answers that were given; a rate that the server did not keep up with is none.
    """
    if plans.offer is None:
        return None, None
    thousand = 1000 * plans.offer.usd_per_hour / 3600
    answers_per_s = test.asked_per_s * len(test.given) / len(test.answers)
    planned = plans.planned_per_s
    return (
        thousand / answers_per_s if test.kept_up else None,
        thousand / planned if planned else None,
    )


ROUNDS = 4
"""Rounds of all slots that the capacity of an engine that batches is measured over, or more:"""
CAPACITY_S = 3.0
"""Seconds that as many answers would take one at a time, so that fast ones are not a handful."""


@dataclass(frozen=True)
class Trial:
    """What the server showed."""

    closed: LoadTest
    """Answers to all questions, in their order."""
    answer_ms: Prediction | None
    others_cores: float | None
    was_busy: bool
    load: LoadResult | None
    load_note: str
    memory_gib: Prediction | None = None


def engine_here(deploy: DeployConfig, plan: Plan) -> Engine | None:
    """Return the engine that serves here; None where `setting_here` has it.

    It is the one that was asked for, else the one that the plan chose, if it runs here.

    Raises:
        ExportError: the plan's servers need files that cannot be made here.
    """
    run = plan.role("serve").run
    if deploy.engine is not None or run is None:
        return deploy.engine
    kinds = {engine.kind: engine for engine in deploy.engines.values()}
    chosen = kinds.get(run.engine)
    if chosen is None:
        return None
    if (why := chosen.unusable()) is not None:
        if run.format:
            raise ExportError(f"The plan serves the student as {run.format}. {why}")
        return None
    return chosen.as_planned(run)


def with_format(choices: Sequence[RoleChoice], run: ServingSetting) -> tuple[RoleChoice, ...]:
    """Return the planned servers with what is served in place of a format that lost too much."""

    def as_served(planned: ServingSetting | None) -> ServingSetting | None:
        if planned is None or not planned.format:
            return planned
        if planned.engine == run.engine:
            return replace(planned, format=run.format)
        return run if not run.format else planned

    return tuple(replace(choice, run=as_served(choice.run)) for choice in choices)


def setting_here(plan: Plan, engine: Engine | None = None) -> ServingSetting:
    """Return how the bundle is served on this machine.

    Args:
        plan: whose engine it is, where that runs here.
        engine: the one that was asked for; None takes the plan's.
    """
    if engine is not None:
        return engine.setting()
    run = plan.role("serve").run
    loads_bundle = run is not None and isinstance(engine_of(run), Transformers)
    return run if run is not None and loads_bundle else ALONE


def planned_per_s(plan: Plan, rates: Sequence[float] | None) -> float | None:
    """Return the rate that the plan has for one of the servers whose service file is written.

    Args:
        plan: the plan.
        rates: requests per second of each size; None where they come one at a time.
    """
    choice = plan.role("serve")
    if rates is None or not choice.traffic:
        return None
    return sum(r * part for r, part in zip(rates, choice.traffic, strict=True)) / choice.count


def try_server(asking: Asking, plans: Plans, concurrency: int) -> Trial:
    """Measure a server, closed loop and open loop, and compare it with the estimate.

    The estimate is asked before the measurement joins it.

    Args:
        asking: how it is asked; 0 seconds leave the open loop out.
        plans: what to compare with.
        concurrency: requests in flight of the closed loop.

    Raises:
        ServeError: a request failed.
    """
    group = asking.server.process.pid
    before = usage(group)
    closed = asking.at_once(asking.chats, concurrency, "requests")
    others_cores, busy = others_between(before, usage(group))
    work = Workload(
        fmean(answer.prompt_tokens for answer in closed.answers),
        max(1.0, fmean(answer.output_tokens for answer in closed.answers)),
        plans.task,
        plans.strategy,
    )
    expected, answer_ms = None, None
    if plans.card is not None:
        machine = calibration(plans.cache_dir)
        expected = foresee(plans.card, local_offer(), work, plans.run, machine)
        if concurrency == 1:
            answer_ms = Prediction(expected.answer_ms, 1000 * closed.mean_seconds)
            if not busy:
                _remember(closed, work, plans.card, plans)
    load, note = None, ""
    if asking.seconds:
        capacity = _capacity(asking, closed)
        load, note = under_load(asking, plans, expected, capacity)
    memory = _memory(group, plans, work)
    return Trial(closed, answer_ms, others_cores, busy, load, note, memory)


def _memory(process_id: int, plans: Plans, work: Workload) -> Prediction | None:
    """Return the most that the server's processes held beside what a plan counts with at most.

    None on a GPU, whose memory is another.
    """
    if local_offer().accelerator is not None:
        return None
    n_bytes = group_memory(process_id)
    engine = engine_named(plans.run.engine)
    if plans.card is None:
        most = plans.loaded_bytes / 2**30 + engine.cost.process_gib
    else:
        form = engine.weight_format(plans.run.format)
        most = process_gib(plans.card, work.context, engine.cost, form, plans.run.slots)
    return Prediction(Interval(most, 0.0, most, "what a plan counts with"), n_bytes / 2**30)


def _remember(closed: LoadTest, work: Workload, card: ModelCard, plans: Plans) -> None:
    """Let the answers speak for this machine from now on."""
    seconds, machine = closed.mean_seconds, calibration(plans.cache_dir)
    run = plans.run
    served = ServedHere(
        engine=run.engine,
        model=card.name,
        n_params=card.n_params,
        block_s=block_seconds(card, local_offer(), work, run, seconds, machine),
        answer_s=seconds,
        answer_tokens=work.answer_tokens,
        n_requests=len(closed.answers),
        date=time.strftime("%Y-%m-%d"),
        format=run.format,
        over_estimate=over_estimate(card, work, run, seconds, machine),
    )
    remember(plans.cache_dir, served)


def _capacity(asking: Asking, closed: LoadTest) -> LoadTest:
    """Return a closed loop with all slots busy, which gives requests per second at most."""
    slots, chats = asking.slots, asking.chats
    if slots == 1:
        return closed
    n = max(ROUNDS * slots, int(CAPACITY_S / closed.mean_seconds))
    n = max(slots, min(n, int(asking.seconds / closed.mean_seconds)))
    return asking.at_once(
        [chats[i % len(chats)] for i in range(n)], slots, f"{slots} requests at once"
    )
