"""The prices that a plan uses, with date and source, and warnings for old ones."""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Iterator

from stratos.plan.egress import Place
from stratos.plan.option import Option
from stratos.plan.options.hosted import is_hosted
from stratos.plan.problem import Choice, Problem
from stratos.records import ModelCard, Price

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
