"""The cascade that a run has made, ready to be served."""

from __future__ import annotations

from pathlib import Path

import msgspec

from stratos.core.by_name import named
from stratos.core.errors import StratosError
from stratos.deploy.hosting import Front
from stratos.records import Cascade, ServingSetting, load
from stratos.teachers.openai import OpenAITeacher

ALONE = ":student"
"""End of a model's name that asks the student alone, whatever it is sure of."""


def front_of(bundle: Path, meter: Path, options: list[str]) -> tuple[Front, ServingSetting]:
    """Return what is started to serve the cascade of a run, and how its student is served.

    Args:
        bundle: of the student, in the folder of its run.
        meter: file of the dollars that the teacher was paid.
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
    try:
        teacher = named(config_of(run).teachers, made.endpoint.teacher)
    except KeyError:
        raise StratosError(f"{run}: its teacher {made.endpoint.teacher} is not known.") from None
    # A key that is missing stays so; an endpoint that is down may come back.
    if isinstance(teacher, OpenAITeacher):
        teacher.key()
    elif (why := teacher.unreachable()) is not None:
        raise StratosError(f"{teacher.name} cannot be asked: {why}")
    arguments = [str(run), "--meter", str(meter), *options]
    return Front("stratos.serve.cascade", arguments, f"{run.name}{ALONE}"), made.endpoint.run


def cascade_in(run: Path) -> Cascade:
    """Return the cascade of a run.

    Raises:
        StratosError: it has none, or one that keeps no promise.
    """
    try:
        found = load(run / "cascade.json", None, Cascade)
    except msgspec.DecodeError as error:
        raise StratosError(f"{run / 'cascade.json'} cannot be read ({error}).") from error
    if found is None or found.endpoint is None:
        raise StratosError(
            f"{run} has no cascade. Give its command again with cascade.accuracy=<share>, such as "
            f"0.95: then the threshold is chosen. What would come of it: python -m stratos.cascade "
            f"{run} --accuracy 0.95"
        )
    if not found.is_promised:
        raise StratosError(f"{run} has no cascade that keeps its promise. {found.text}")
    return found
