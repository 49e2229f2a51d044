"""The money of stages: what each may spend, what is held for a plan, and what the user sees."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from stratos.core.errors import BudgetError
from stratos.core.formats import usd
from stratos.core.money import exact_usd
from stratos.executors.job_of_stage import PLANNED, ROLE_OF
from stratos.ledger import reserves
from stratos.records import Plan
from stratos.run import resume
from stratos.run.placing import planned_egress_usd, planned_trials_usd, roles_of_jobs
from stratos.run.resume import Stage
from stratos.run.run_state import RunState
from stratos.run.words import MoreMoney


def cap_usd(state: RunState, stage: Stage[Any]) -> float | None:
    """Return what may be spent in all by the end of a stage."""
    own = getattr(state.config.limits, stage.own_limit) if stage.own_limit else None
    return state.ledger.cap_usd(own)


def more_money(state: RunState, stage: Stage[Any], record: Any) -> MoreMoney | None:
    """Return that a stage left out what it may now pay for; None where it did not, or may not."""
    cut_at, cap = getattr(record, "cut_at_usd", None), cap_usd(state, stage)
    if cut_at is None or (cap is not None and cap <= cut_at):
        return None
    return MoreMoney(cut_at, cap)


def with_money(
    state: RunState, tick: Callable[..., None], stage: Stage[Any]
) -> Callable[..., None]:
    """Return a stage's tick that shows what the run has spent so far, once the stage pays."""
    ledger = state.ledger
    limit, before = cap_usd(state, stage), ledger.usd_so_far
    # A limit of its own is on what the stage spends alone.
    others = ledger.spent_usd - ledger.spent_here_usd if stage.own_limit else 0.0

    def told(done: float, total: float, text: str = "") -> None:
        spent = ledger.usd_so_far
        if spent > before:
            money = f"{usd(spent - others)} spent" + ("" if limit is None else f" of {usd(limit)}")
            text = f"{text} · {money}" if text else money
        tick(done, total, text)

    return told


def hold_money(state: RunState, stage: Stage[Any], record: Any) -> None:
    """Hold what a plan counts with for each role; free what is left where one is done."""
    if isinstance(record, Plan):
        spenders = {one.name for one in state.stages if one.spends_plan}
        if state.asked & {stage.name, *spenders}:
            budget = state.ledger.budget_usd
            left = None if budget is None else max(0.0, budget - state.ledger.committed_usd)
            jobs = roles_of_jobs(state.config, record)
            egress = planned_egress_usd(state.config, record)
            done, trials = roles_done(state), planned_trials_usd(state.config, record)
            held = reserves.planned_usd(record, left, egress, jobs, done, trials)
            before = state.ledger.totals.plan
            is_new = before is None or before.plan != state.marks[stage.name]
            if is_new and state.asked & {*state.config.executor.stages}:
                missing = reserves.missing_usd(record, held, jobs, done, trials)
                enough = reserves.enough_usd(record, egress, done, trials)
                _check_jobs(state, missing, enough, [*jobs, *(["serve"] if trials else [])])
            reserves.allot(state.ledger, state.marks[stage.name], held)
    elif stage.name in state.asked:
        later = state.stages[state.stages.index(stage) + 1 :]
        paid_later = {role for one in later if one.name in state.asked for role in one.releases}
        for role in {*stage.releases} - paid_later:
            reserves.release(state.ledger, role)


def roles_done(state: RunState) -> list[str]:
    """Return the roles whose work lies in the folder, by the plan that was just made."""
    made, marks, done = dict(state.records), dict(state.marks), []
    for stage in state.stages:
        if stage.name not in PLANNED:
            continue
        kept = resume.find(stage, state.config.run_dir)
        if kept is None or kept.record is None:
            break
        mark = resume.fingerprint(stage, state.config, made, marks, kept.record)
        if kept.fingerprint != mark:
            break
        made[stage.name], marks[stage.name] = kept.record, mark
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
