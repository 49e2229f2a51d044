"""The pilot stage: short trainings of every pair within the limits, before the plan."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from stratos.catalog import load_catalog
from stratos.estimate.fleet import calibration
from stratos.plan.accuracy.history import history_for
from stratos.plan.options.candidates import build_problem, this_machine
from stratos.plan.options.hosted import Kept
from stratos.plan.solve.frontier import survivors
from stratos.probe.pilot.decision import afforded, cut_short_by_time, in_order, open_question
from stratos.probe.pilot.ladder import Ladder
from stratos.probe.pilot.time_limit import Pace
from stratos.records import Pilot, Probe

if TYPE_CHECKING:
    from stratos.config import Config
    from stratos.core.context import Context
    from stratos.ledger import Ledger


def pilot(config: Config, probe: Probe, context: Context) -> Pilot | None:
    """Train each student that is left shortly, at several lengths, and measure it.

    The stages themselves do it, `synthesize` and `distill`, in a folder of its own for each
    training, and what is finished there is not made again. Only validation items are asked. What
    a paid teacher takes is kept below what the cheapest plan leaves of the budget.

    With `plan.pilot=auto` it is made where an unknown accuracy decides the choice and it takes
    little: then it is announced, trains the unknown pairs alone, and ends with its time.

    Returns:
        The learning curves; None where no pilot is made by itself.

    Raises:
        CatalogError: a catalog is missing, empty or malformed.
    """
    started = time.perf_counter()
    context.tick(0, 1, "which pairs the limits leave")
    is_auto = config.plan.pilot == "auto"
    catalog = load_catalog(config.cloud, cache_dir=context.cache_dir)
    machine = this_machine(config, context.cache_dir)
    kept = Kept(config, context.cache_dir, context.ledger)
    history = history_for(config, context.run_dir) if is_auto else ()
    problem = build_problem(config, probe, catalog, history, calibration=machine, kept=kept)
    problem = replace(
        problem, spent_usd=context.ledger.committed_usd, spent_hours=probe.seconds / 3600
    )
    left = survivors(problem)
    pairs, why, pace = left.candidates, "", None
    parts: Mapping[str, float] = {}
    left_out = dict(left.left_out)
    if is_auto:
        why = open_question(problem, left)
        if not why:
            context.note("pilot: none is needed; no short training would change the plan.")
            return None
        pairs = tuple(pair for pair in pairs if not pair.is_known)
        here = machine or calibration(context.cache_dir)
        frugal, reason = afforded(config, probe, problem, pairs, why, here, left.least_hours)
        if frugal is None:
            context.note(reason)
            return None
        context.note(frugal.said)
        parts = frugal.parts
        left_out.update(frugal.left_out)
        taken = [pair for pair in pairs if pair.name in parts]
        pairs = in_order(config, taken, frugal.estimate)
        pace = Pace(frugal.limit_seconds, frugal.estimate)
    ladder = Ladder(config, context, problem, pace, parts)
    with _leaving(context.ledger, left.least_usd):
        runs = ladder.climb(pairs, left_out)
    if is_auto and (warning := cut_short_by_time(pairs, runs)):
        context.warn(warning)
    points = [point for run in runs for point in run.points]
    return Pilot(
        task=config.task.name,
        runs=tuple(runs),
        left_out=left_out,
        seconds=time.perf_counter() - started,
        cpu_seconds=sum(point.cpu_seconds for point in points),
        usd=sum(run.usd for run in runs),
        why=why,
    )


@contextmanager
def _leaving(ledger: Ledger, usd: float) -> Iterator[None]:
    """Lower the ledger's budget so that `usd` are left of it."""
    budget = ledger.budget_usd
    if budget is not None:
        ledger.budget_usd = max(0.0, budget - usd)
    try:
        yield
    finally:
        ledger.budget_usd = budget
