"""The job of a stage by the plan and the settings: its name, its server, its hours, its price."""

from __future__ import annotations

import hashlib
import re
import sys
from collections.abc import Mapping
from pathlib import Path

from stratos.core.process import JOB
from stratos.executors.job import Executor, JobSpec, Returns
from stratos.executors.words import FewerNodes
from stratos.ledger.reserves import LEAST_HOURS
from stratos.records import Offer, Plan, RoleChoice

ROLE_OF: dict[str, str] = {
    "probe": "teacher",
    "synthesize": "teacher",
    "distill": "train",
    "evaluate": "serve",
    "deploy": "serve",
}
"""Stage to the role of the plan whose server does its work."""
PLANNED = frozenset(("synthesize", "distill"))
"""Stages whose hours a plan tells. There is none before the probe, and the hours of a server that
serves are those of the service, not of the stages that try it."""


def has_server(stage: str, plan: Plan | None) -> bool:
    """Return whether the plan has a server for a stage; before there is a plan, any will do."""
    return stage == "probe" or (plan is not None and _server(plan, ROLE_OF[stage]) is not None)


def offer_of(plan: Plan | None, stage: str) -> Offer | None:
    """Return the server that the plan chose for a stage; None where there is none."""
    choice = _choice(plan, stage)
    return None if choice is None else choice.offer


def job_spec(
    plan: Plan | None,
    stage: str,
    folder: Path,
    settings: Executor,
    *,
    deadline_hours: float | None = None,
    withheld: tuple[str, ...] = (),
    nodes: int = 1,
    files: tuple[Path, ...] = (),
    cache: Mapping[str, bytes] | None = None,
    returns: Returns | None = None,
) -> JobSpec:
    """Return the job of a stage.

    Args:
        plan: of the run; the probe has none.
        stage: its name.
        folder: of the run.
        settings: of the executor.
        deadline_hours: of the run; no job takes longer.
        withheld: variables of the environment that the job does not get.
        nodes: that it runs on.
        files: of this machine, outside of the run folder, that the stage reads.
        cache: what the stage finds in the folder of the caches where that is not shared.
        returns: what it sends to this machine where no files are shared.
    """
    folder = folder.resolve()
    name = job_name(folder, stage)
    choice = _choice(plan, stage)
    offer = None if choice is None else choice.offer
    planned = 0.0
    if choice is not None and stage in PLANNED:
        planned = max(choice.hours, *(choice.hours_range or (0.0,)))
        planned *= max(1.0, choice.count / nodes)  # a plan that was made for more servers
    hours = settings.hours
    if hours is None:
        wanted = max(LEAST_HOURS, planned * settings.hours_factor) if planned else None
        hours = min((one for one in (wanted, deadline_hours) if one is not None), default=None)
    price = settings.usd_per_hour
    if price is None:
        price = 0.0 if choice is None else _usd_per_hour(choice)
    return JobSpec(
        name=name,
        stage=stage,
        folder=folder,
        role=ROLE_OF[stage],
        nodes=nodes,
        offer=offer,
        hours=hours,
        planned_hours=planned or min(LEAST_HOURS, hours or LEAST_HOURS),
        usd_per_hour=price * nodes,
        command=(sys.executable, "-m", "stratos", "stage", str(folder), stage, "--job"),
        env={JOB: name},
        withheld=withheld,
        spot=choice is not None and _is_spot(choice),
        files=files,
        cache=cache or {},
        returns=returns or Returns(),
    )


def fewer_nodes(plan: Plan | None, spec: JobSpec, executor: Executor) -> FewerNodes | None:
    """Return that a job has fewer servers than the plan counts with; None where it has them all.

    A plan counts with the servers that its jobs have. One of an earlier command, whose stage is not
    asked for again, may have shared the work among more.

    Args:
        plan: of the run.
        spec: of the job.
        executor: that runs it.
    """
    choice = _choice(plan, spec.stage)
    if choice is None or spec.stage not in PLANNED or executor.runs_here:
        return None
    if choice.count <= spec.nodes:
        return None
    return FewerNodes(executor.kind, choice.count, spec.nodes)


def job_name(folder: Path, stage: str) -> str:
    """Return the name of a stage's job: one for each run folder."""
    mark = hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:12]
    shown = re.sub(r"[^A-Za-z0-9_.-]+", "-", folder.resolve().name)[:60]
    return f"stratos-{shown}-{mark}-{stage}"


def _choice(plan: Plan | None, stage: str) -> RoleChoice | None:
    return None if plan is None or stage == "probe" else _server(plan, ROLE_OF[stage])


def _server(plan: Plan, role: str) -> RoleChoice | None:
    return next((one for one in plan.roles_of(role) if one.offer is not None), None)


def _usd_per_hour(choice: RoleChoice) -> float:
    assert choice.offer is not None
    spot = choice.offer.usd_per_hour_spot
    return spot if _is_spot(choice) and spot is not None else choice.offer.usd_per_hour


def _is_spot(choice: RoleChoice) -> bool:
    return choice.spot and choice.offer is not None and choice.offer.usd_per_hour_spot is not None
