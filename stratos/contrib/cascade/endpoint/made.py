"""The cascade that a run has made, ready to be served."""

from __future__ import annotations

import sys
from itertools import pairwise
from pathlib import Path

import msgspec

from stratos.contrib.cascade.answered import is_of_bundle
from stratos.contrib.cascade.config import CascadeConfig, settings
from stratos.contrib.cascade.endpoint.meter import (
    counted_elsewhere,
    is_counting,
    meter_of,
    read_kept,
)
from stratos.contrib.cascade.record import Cascade
from stratos.contrib.cascade.words import NeverEnough
from stratos.core.by_name import named
from stratos.core.errors import StratosError
from stratos.deploy.hosted_server import FrontProgram, Hosted
from stratos.records import load
from stratos.teachers.call_budget import most_usd
from stratos.teachers.openai import OpenAITeacher

PROGRAM = "stratos.contrib.cascade.endpoint"
"""What is started, as for `python -m`."""
ALONE = ":student"
"""End of a model's name that asks the student alone, whatever it is sure of."""


def front_of(bundle: Path, cache_dir: Path, options: list[str]) -> FrontProgram:
    """Return what is started to serve the cascade of a run.

    Args:
        bundle: of the student, in the folder of its run.
        cache_dir: where the dollars of the teacher are counted.
        options: of the endpoint, as they were typed.

    Raises:
        StratosError: there is no run, no cascade, or no teacher that can be asked.
    """
    from stratos.run.kept_config import config_of

    run = bundle.parent
    if bundle.name != "bundle" or not (run / ".hydra" / "config.yaml").is_file():
        raise StratosError(
            f"{bundle} lies in no folder of a run, so that nothing is known of its teacher: name "
            "the folder of the run."
        )
    made = cascade_in(run)
    assert made.endpoint is not None
    config = config_of(run)
    try:
        teacher = named(config.teachers, made.endpoint.teacher)
    except KeyError:
        raise StratosError(f"{run}: its teacher {made.endpoint.teacher} is not known.") from None
    # A key that is missing stays so; an endpoint that is down may come back.
    if isinstance(teacher, OpenAITeacher):
        teacher.key()
    elif (why := teacher.unreachable()) is not None:
        raise StratosError(f"{teacher.name} cannot be asked: {why}")
    overrun = read_kept(meter_of(bundle, cache_dir)).overrun
    least = most_usd(teacher.card(), [], made.endpoint.teacher_tokens, overrun)
    for limit in never_enough(settings(config), options, least):
        print(limit, file=sys.stderr)
    arguments = [str(run), "--cache", str(cache_dir.absolute()), *options]
    return FrontProgram(
        module=PROGRAM,
        arguments=arguments,
        student=f"{run.name}{ALONE}",
        title="with its teacher behind it",
        run=made.endpoint.run,
    )


def check_alone(bundle: Path, cache_dir: Path, before: Hosted | None) -> None:
    """Refuse a second endpoint whose dollars would be counted in the same file.

    Args:
        bundle: that is to be served.
        cache_dir: where the dollars are counted.
        before: what is served from there, and ends before.

    Raises:
        StratosError: another one runs.
    """
    is_own = (
        before is not None and before.runs and before.module == PROGRAM and not before.is_outdated
    )
    if not is_own and is_counting(meter_of(bundle, cache_dir)):
        raise StratosError(counted_elsewhere(bundle))


def never_enough(config: CascadeConfig, options: list[str], least_usd: float) -> list[NeverEnough]:
    """Return the limits that allow not a single call.

    Args:
        config: limits of the run.
        options: of the endpoint, as they were typed; they come before those of the run.
        least_usd: dollars that are set aside for a call at least.
    """
    typed, too_low = dict(pairwise(options)), []
    for option, kept in (
        ("--usd-per-day", config.usd_per_day),
        ("--usd-per-month", config.usd_per_month),
    ):
        limit = float(typed[option]) if option in typed else kept
        if limit is not None and 0 < limit < least_usd:
            too_low.append(NeverEnough(option, limit, least_usd))
    return too_low


def cascade_in(run: Path) -> Cascade:
    """Return the cascade of a run.

    Raises:
        StratosError: it has none, one that keeps no promise, or one that was not made for the
            student that lies there now, or not with the promise that the run was given last.
    """
    from stratos.run.kept_config import config_of

    try:
        found = load(run / "cascade.json", None, Cascade)
    except msgspec.DecodeError as error:
        raise StratosError(f"{run / 'cascade.json'} cannot be read ({error}).") from error
    if found is None or found.endpoint is None:
        raise StratosError(
            f"{run} has no cascade. Give its command again with cascade.accuracy=<share>, such as "
            f"0.95: then the threshold is chosen. What would come of it: stratos cascade "
            f"{run} --accuracy 0.95"
        )
    asked = settings(config_of(run))
    if (asked.accuracy, asked.confidence) != (found.accuracy, found.confidence):
        given = "null" if asked.accuracy is None else f"{asked.accuracy:g}"
        raise StratosError(
            f"{run} was last given with cascade.accuracy={given} "
            f"cascade.confidence={asked.confidence:g}, and its cascade was made for "
            f"cascade.accuracy={found.accuracy:g} cascade.confidence={found.confidence:g}. Give "
            "the command of the run again with these, or serve the student without --cascade."
        )
    if not is_of_bundle(found, run):
        raise StratosError(
            f"{run / 'cascade.json'} was made with another bundle than {run / 'bundle'}: its "
            "threshold is of another student. Give the command of the run again with "
            f"cascade.accuracy={found.accuracy:g}, so that the threshold is chosen for this one."
        )
    if not found.is_promised:
        raise StratosError(f"{run} has no cascade that keeps its promise. {found.text}")
    return found
