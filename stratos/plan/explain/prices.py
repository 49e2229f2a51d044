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
from stratos.plan.options.hosted import is_hosted
from stratos.plan.options.market import CHECKPOINT_HOURS, INTERRUPTIONS_PER_HOUR, RESTART_HOURS
from stratos.plan.options.pricing import loss_of
from stratos.plan.options.workload import utilised
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
    found = [price for option in chosen.options for part in option.parts for price in _rent(part)]
    teacher = problem.teachers.get(chosen.candidate.teacher)
    if teacher is not None and is_hosted(teacher):
        found += _tokens(teacher, chosen.options[0].parts[0].as_batch)
    found += _moves(problem, chosen)
    return tuple(dict.fromkeys(found))


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
    said = []
    if old:
        said.append(
            f"The plan uses prices older than {STALE_DAYS} days: "
            f"{', '.join(dict.fromkeys(f'{price.what} {price.date}' for price in old))}. "
            f"{_remedy(old)}"
        )
    if undated:
        names = dict.fromkeys(price.what for price in undated)
        said.append(f"The plan uses prices without a date: {', '.join(names)}.")
    return tuple(said)


def _remedy(old: Iterable[Price]) -> str:
    kinds = {price.kind for price in old}
    ways = []
    if "server" in kinds:
        ways.append("Name a fresher catalog with cloud.catalog=[…].")
    if "teacher" in kinds:
        ways.append(
            "Give the teacher's prices of today with teacher.usd_per_million_input_tokens=…, "
            "teacher.usd_per_million_output_tokens=… and teacher.price_date=<day>."
        )
    if "egress" in kinds:
        ways.append("Prices of egress are a list of the package; compare them with the cloud's.")
    return " ".join(ways)


def _rent(option: Option) -> Iterator[Price]:
    offer = option.offer
    if offer is None:
        return
    on_spot = option.spot and offer.usd_per_hour_spot is not None
    usd = offer.usd_per_hour_spot if on_spot else offer.usd_per_hour
    unit = "an hour on spot" if on_spot else "an hour"
    yield Price("server", offer.name, usd or 0.0, unit, offer.price_date, offer.source)


def _tokens(card: ModelCard, as_batch: bool) -> Iterator[Price]:
    asked, answered = card.usd_per_million_input_tokens, card.usd_per_million_output_tokens
    suffix = ""
    if as_batch:
        asked = card.usd_per_million_batch_input_tokens
        answered = card.usd_per_million_batch_output_tokens
        suffix = " in a batch"
    for usd, unit in ((asked, "a million tokens in"), (answered, "a million tokens out")):
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
    at = train.parts[0].place
    moves: list[tuple[str, Place | None, Place | None]] = [(first, teacher.parts[0].place, at)]
    moves += [(last, at, part.place) for part in serve.parts]
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
    others = [
        other
        for other, card in sorted(problem.teachers.items())
        if other != name and (not card.retires or card.retires > ends)
    ]
    then = (
        f"Teachers of this run that last longer: {', '.join(others)}"
        if others
        else ("Choose one that lasts longer with teacher=…")
    )
    yield (
        f"The teacher {name} ends on {ends}{f' ({source})' if source else ''}, within the "
        f"{served:,.0f} h until the serving of this plan ends: its answers are not available after "
        f"that. {then}."
    )


def assumptions_of(
    problem: Problem, chosen: Choice, prices: Iterable[Price], rates: Rates
) -> tuple[Assumption, ...]:
    """Return every assumption that a plan rests on, once.

    Args:
        problem: what was chosen from.
        chosen: the plan.
        prices: those that it uses.
        rates: what points, hours and milliseconds count in dollars.
    """
    found = [one for work in chosen.candidate.work for one in problem.assumed.get(work, ())]
    parts = [
        (role, part)
        for role, option in zip(ROLES, chosen.options, strict=True)
        for part in option.parts
        if part.offer is not None
    ]
    found += _servers(parts, problem.up)
    found += _moved(problem, prices)
    if problem.objective.weights is None:
        found += _exchange(rates)
    return tuple(dict.fromkeys(found))


def _servers(parts: Iterable[tuple[str, Option]], up: frozenset[str]) -> Iterator[Assumption]:
    for role, part in parts:
        offer = part.offer
        assert offer is not None, "only servers are looked at"
        if offer.is_rented and role != "serve" and role not in up:
            yield Assumption(
                "start-up of a rented server",
                60 * k.STARTUP_HOURS,
                "minutes",
                "order, boot, image and packages: 5 to 15 minutes are usual",
                "a measured start on that cloud",
            )
        if part.spot:
            yield from _spot()
        if part.run is not None and part.run.utilisation:
            yield utilised(part.run.utilisation)
        if part.run is not None and part.run.format:
            yield loss_of(engine_named(part.run.engine).weight_format(part.run.format))
        if offer.accelerator is None and offer.cloud != LOCAL and role == "train":
            yield Assumption(
                "training speed of a vCPU",
                k.CPU_TRAIN_GFLOPS_PER_VCPU,
                "GFLOP/s",
                "34 to 74 in recorded runs on one EPYC core; other CPUs differ by up to "
                f"{k.CPU_ERROR:g} times",
                "a training on that server, or cloud=local, which measures this machine",
            )
        if offer.accelerator is not None:
            yield from _gpu(offer.accelerator, "training" if role == "train" else "output_token")


def _spot() -> Iterator[Assumption]:
    yield Assumption(
        "spot interruptions",
        INTERRUPTIONS_PER_HOUR,
        "an hour and server",
        "the lowest rate that Bamboo replays from recorded GPU clusters (NSDI 2023); clouds "
        "publish none",
        "cloud.spot=false, or the cloud's own rate for that server",
    )
    yield Assumption(
        "work lost at a spot interruption",
        60 * (CHECKPOINT_HOURS / 2 + RESTART_HOURS),
        "minutes",
        "half of a quarter of an hour between checkpoints, and ten minutes to start again",
        "callbacks.checkpoint_every_steps, and a measured start on that cloud",
    )


def _gpu(name: str, quantity: str) -> Iterator[Assumption]:
    """Yield what is scaled from other GPUs for one that the estimate was not fitted to."""
    if fitted().errors[quantity].knows(Factor.GPU, name):
        return
    yield Assumption(
        f"speed of {name} in {'training' if quantity == 'training' else 'inference'}",
        k.MATMUL_SHARE.get(name, k.MATMUL_SHARE_UNKNOWN),
        "of its datasheet's peak",
        "scaled from GPUs that were measured, by FLOP/s and memory bandwidth",
        f"measured rows of {name} in benchmarks/estimate/fit.py",
    )


def _moved(problem: Problem, prices: Iterable[Price]) -> Iterator[Assumption]:
    moved = [price for price in prices if price.kind == "egress"]
    if not moved:
        return
    yield Assumption(
        "size of answers on their way",
        BYTES_PER_TOKEN,
        "bytes a token",
        "text in common tokenizers",
        "the size of the corpus, once it is made",
    )
    yield Assumption(
        "size of the bundle on its way", BYTES_PER_PARAM, "bytes a parameter", "bf16", "the bundle"
    )
    assumed = {egress_of(cloud) for cloud in problem.egress.assumed}
    for price in moved:
        if price.what in assumed:
            yield Assumption(
                price.what, price.usd, f"USD for {price.unit}", price.source,
                "the cloud's own price list",
            )  # fmt: skip


def _exchange(rates: Rates) -> Iterator[Assumption]:
    for rate in RATES:
        why = rates.why[rate.key]
        if why is not None:
            usd = rates.usd[rate.key]
            yield Assumption(rate.name, usd, "USD", why, f"objective.{rate.key}=…")
