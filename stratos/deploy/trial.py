"""Load-test a bundle on this machine and compare with the estimate."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from stratos.catalog.local import local_offer
from stratos.config import DeployConfig
from stratos.core.machine_load import others_between, usage
from stratos.deploy.commands import ALONE
from stratos.deploy.load_test import LoadTest, OpenLoop, load_test, open_loop
from stratos.deploy.server import Server
from stratos.engines.base import Engine
from stratos.estimate import (
    Foresight,
    ServedHere,
    Workload,
    block_seconds,
    calibration,
    foresee,
    over_estimate,
    remember,
)
from stratos.estimate.engines import TRANSFORMERS, TRANSFORMERS_BATCHING
from stratos.estimate.queueing import p95_over_service, wait_of_waiting
from stratos.records import LoadResult, ModelCard, Plan, Prediction, ServingSetting
from stratos.tasks.base import Message

SHARES = (0.85, 0.6)
"""Shares of the capacity that are tried, the highest first, where the plan's rate is none or too
high: closer to the capacity the queue of a short test says little."""

LEAST_REQUESTS = 5
"""Requests of an open loop below which it is left out."""

ROUNDS = 4
"""Rounds of all slots that the capacity of an engine that batches is measured over, at most."""

Tick = Callable[[int, int, str], None]


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


@dataclass(frozen=True)
class Plans:
    """What a trial is to compare with."""

    card: ModelCard
    """The student."""
    task: str
    strategy: str
    """Kind of the strategy: with the task, whose recorded runs speak."""
    run: ServingSetting
    """How the bundle is served here."""
    planned_per_s: float | None
    """Rate that the plan has for one of its servers; None where requests come one at a time."""
    cache_dir: Path
    """Where the calibration of this machine lies."""


def engine_here(deploy: DeployConfig, plan: Plan) -> Engine | None:
    """Return the engine that serves here where it is not that of earlier plans: see `setting_here`.

    It is the one that was asked for, else the one that the plan chose, if it runs here.
    """
    run = plan.role("serve").run
    if deploy.engine is not None or run is None:
        return deploy.engine
    chosen = next((one for one in deploy.engines.values() if one.kind == run.engine), None)
    return None if chosen is None or chosen.unusable() else chosen.as_planned(run)


def setting_here(plan: Plan, engine: Engine | None = None) -> ServingSetting:
    """Return how the bundle is served on this machine.

    Args:
        plan: whose engine it is, where that runs here.
        engine: the one that was asked for; None takes the plan's.
    """
    if engine is not None:
        return engine.setting()
    run = plan.role("serve").run
    if run is not None and run.engine in (TRANSFORMERS.name, TRANSFORMERS_BATCHING.name):
        return run
    return ALONE


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


def try_server(
    server: Server,
    chats: Sequence[list[Message]],
    plans: Plans,
    *,
    max_tokens: int,
    concurrency: int,
    load_seconds: float,
    seed: int,
    tick: Tick,
) -> Trial:
    """Measure a server, closed loop and open loop, and compare it with the estimate.

    The estimate is asked before the measurement joins it.

    Args:
        server: of the bundle.
        chats: the questions.
        plans: what to compare with.
        max_tokens: longest answer.
        concurrency: requests in flight of the closed loop.
        load_seconds: seconds of requests of the open loop; 0 leaves it out.
        seed: of the moments of the open loop.
        tick: called with (done, total, what).

    Raises:
        ServeError: a request failed.
    """
    group = server.process.pid
    before = usage(group)
    closed = load_test(
        server,
        chats,
        max_tokens=max_tokens,
        concurrency=concurrency,
        tick=lambda done, total: tick(done, total, "requests"),
    )
    others, busy = others_between(before, usage(group))
    work = Workload(
        fmean(one.prompt_tokens for one in closed.answers),
        max(1.0, fmean(one.output_tokens for one in closed.answers)),
        plans.task,
        plans.strategy,
    )
    expected = foresee(plans.card, local_offer(), work, plans.run, calibration(plans.cache_dir))
    answer_ms = None
    if concurrency == 1:
        answer_ms = Prediction(expected.answer_ms, 1000 * closed.mean_seconds)
        if not busy:
            _remember(closed, work, plans)
    load, note = None, ""
    if load_seconds:
        capacity = _capacity(server, chats, closed, plans.run, max_tokens, load_seconds)
        load, note = _open(
            server, chats, plans, expected, capacity, max_tokens, load_seconds, seed, tick
        )
    return Trial(closed, answer_ms, others, busy, load, note)


def _remember(closed: LoadTest, work: Workload, plans: Plans) -> None:
    """Let the answers speak for this machine from now on."""
    seconds, machine = closed.mean_seconds, calibration(plans.cache_dir)
    card, run = plans.card, plans.run
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


def _capacity(
    server: Server,
    chats: Sequence[list[Message]],
    closed: LoadTest,
    run: ServingSetting,
    max_tokens: int,
    load_seconds: float,
) -> LoadTest:
    """Return a closed loop with all slots busy, which gives requests per second at most."""
    if run.slots == 1:
        return closed
    n = int(load_seconds / closed.mean_seconds)
    n = max(run.slots, min(ROUNDS * run.slots, n))
    return load_test(
        server,
        [chats[i % len(chats)] for i in range(n)],
        max_tokens=max_tokens,
        concurrency=run.slots,
        tick=lambda done, total: None,
    )


def _open(
    server: Server,
    chats: Sequence[list[Message]],
    plans: Plans,
    expected: Foresight,
    capacity: LoadTest,
    max_tokens: int,
    load_seconds: float,
    seed: int,
    tick: Tick,
) -> tuple[LoadResult | None, str]:
    """Run the open loop at the plan's rate or the highest that is kept up with; else say why not.

    Returns:
        The result, and why there is none.
    """
    most, planned = capacity.requests_per_s, plans.planned_per_s
    rates = [share * most for share in SHARES]
    if planned is not None and planned * load_seconds >= LEAST_REQUESTS:
        rates = [*([planned] if planned <= rates[0] else []), *(r for r in rates if r < planned)]
    test: OpenLoop | None = None
    for rate in rates:
        n = round(rate * load_seconds)
        if n < LEAST_REQUESTS:
            break
        test = open_loop(
            server,
            chats,
            requests_per_s=rate,
            n_requests=n,
            max_tokens=max_tokens,
            seed=seed,
            tick=lambda done, total: tick(done, total, "requests with random arrivals"),
        )
        if test.kept_up:
            break
    if test is None:
        return None, (
            f"{load_seconds:g} seconds hold fewer than {LEAST_REQUESTS} requests at a rate that "
            f"this machine keeps up with: raise deploy.load_seconds."
        )
    p95 = test.latency_ms(0.95)
    predicted = expected.p95_ms(test.asked_per_s)
    return LoadResult(
        requests_per_s=test.asked_per_s,
        n_requests=len(test.answers),
        seconds=test.seconds,
        kept_up=test.kept_up,
        gap_variation=test.gap_variation,
        latest_ms=test.latest_ms,
        latency_p50_ms=test.latency_ms(0.5),
        latency_p95_ms=p95,
        capacity_per_s=most,
        queue_p95_ms=_queue_p95_ms(capacity, test.asked_per_s, plans.run.slots),
        p95_ms=None if predicted is None else Prediction(predicted, p95),
        capacity=Prediction(expected.requests_per_s, most),
        planned_per_s=planned,
    ), ""


def _queue_p95_ms(busy: LoadTest, requests_per_s: float, slots: int) -> float | None:
    """Return what the queue model makes of the answers of a closed loop with all slots busy."""
    utilisation = requests_per_s / busy.requests_per_s
    if utilisation >= 1.0:
        return None
    mean = busy.mean_seconds
    square = mean**2 * (1 + busy.variation**2)
    wait = wait_of_waiting(slots, utilisation, mean, square)
    return 1000 * mean * float(p95_over_service(slots, utilisation, wait / mean))
