"""Where a stage runs: as a job of the executor, or here, and then why."""

from __future__ import annotations

import os
from collections.abc import Iterator

from stratos.config import Config
from stratos.core.by_name import find
from stratos.core.reasons import Reason
from stratos.executors.job import Returns
from stratos.executors.job_of_stage import PLANNED, ROLE_OF, has_server, job_spec, offer_of
from stratos.plan.option import list_prices
from stratos.plan.until_report import sent_back_gb
from stratos.records import Plan, Student
from stratos.run.words import AsksOverNetwork, NoServer, NothingDeployed
from stratos.teachers.base import Teacher


def why_here(config: Config, stage: str, plan: Plan | None) -> Reason | None:
    """Return why a stage of `executor.stages` runs in this process; None if it runs as a job.

    Questions to a hosted teacher take no server, and its key stays with the process that the user
    started.
    """
    hosted = tuple(one.name for one in _asked(config, stage, plan) if not one.runs_here)
    if hosted:
        return AsksOverNetwork(hosted)
    if stage == "deploy" and config.deploy.is_off:
        return NothingDeployed()
    return None if has_server(stage, plan) else NoServer()


def keys_of(config: Config) -> tuple[str, ...]:
    """Return the variables of the environment that hold keys of teachers: no job gets them."""
    names = (teacher.api_key_env for teacher in config.teachers)
    return tuple(dict.fromkeys(name for name in names if name is not None))


def cache_for(config: Config, stage: str, student: Student | None) -> dict[str, bytes]:
    """Return what a job needs of the cache folder of this machine, which it does not share.

    Whoever reads test items is noted in a log of this machine. So that is done before the job is
    submitted, whatever becomes of it, and the job finds what the log says about these items.

    Args:
        config: of the run.
        stage: that runs as a job.
        student: of the run, where there is one.
    """
    if stage != "evaluate" or student is None:
        return {}
    from stratos.evaluate.read_log import LOG, excerpt, note_reads  # imports torch

    items = config.task.items("test", config.evaluate.n_items, config.seed)
    note_reads(config.cache_dir, config.run_dir, student.weights_sha256, items)
    return {LOG: excerpt(config.cache_dir, items)}


def returns_of(config: Config, stage: str, plan: Plan | None) -> Returns:
    """Return what a job sends to this machine, and what its cloud bills for that.

    Args:
        config: of the run.
        stage: that runs as a job.
        plan: of the run.
    """
    if config.executor.shares_files:
        return Returns()
    price = config.executor.usd_per_gb_of(
        offer_of(plan, stage), lambda cloud: list_prices().of(cloud)[1]
    )
    return Returns(price, *sent_back_gb(config, plan, stage))


def planned_egress_usd(config: Config, plan: Plan) -> float:
    """Return what jobs will cost that send their files to this machine, at most."""
    usd = 0.0
    for stage in config.executor.stages:
        if config.executor.shares_files or why_here(config, stage, plan) is not None:
            continue
        returns = returns_of(config, stage, plan)
        spec = job_spec(plan, stage, config.run_dir, config.executor, returns=returns)
        usd += returns.usd_per_gb * config.executor.egress_gb(spec)
    return usd


def planned_trials_usd(config: Config, plan: Plan) -> float:
    """Return what is set aside for jobs that try the student, whose hours no plan tells."""
    usd = 0.0
    for stage in config.executor.stages:
        if stage not in ("evaluate", "deploy") or stage not in config.stages:
            continue
        if why_here(config, stage, plan) is None:
            spec = job_spec(plan, stage, config.run_dir, config.executor)
            usd += spec.planned_hours * spec.usd_per_hour
    return usd


def roles_of_jobs(config: Config, plan: Plan) -> list[str]:
    """Return the roles of a plan whose hours are those of jobs, each reserved in whole."""
    stages = [one for one in config.executor.stages if one in PLANNED]
    return [ROLE_OF[one] for one in stages if why_here(config, one, plan) is None]


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
        and (
            strategy.writes_reasoning
            or strategy.words_questions
            or strategy.n_questions(config.task) > 0
        ),
        "distill": strategy is not None and strategy.needs_logits,
        "evaluate": True,
    }
    teacher = find(config.teachers, plan.teacher)
    if teacher is not None and asks.get(stage, False):
        yield teacher


def _lacks_key(teacher: Teacher) -> bool:
    """Return whether a teacher cannot be asked, here or there, for want of its key."""
    return teacher.api_key_env is not None and not os.environ.get(teacher.api_key_env)
