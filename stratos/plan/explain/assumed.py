"""The list of assumptions of a plan: work, servers and places.

Those of a work are collected while it is priced (`Problem.assumed`); those of servers and places
depend on what was chosen. What a run has measured or a user has said is no assumption.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from stratos.catalog.table import LOCAL
from stratos.deploy.engines.known import engine_named
from stratos.estimate import constants as k
from stratos.estimate.fitted import fitted
from stratos.estimate.prediction_error import Factor
from stratos.plan.assumptions import utilised
from stratos.plan.egress import BYTES_PER_PARAM, BYTES_PER_TOKEN
from stratos.plan.explain.prices import egress_of
from stratos.plan.objective import RATES, Rates
from stratos.plan.option import Option
from stratos.plan.options.engine_choices import loss_of
from stratos.plan.options.spot import CHECKPOINT_HOURS, INTERRUPTIONS_PER_HOUR, RESTART_HOURS
from stratos.plan.problem import ROLES, Choice, Problem
from stratos.records import Assumption, Price


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
            yield Assumption(rate.said, usd, "USD", why, f"objective.{rate.key}=…")
