"""The serving engines and formats that a plan chooses from, and what the formats may lose."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from typing import Literal

from stratos.config import DeployConfig, LimitsConfig
from stratos.deploy.engines.cost import WeightFormat
from stratos.estimate.answering import EngineChoice
from stratos.plan.options.workload import assumed
from stratos.plan.words import EngineLeftOut, LosesTooMuch, NoEngine
from stratos.records import Assumption


def engine_choices(deploy: DeployConfig) -> tuple[EngineChoice, ...] | None:
    """Return the engines and formats of `deploy.engines`; None where a plan is not to choose.

    One whose files have to be made is left out where it is not installed.
    """
    choices = [
        EngineChoice(
            engine,
            tuple(engine.weight_format(name) for name in engine.exports),
            tuple(sorted({1, engine.at_once})) if engine.exports else (),
        )
        for engine in deploy.engines.values()
        if not (engine.exports and engine.unusable())
    ]
    return tuple(choices) if deploy.engines else None


def not_chosen_from(deploy: DeployConfig) -> Iterator[EngineLeftOut]:
    """Yield what keeps engines out of the choice."""
    for engine in deploy.engines.values():
        if engine.exports and (why := engine.unusable()) is not None:
            yield EngineLeftOut(engine.title, why)


def no_engine(deploy: DeployConfig) -> NoEngine:
    """Return why no server of a catalog serves a student by the engines of a choice."""
    return NoEngine(tuple((engine.title, engine.wants) for engine in deploy.engines.values()))


def loss_points(form: WeightFormat, confidence: Literal["low", "mean"] = "mean") -> float:
    """Return the points of accuracy that a plan counts for a format.

    Args:
        form: the format.
        confidence: what of an interval counts (`limits.confidence`).
    """
    return form.most_loss_points if confidence == "low" else form.loss_points


def lossy(choices: Sequence[EngineChoice]) -> frozenset[WeightFormat]:
    """Return the formats of engines that may change answers."""
    formats = (form for choice in choices for form in choice.engine.weight_formats)
    return frozenset(form for form in formats if form.most_loss_points)


def without(
    choices: Sequence[EngineChoice], forms: Collection[WeightFormat]
) -> tuple[EngineChoice, ...]:
    """Return engines with fewer formats; one that has none left is left out."""
    fewer = [
        replace(choice, formats=tuple(form for form in choice.formats if form not in forms))
        for choice in choices
    ]
    return tuple(
        less
        for less, choice in zip(fewer, choices, strict=True)
        if less.formats or not choice.formats
    )


def too_lossy(
    choices: Sequence[EngineChoice] | None, accuracy: float, limits: LimitsConfig
) -> frozenset[WeightFormat]:
    """Return the formats in which a student would break the accuracy limit.

    A student that breaks it anyhow is served without loss: so a limit that is lowered to what it
    reaches is kept.

    Args:
        choices: engines with their formats; None where a plan does not choose.
        accuracy: of the student, as the limit counts it.
        limits: of the run.
    """
    least = limits.accuracy
    if least is None:
        return frozenset()
    return frozenset(
        form
        for choice in choices or ()
        for form in choice.formats
        if (loss := loss_points(form, limits.confidence)) and accuracy - loss / 100 < least
    )


def not_in(
    forms: Collection[WeightFormat], student: str, limits: LimitsConfig
) -> LosesTooMuch | None:
    """Return why a student is not served in some formats; None if it is."""
    if limits.accuracy is None or not forms:
        return None
    losses = sorted((form.name, loss_points(form, limits.confidence)) for form in forms)
    return LosesTooMuch(student, tuple(losses), limits.accuracy)


def loss_of(form: WeightFormat) -> Assumption:
    """Return what a plan assumes of a format's accuracy."""
    high = form.most_loss_points
    measured = f"of students that were measured, {high:g} at most (benchmarks/results/serving)"
    why = measured if high else "students that were measured answered the same to the letter"
    return assumed("loss", form.loss_points, name=form.name, why=why)
