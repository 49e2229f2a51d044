"""The serving engines that a plan chooses from."""

from __future__ import annotations

from collections.abc import Iterator

from stratos.config import DeployConfig
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


def loss_of(form: str) -> Assumption:
    """Return what a plan assumes of a format's accuracy."""
    return Assumption(
        f"accuracy lost by {form}",
        0.0,
        "points",
        "a plan cannot know it",
        "the stage deploy, which measures it and serves f32 if it is above deploy.max_loss_points",
    )
