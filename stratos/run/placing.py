"""Where a stage runs: as a job of the executor, or here, and then why."""

from __future__ import annotations

import os
from collections.abc import Iterator

from stratos.config import Config
from stratos.core.by_name import find
from stratos.executors.job import has_server
from stratos.records import Plan
from stratos.teachers.base import HasKey, HasWeights, Teacher


def why_here(config: Config, stage: str, plan: Plan | None) -> str | None:
    """Say why a stage of `executor.stages` runs in this process; None if it runs as a job.

    Questions to a hosted teacher take no server, and its key stays with the process that the user
    started.
    """
    hosted = [one.name for one in _asked(config, stage, plan) if _is_hosted(one)]
    if hosted:
        return f"it asks {' and '.join(hosted)} over the network, and keys stay on this machine"
    if stage == "deploy" and config.deploy.name == "none":
        return "deploy=none leaves nothing to do"
    if not has_server(stage, plan):
        return "the plan has no server for it"
    return None


def keys_of(config: Config) -> tuple[str, ...]:
    """Return the variables of the environment that hold keys of teachers: no job gets them."""
    names = (one.api_key_env for one in config.teachers if isinstance(one, HasKey))
    return tuple(dict.fromkeys(name for name in names if name is not None))


def _asked(config: Config, stage: str, plan: Plan | None) -> Iterator[Teacher]:
    """Yield the teachers that a stage asks."""
    if stage == "probe":
        yield from (one for one in config.teachers if not _lacks_key(one))
        return
    if plan is None:
        return
    strategy = find(config.strategies, plan.strategy)
    asks = {
        "synthesize": strategy is not None
        and (strategy.writes_reasoning or strategy.n_questions(config.task) > 0),
        "distill": strategy is not None and strategy.needs_logits,
        "evaluate": True,
    }
    teacher = find(config.teachers, plan.teacher)
    if teacher is not None and asks.get(stage, False):
        yield teacher


def _is_hosted(teacher: Teacher) -> bool:
    return not isinstance(teacher, HasWeights)


def _lacks_key(teacher: Teacher) -> bool:
    """Return whether a teacher cannot be asked, here or there, for want of its key."""
    if not isinstance(teacher, HasKey) or teacher.api_key_env is None:
        return False
    return not os.environ.get(teacher.api_key_env)
