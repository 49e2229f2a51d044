"""What a plan rests on: prices with date and source, assumptions, and when its teacher ends.

The list of assumptions of a plan: work, servers and places.

Those of a work are collected while it is priced (`Problem.assumed`); those of servers and places
depend on what was chosen. What a run has measured or a user has said is no assumption.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Iterator

from stratos.catalog.table import LOCAL
from stratos.deploy.engines.known import engine_named
from stratos.estimate import constants as k
from stratos.estimate.fitted import Factor, fitted
from stratos.plan.objective import RATES, Rates
from stratos.plan.option import BYTES_PER_PARAM, BYTES_PER_TOKEN, Option, Place
from stratos.plan.options.engine_choices import loss_of
from stratos.plan.options.hosted import is_hosted
from stratos.plan.options.market import CHECKPOINT_HOURS, INTERRUPTIONS_PER_HOUR, RESTART_HOURS
from stratos.plan.options.workload import assumed
from stratos.plan.problem import ROLES, Choice, Problem
from stratos.records import Assumption, ModelCard, Price

STALE_DAYS = 30
"""Prices older than this are warned about."""


def prices_of(problem: Problem, chosen: Choice) -> tuple[Price, ...]:
    """Return the price of every offer, teacher and move between places that a plan uses, once.

    Args:
        problem: what was chosen from, with the cards of its teachers.
        chosen: the plan.
    """
    prices = [price for option in chosen.options for part in option.parts for price in _rent(part)]
    teacher = problem.teachers.get(chosen.candidate.teacher)
    if teacher is not None and is_hosted(teacher):
        prices += _tokens(teacher, chosen.options[0].parts[0].as_batch)
    prices += _moves(problem, chosen)
    return tuple(dict.fromkeys(prices))


def stale(prices: Iterable[Price], today: datetime.date | None = None) -> tuple[str, ...]:
    """Return what is to be said of prices that are old or have no day.

    Args:
        prices: what a plan rests on.
        today: None takes the date of this machine.
    """
    limit = ((today or datetime.date.today()) - datetime.timedelta(days=STALE_DAYS)).isoformat()
    prices = list(prices)
    old = [price for price in prices if price.date and price.date < limit]
    # The price of a card has a source: one of a teacher without any was typed for this run.
    undated = [
        price for price in prices
        if not price.date and price.usd and not (price.kind == "teacher" and not price.source)
    ]  # fmt: skip
    warnings = []
    if old:
        warnings.append(
            f"The plan uses prices older than {STALE_DAYS} days: "
            f"{', '.join(dict.fromkeys(f'{price.what} {price.date}' for price in old))}. "
            f"{_remedy(old)}"
        )
    if undated:
        names = dict.fromkeys(price.what for price in undated)
        warnings.append(f"The plan uses prices without a date: {', '.join(names)}.")
    return tuple(warnings)


def _remedy(old: Iterable[Price]) -> str:
    kinds = {price.kind for price in old}
    remedies = []
    if "server" in kinds:
        remedies.append("Name a fresher catalog with cloud.catalog=[…].")
    if "teacher" in kinds:
        remedies.append(
            "Give the teacher's prices of today with teacher.usd_per_million_input_tokens=…, "
            "teacher.usd_per_million_output_tokens=… and teacher.price_date=<day>."
        )
    if "egress" in kinds:
        remedies.append(
            "Prices of egress are a list of the package; compare them with the cloud's."
        )
    return " ".join(remedies)


def _rent(option: Option) -> Iterator[Price]:
    offer = option.offer
    if offer is None:
        return
    on_spot = option.spot and offer.usd_per_hour_spot is not None
    usd = offer.usd_per_hour_spot if on_spot else offer.usd_per_hour
    unit = "an hour on spot" if on_spot else "an hour"
    yield Price("server", offer.name, usd or 0.0, unit, offer.price_date, offer.source)


def _tokens(card: ModelCard, as_batch: bool) -> Iterator[Price]:
    usd_in, usd_out = card.usd_per_million_input_tokens, card.usd_per_million_output_tokens
    suffix = ""
    if as_batch:
        usd_in = card.usd_per_million_batch_input_tokens
        usd_out = card.usd_per_million_batch_output_tokens
        suffix = " in a batch"
    for usd, unit in ((usd_in, "a million tokens in"), (usd_out, "a million tokens out")):
        yield Price(
            "teacher", card.name, usd or 0.0, unit + suffix, card.price_date, card.price_source
        )


def egress_of(cloud: str) -> str:
    """Return what the egress of a cloud is called among prices."""
    return f"egress of {cloud}"


def _moves(problem: Problem, chosen: Choice) -> Iterator[Price]:
    """Yield the prices of what leaves a place, where that costs something."""
    teacher, train, serve = chosen.options
    first, _, last = chosen.candidate.work
    at = train.parts[0].location
    moves: list[tuple[str, Place | None, Place | None]] = [(first, teacher.parts[0].location, at)]
    moves += [(last, at, part.location) for part in serve.parts]
    for work, source, target in moves:
        usd = problem.egress.price(source, target)
        if source is None or target is None or not usd or not problem.gb.get(work):
            continue
        unit = "a GB between its regions" if source[0] == target[0] else "a GB to the internet"
        date, origin = problem.egress.provenance_of(source[0])
        yield Price("egress", egress_of(source[0]), usd, unit, date, origin)


# Warn if a plan's teacher retires before its serving ends.


def end_of(problem: Problem, chosen: Choice) -> str:
    """Return the day from which a plan's teacher answers no more, "" where none is known."""
    card = problem.teachers.get(chosen.candidate.teacher)
    return card.retires if card is not None else ""


def ending(problem: Problem, chosen: Choice, today: datetime.date | None = None) -> Iterator[str]:
    """Yield what is to be said of a teacher that ends before the student's serving does.

    Args:
        problem: what was chosen from, with the cards of its teachers.
        chosen: the plan.
        today: the day of the plan; None takes the date of this machine.
    """
    ends = end_of(problem, chosen)
    if not ends:
        return
    now = today or datetime.date.today()
    served = chosen.hours + problem.limits.serve_hours
    if datetime.date.fromisoformat(ends) > now + datetime.timedelta(hours=served):
        return
    name = chosen.candidate.teacher
    source = problem.teachers[name].retires_source
    longer = [
        teacher
        for teacher, card in sorted(problem.teachers.items())
        if teacher != name and (not card.retires or card.retires > ends)
    ]
    then = "Choose one that lasts longer with teacher=…"
    if longer:
        then = f"Teachers of this run that last longer: {', '.join(longer)}"
    yield (
        f"The teacher {name} ends on {ends}{f' ({source})' if source else ''}, within the "
        f"{served:,.0f} h until the serving of this plan ends: its answers are not available after "
        f"that. {then}."
    )


def assumptions_of(
    problem: Problem, chosen: Choice, prices: Iterable[Price], rates: Rates
) -> tuple[Assumption, ...]:
    """Return every assumption that a plan rests on, once."""
    assumptions = [
        assumption for work in chosen.candidate.work for assumption in problem.assumed.get(work, ())
    ]
    parts = [
        (role, part)
        for role, option in zip(ROLES, chosen.options, strict=True)
        for part in option.parts
        if part.offer is not None
    ]
    assumptions += _servers(parts, problem.up)
    assumptions += _moved(problem, prices)
    if problem.objective.weights is None:
        assumptions += _exchange(rates)
    return tuple(dict.fromkeys(assumptions))


def _servers(parts: Iterable[tuple[str, Option]], up: frozenset[str]) -> Iterator[Assumption]:
    for role, part in parts:
        offer = part.offer
        assert offer is not None, "only servers are looked at"
        if offer.is_rented and role != "serve" and role not in up:
            yield assumed("startup", 60 * k.STARTUP_HOURS)
        if part.spot:
            yield assumed("interruptions", INTERRUPTIONS_PER_HOUR)
            yield assumed("restart", 60 * (CHECKPOINT_HOURS / 2 + RESTART_HOURS))
        if part.run is not None and part.run.utilisation:
            yield assumed("utilisation", part.run.utilisation)
        if part.run is not None and part.run.format:
            yield loss_of(engine_named(part.run.engine).weight_format(part.run.format))
        if offer.accelerator is None and offer.cloud != LOCAL and role == "train":
            yield assumed("vcpu", k.CPU_TRAIN_GFLOPS_PER_VCPU, error=k.CPU_ERROR)
        if offer.accelerator is not None:
            yield from _gpu(offer.accelerator, is_training=role == "train")


def _gpu(name: str, is_training: bool) -> Iterator[Assumption]:
    """Yield what is scaled from other GPUs for one that the estimate was not fitted to."""
    if not fitted().errors["training" if is_training else "output_token"].knows(Factor.GPU, name):
        share = k.MATMUL_SHARE.get(name, k.MATMUL_SHARE_UNKNOWN)
        work = "training" if is_training else "inference"
        yield assumed("gpu", share, name=name, work=work)


def _moved(problem: Problem, prices: Iterable[Price]) -> Iterator[Assumption]:
    moved = [price for price in prices if price.kind == "egress"]
    if not moved:
        return
    yield assumed("dataset", BYTES_PER_TOKEN)
    yield assumed("bundle", BYTES_PER_PARAM)
    names = {egress_of(cloud) for cloud in problem.egress.assumed}
    for price in moved:
        if price.what in names:
            unit, why = price.unit, price.source
            yield assumed("egress", price.usd, name=price.what, unit=unit, why=why)


def _exchange(rates: Rates) -> Iterator[Assumption]:
    for rate in RATES:
        why = rates.why[rate.key]
        if why is not None:
            usd = rates.usd[rate.key]
            yield assumed("exchange", usd, name=rate.name, why=why, key=rate.key)
