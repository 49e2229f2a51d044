"""Load-test a bundle on this machine and compare with the estimate."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import fmean

import psutil

from stratos.catalog.offers import local_offer
from stratos.config import DeployConfig
from stratos.core.machine_load import others_between, usage
from stratos.deploy.commands import ALONE, engine_of
from stratos.deploy.engines.base import Engine, ExportError
from stratos.deploy.engines.hugging_face import Transformers
from stratos.deploy.load_test import LoadTest, load_test
from stratos.deploy.server import Server
from stratos.deploy.under_load import Asking, Plans, Tick, under_load
from stratos.estimate.cards import Workload
from stratos.estimate.fleet import ServedHere, calibration, remember
from stratos.estimate.hours import server_gib
from stratos.estimate.serving import block_seconds, foresee, over_estimate
from stratos.records import Interval, LoadResult, Plan, Prediction, RoleChoice, ServingSetting
from stratos.tasks.base import Message

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
    chosen = next((one for one in deploy.engines.values() if one.kind == run.engine), None)
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
        asking = Asking(server, chats, max_tokens, load_seconds, seed, tick, plans.run.slots)
        capacity = _capacity(asking, closed)
        load, note = under_load(asking, plans, expected, capacity, work)
    memory = _memory(group, plans, work)
    return Trial(closed, answer_ms, others, busy, load, note, memory)


def _memory(process_id: int, plans: Plans, work: Workload) -> Prediction | None:
    """Return what the server's processes hold beside what a plan counts with at most.

    None on a GPU, whose memory is another, and where the system does not tell.
    """
    if local_offer().accelerator is not None:
        return None
    try:
        server = psutil.Process(process_id)
        held = sum(one.memory_info().rss for one in (server, *server.children(recursive=True)))
    except psutil.Error:
        return None
    most = server_gib(plans.card, work, plans.run)
    return Prediction(Interval(most, 0.0, most, "what a plan counts with"), held / 2**30)


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


def _capacity(asking: Asking, closed: LoadTest) -> LoadTest:
    """Return a closed loop with all slots busy, which gives requests per second at most."""
    slots, chats = asking.slots, asking.chats
    if slots == 1:
        return closed
    n = max(ROUNDS * slots, int(CAPACITY_S / closed.mean_seconds))
    n = max(slots, min(n, int(asking.seconds / closed.mean_seconds)))
    what = f"{slots} requests at once"
    return load_test(
        asking.server,
        [chats[i % len(chats)] for i in range(n)],
        max_tokens=asking.max_tokens,
        concurrency=slots,
        tick=lambda done, total: asking.tick(done, total, what),
    )
