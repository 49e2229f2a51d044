"""A stage as a job of the executor: where it runs, what it may spend, and its record read.

A plan does without a server that could not be had for some hours, in its region first.
"""

from __future__ import annotations

import contextlib
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from stratos.catalog.residency import area_of, country_of
from stratos.config import CloudConfig, Config
from stratos.core.atomic_files import write_atomically
from stratos.core.context import Context
from stratos.core.errors import BudgetError, CapacityError, StratosError
from stratos.core.formats import exact_usd, usd
from stratos.core.reasons import Because, Reason
from stratos.core.values import find
from stratos.executors import submission
from stratos.executors.job import PLANNED, ROLE_OF, Returns, has_server, job_spec, offer_of
from stratos.ledger import reserves
from stratos.plan.option import list_prices
from stratos.plan.schedule import sent_back_gb
from stratos.records import Plan, Probe, Student, from_json
from stratos.run import resume
from stratos.run.resume import Stage
from stratos.run.run_state import RunState
from stratos.teachers.base import Teacher


def why_here(config: Config, stage: str, plan: Plan | None) -> Reason | None:
    """Return why a stage of `executor.stages` runs in this process; None if it runs as a job.

    Questions to a hosted teacher take no server, and its key stays with the process that the user
    started.
    """
    hosted = [each.name for each in _teachers(config, stage, plan) if not each.runs_here]
    if hosted:
        names = " and ".join(hosted)
        return Because(f"it asks {names} over the network, and keys stay on this machine")
    if stage == "deploy" and config.deploy.is_off:
        return Because("deploy=none leaves nothing to do")
    return None if has_server(stage, plan) else Because("the plan has no server for it")


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
    if config.executor.shares_files or stage != "evaluate" or student is None:
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


def _job_stages(config: Config, plan: Plan) -> list[str]:
    """Return the stages that will run as jobs."""
    return [stage for stage in config.executor.stages if why_here(config, stage, plan) is None]


def planned_egress_usd(config: Config, plan: Plan) -> float:
    """Return what jobs will cost that send their files to this machine, at most."""
    if config.executor.shares_files:
        return 0.0
    usd = 0.0
    for stage in _job_stages(config, plan):
        returns = returns_of(config, stage, plan)
        spec = job_spec(plan, stage, config.run_dir, config.executor, returns=returns)
        usd += returns.usd_per_gb * config.executor.egress_gb(spec)
    return usd


def planned_trials_usd(config: Config, plan: Plan) -> float:
    """Return what is set aside for jobs that try the student, whose hours no plan tells."""
    usd = 0.0
    for stage in {"evaluate", "deploy"} & {*config.stages} & {*_job_stages(config, plan)}:
        spec = job_spec(plan, stage, config.run_dir, config.executor)
        usd += spec.planned_hours * spec.usd_per_hour
    return usd


def _teachers(config: Config, stage: str, plan: Plan | None) -> Iterator[Teacher]:
    """Yield the teachers that a stage asks."""
    if stage == "probe":
        # One without its key can be asked neither here nor there.
        keys = ((teacher, teacher.api_key_env) for teacher in config.teachers)
        yield from (teacher for teacher, key in keys if key is None or os.environ.get(key))
        return
    if plan is None:
        return
    strategy = find(config.strategies, plan.strategy)
    asks = stage == "evaluate"
    if strategy is not None and stage == "synthesize":
        has_questions = strategy.n_questions(config.task) > 0
        asks = strategy.writes_reasoning or strategy.words_questions or has_questions
    elif strategy is not None and stage == "distill":
        asks = strategy.needs_logits
    teacher = find(config.teachers, plan.teacher)
    if teacher is not None and asks:
        yield teacher


T = TypeVar("T")

_SEEN_S = 10.0
"""How long another machine's file may take until it is seen here."""


def runs_as_job(state: RunState, stage: Stage[Any]) -> bool:
    """Return whether a stage runs as a job; say why where it was to, and does not."""
    if state.job is not None or stage.name not in state.config.executor.stages:
        return False
    why = why_here(state.config, stage.name, state.plan)
    if why is not None:
        state.console.note(f"{stage.name}: runs here, and not as a job: {why}.")
    return why is None


def made_by_job(state: RunState, stage: Stage[T], mark: str, context: Context) -> T:
    """Return the record of a stage that runs as a job.

    Raises:
        StratosError: the job failed, or what it left is not what was asked for.
    """
    from stratos.executors.handover import Handover, run_there
    from stratos.run.stored_config import hand_over

    folder, executor = state.config.run_dir, state.config.executor
    hand_over(folder, stage.name)  # the job reads it
    deadline = state.config.limits.deadline_hours
    spec = job_spec(
        state.plan, stage.name, folder, executor, deadline_hours=deadline,
        nodes=state.config.trainer.num_nodes if stage.name == "distill" else 1,
        withheld=keys_of(state.config), files=resume.files_of(stage, state.config),
        cache=cache_for(state.config, stage.name, state.records.get("distill")),
        returns=returns_of(state.config, stage.name, state.plan),
    )  # fmt: skip
    longest = deadline if executor.max_pending_hours is None else executor.max_pending_hours
    run_there(Handover(executor, spec, mark, state.inputs_now(stage), longest), context)
    stored = _found_late(stage, folder)
    if stored is None or stored.record is None:
        why = f"{folder} has none" if stored is None else stored.trouble
        raise StratosError(
            f"{stage.name}: its job ended well, and its record cannot be read: {why}. The job "
            "has to write to the folder that this machine reads: put the run on a file system "
            "that both share, with hydra.run.dir=<folder>."
        )
    record: T = stored.record
    if stored.fingerprint != state.fingerprint(stage, record):
        changed = resume.what_changed(stored.inputs, state.inputs(stage, record))
        raise StratosError(
            f"{stage.name}: its job made the record from other inputs than there are here: "
            f"{changed}. Give the same command again: it is made again."
        )
    return record


def end_job(state: RunState, stage: Stage[Any], record: Any) -> None:
    """Take notice of a job that has left its record while no command followed it."""
    if state.job is None and submission.find(state.config.run_dir, stage.name) is not None:
        from stratos.executors.handover import end_made

        inputs = state.inputs(stage, record)
        inputs.pop(resume.SEEN, None)
        end_made(
            state.config.run_dir, stage.name, inputs, state.ledger, state.console.note,
            state.warnings.add,
        )  # fmt: skip


def check_handed(state: RunState, stage: Stage[Any], mark: str) -> None:
    """Refuse to run a stage that a job still has, or as a job with other inputs than its own.

    Raises:
        StratosError: it is so.
    """
    folder = state.config.run_dir
    if state.job is not None and state.job.mark != mark:
        changed = resume.what_changed(state.job.inputs, state.inputs_now(stage))
        raise StratosError(
            f"{stage.name}: what its job finds is not what it was submitted with: {changed}. "
            "The nodes have to see the same files, and the same Stratos, as the machine that "
            "submits."
        )
    if state.job is None and (known := submission.find(folder, stage.name)) is not None:
        raise StratosError(known.refusal(folder))


def _found_late(stage: Stage[T], folder: Path) -> resume.StoredRecord | None:
    """Read the record that a job has left; a file system may show it seconds later."""
    until = time.monotonic() + _SEEN_S
    while (stored := resume.find(stage, folder)) is None and time.monotonic() < until:
        time.sleep(_SEEN_S / 20)
    return stored


def cap_usd(state: RunState, stage: Stage[Any]) -> float | None:
    """Return what may be spent in all by the end of a stage."""
    own = getattr(state.config.limits, stage.own_limit) if stage.own_limit else None
    return state.ledger.cap_usd(own)


def more_money(state: RunState, stage: Stage[Any], record: Any) -> Reason | None:
    """Return that a stage left out what it may now pay for; None where it did not, or may not."""
    cut_at, cap = getattr(record, "cut_at_usd", None), cap_usd(state, stage)
    if cut_at is None or (cap is not None and cap <= cut_at):
        return None
    now = "has no limit" if cap is None else f"may spend {usd(cap)}"
    return Because(f"it stopped at {usd(cut_at)} and now {now}")


def with_money(
    state: RunState, tick: Callable[..., None], stage: Stage[Any]
) -> Callable[..., None]:
    """Return a stage's tick that shows what the run has spent so far, once the stage pays."""
    ledger = state.ledger
    limit, before = cap_usd(state, stage), ledger.usd_so_far
    # A limit of its own is on what the stage spends alone.
    earlier_usd = ledger.spent_usd - ledger.spent_here_usd if stage.own_limit else 0.0

    def tick_with_money(done: float, total: float, text: str = "") -> None:
        spent = ledger.usd_so_far
        if spent > before:
            of = "" if limit is None else f" of {usd(limit)}"
            money = f"{usd(spent - earlier_usd)} spent{of}"
            text = f"{text} · {money}" if text else money
        tick(done, total, text)

    return tick_with_money


def hold_money(state: RunState, stage: Stage[Any], record: Any) -> None:
    """Hold what a plan counts with for each role; free what is left where one is done."""
    if isinstance(record, Plan):
        spenders = {each.name for each in state.stages if each.spends_plan}
        if state.requested & {stage.name, *spenders}:
            budget = state.ledger.budget_usd
            left_usd = None if budget is None else max(0.0, budget - state.ledger.committed_usd)
            # Their hours are those of jobs, each reserved in whole.
            jobs = [ROLE_OF[name] for name in _job_stages(state.config, record) if name in PLANNED]
            egress = planned_egress_usd(state.config, record)
            done, trials = roles_done(state), planned_trials_usd(state.config, record)
            reserved = reserves.planned_usd(record, left_usd, egress, jobs, done, trials)
            before = state.ledger.totals.plan
            is_new = before is None or before.plan != state.marks[stage.name]
            if is_new and state.requested & {*state.config.executor.stages}:
                missing = reserves.missing_usd(record, reserved, jobs, done, trials)
                enough = reserves.enough_usd(record, egress, done, trials)
                _check_jobs(state, missing, enough, [*jobs, *(["serve"] if trials else [])])
            reserves.allot(state.ledger, state.marks[stage.name], reserved)
    elif stage.name in state.requested:
        later = state.stages[state.stages.index(stage) + 1 :]
        paid_later = {
            role for each in later if each.name in state.requested for role in each.releases
        }
        for role in {*stage.releases} - paid_later:
            reserves.release(state.ledger, role)


def roles_done(state: RunState) -> list[str]:
    """Return the roles whose work lies in the folder, by the plan that was just made."""
    made, marks, done = dict(state.records), dict(state.marks), []
    for stage in state.stages:
        if stage.name not in PLANNED:
            continue
        stored = resume.find(stage, state.config.run_dir)
        if stored is None or stored.record is None:
            break
        mark = resume.fingerprint(stage, state.config, made, marks, stored.record)
        if stored.fingerprint != mark:
            break
        made[stage.name], marks[stage.name] = stored.record, mark
        done.append(ROLE_OF[stage.name])
    return done


def _check_jobs(state: RunState, missing_usd: float, enough_usd: float, jobs: list[str]) -> None:
    """Refuse a plan whose jobs could not be submitted, before anything of it is paid.

    Args:
        state: of the run.
        missing_usd: that is held too little for them.
        enough_usd: that is enough, from now on.
        jobs: their roles.

    Raises:
        BudgetError: their high ends are more than there is, without a dollar for serving.
    """
    budget = state.ledger.budget_usd
    if budget is None or missing_usd <= 1e-9:
        return
    # More of the budget is held for other roles, too, so that what is missing is not enough.
    least = max(budget + missing_usd, state.ledger.committed_usd + enough_usd)
    needed = math.ceil(100 * least - 1e-6) / 100
    raise BudgetError(
        f"limits.budget_usd={budget:g} is enough for what the plan expects, and not for its "
        f"jobs ({', '.join(jobs)}): the high end of their hours is set aside before they are "
        f"submitted, which is {exact_usd(missing_usd)} more than there is. Type "
        f"limits.budget_usd={needed:.2f} or more; what they do not use is free again."
    )


NAME = "refused.json"
MOST = 5
"""Servers that one command cannot have, one after the other, before it is left to the user."""
WAIT_S = 600.0
"""Seconds until they are tried again where `limits.deadline_hours` leaves time for it."""
HOURS = 6.0
"""After which a server that could not be had is tried again."""


class Refusal(msgspec.Struct, frozen=True):
    """A server that could not be had, or a region in which no other one does."""

    why: str
    at: float
    """Seconds since the epoch."""


def without_refused(config: Config, typed: Config | None = None) -> Config:
    """Return the config with a quota of none for each server that its run could not have.

    The plan stays in the region of the last one, or, where no other server there does, in what
    `cloud.regions` and `cloud.residency` allow; without either, in the country or union of it.

    Args:
        config: of the run.
        typed: the config whose cloud the user typed; None for the same one.
    """
    typed = config if typed is None else typed
    plain = dict(typed.plain.get("cloud") or {})
    if not (refused := refused_of(config)):
        plain_now = {**config.plain, "cloud": plain}
        return config if typed is config else replace(config, cloud=typed.cloud, plain=plain_now)
    region = region_of(config)
    servers = [key for key in refused if key.count("/") > 1]
    none = [key for key in servers if region is None or key.startswith(f"{region}/")]
    changes: dict[str, Any] = _places(typed.cloud, [*refused][-1])
    quotas = dict.fromkeys(none, 0)
    cloud = replace(typed.cloud, **changes, quotas={**typed.cloud.quotas, **quotas})
    plain |= {name: [*places] for name, places in changes.items()}
    plain["quotas"] = {**(plain.get("quotas") or {}), **quotas}
    return replace(config, cloud=cloud, plain={**config.plain, "cloud": plain})


def _places(cloud: CloudConfig, key: str) -> dict[str, tuple[str, ...]]:
    """Return fields of the cloud: where the plan stands after a server or region was refused."""
    name, region, *server = key.split("/", 2)
    if server:
        return {"regions": (region,)}
    area = area_of(country_of(name, region, cloud.countries))
    return {"residency": (area,)} if area and not (cloud.regions or cloud.residency) else {}


def refused_of(config: Config) -> Mapping[str, Refusal]:
    """Return what could not be had of the clouds that a run rents from now, the latest last."""
    clouds, refused = config.cloud.providers, _read(config.run_dir)
    return {key: refused[key] for key in refused if not clouds or key.split("/")[0] in clouds}


def check_limits(state: RunState, typed: Config) -> None:
    """Plan with the servers that could not be had, too: else the lack of them is not the cause.

    Args:
        state: of the run.
        typed: the config whose cloud the user typed.

    Raises:
        CatalogError: there is no plan with them either.
        InfeasibleError: the same; the message says what to change.
    """
    from stratos.plan import plan

    config, probe = replace(state.config, cloud=typed.cloud), state.records.get("probe")
    if isinstance(probe, Probe):
        context = Context(config.run_dir, config.cache_dir, state.ledger)
        plan(config, probe, context, state.records.get("pilot"))


def region_of(config: Config) -> str | None:
    """Return the cloud and region that the plan of a run is limited to; None where it is not."""
    *_, last = ["", *refused_of(config)]
    cloud, _, rest = last.partition("/")
    region, _, server = rest.partition("/")
    return f"{cloud}/{region}" if server else None


def refuse(folder: Path, error: CapacityError) -> None:
    """Keep which server could not be had, and why."""
    _keep(folder, error.server, str(error))


def give_up(folder: Path, region: str, why: str) -> None:
    """Keep that no other server of a region does, and why."""
    _keep(folder, region, why)


def forget_old(folder: Path) -> None:
    """Let what could not be had hours ago be tried again, unless a job or a student is made."""
    if (folder / "distill").exists() or submission.has_any(folder):
        return  # on a server that could be had: another plan would begin anew
    refused = _read(folder)
    since = time.time() - HOURS * 3600
    fresh = {key: refusal for key, refusal in refused.items() if refusal.at > since}
    if fresh != refused:
        _write(folder, fresh)


def forget_all(folder: Path) -> bool:
    """Let all that could not be had be tried again; return whether there was anything."""
    if not _read(folder):
        return False
    _write(folder, {})
    return True


def _keep(folder: Path, key: str, why: str) -> None:
    refused = dict(_read(folder))
    refused.pop(key, None)  # the last one is the latest
    _write(folder, {**refused, key: Refusal(why, time.time())})


def _write(folder: Path, refused: Mapping[str, Refusal]) -> None:
    write_atomically(folder / NAME, msgspec.json.format(msgspec.json.encode(refused), indent=1))


def _read(folder: Path) -> Mapping[str, Refusal]:
    with contextlib.suppress(OSError, msgspec.DecodeError):
        return from_json((folder / NAME).read_bytes(), dict[str, Refusal])
    return {}
