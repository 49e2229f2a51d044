"""The serving engines that a plan chooses from."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from typing import Literal

from stratos.config import DeployConfig, LimitsConfig
from stratos.estimate import EngineChoice
from stratos.estimate.engines import ENGINES
from stratos.records import Assumption


def engine_choices(deploy: DeployConfig) -> tuple[EngineChoice, ...] | None:
    """Return the engines and formats of `deploy.engines`; None where a plan is not to choose.

    One whose files have to be made is left out where it is not installed.
    """
    found = [
        EngineChoice(
            one.kind,
            one.exports,
            tuple(sorted({1, one.at_once})) if one.exports else (),
        )
        for one in deploy.engines.values()
        if one.kind in ENGINES and not (one.exports and one.unusable())
    ]
    return tuple(found) if deploy.engines else None


def not_chosen_from(deploy: DeployConfig) -> Iterator[str]:
    """Yield what keeps engines out of the choice."""
    for one in deploy.engines.values():
        if one.exports and (why := one.unusable()) is not None:
            yield f"The plan does not consider {one.title}. {why}"


def no_engine(deploy: DeployConfig) -> str:
    """Return why no server of a catalog serves a student by the engines of a choice."""
    wanted = "; ".join(f"{one.title} wants {one.wants}" for one in deploy.engines.values())
    return f"none of deploy.engines serves it on a server that is allowed ({wanted})"


LOSS_POINTS = {"q8_0": (0.1, 0.6), "q4_k_m": (0.6, 1.8)}
"""Points of accuracy that a format loses, and the upper end of the 95% interval: the most of the
students in benchmarks/results/serving/format_loss.json. Of f32 and f16 every text was the same."""


def loss_points(form: str, confidence: Literal["low", "mean"] = "mean") -> float:
    """Return the points of accuracy that a plan counts for a format.

    Args:
        form: its name; "" for the bundle's own weights, which lose nothing.
        confidence: what of an interval counts (`limits.confidence`).
    """
    mean, high = LOSS_POINTS.get(form, (0.0, 0.0))
    return high if confidence == "low" else mean


def without(choices: Sequence[EngineChoice], forms: Collection[str]) -> tuple[EngineChoice, ...]:
    """Return engines with fewer formats; one that has none left is left out."""
    fewer = [(one, tuple(form for form in one.formats if form not in forms)) for one in choices]
    return tuple(
        replace(one, formats=formats) for one, formats in fewer if formats or not one.formats
    )


def too_lossy(
    choices: Sequence[EngineChoice] | None, accuracy: float, limits: LimitsConfig
) -> frozenset[str]:
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
    forms = {form for one in choices or () for form in one.formats}
    return frozenset(
        form
        for form in forms
        if (loss := loss_points(form, limits.confidence)) and accuracy - loss / 100 < least
    )


def not_in(forms: Collection[str], student: str, limits: LimitsConfig) -> str:
    """Say in which formats a student is not served, and why."""
    losses = {form: loss_points(form, limits.confidence) for form in sorted(forms)}
    told = ", ".join(f"{form} ({points:g} points)" for form, points in losses.items())
    return (
        f"{student} is not served as {told}: what these may lose of its accuracy would break "
        f"limits.accuracy={limits.accuracy:g}."
    )


def loss_of(form: str) -> Assumption:
    """Return what a plan assumes of a format's accuracy."""
    mean, high = LOSS_POINTS.get(form, (0.0, 0.0))
    measured = f"of students that were measured, {high:g} at most (benchmarks/results/serving)"
    return Assumption(
        f"accuracy lost by {form}",
        mean,
        "points",
        measured if high else "students that were measured answered the same to the letter",
        "the stage deploy, which measures it and serves f32 if it breaks a limit",
    )
