"""Whether distilling pays: the planned student against the other ways to have requests answered.

Every number has a range. Distilling is advised where it wins against each way that does the task as
well, with the ends that speak against it: the dearest training, the cheapest answers. Staying is
advised where it loses against one of them with the ends that speak for it. Else the verdict is
open. The arithmetic is that of `break_even`.
"""

from __future__ import annotations

import datetime
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from stratos.config import Config
from stratos.core.counted import listed
from stratos.core.formats import duration, percent, usd
from stratos.plan.accuracy.without_model import needs_no_model
from stratos.plan.answer_price import shares_unknown
from stratos.plan.break_even import Ends, Money, Outcome, joint
from stratos.plan.explain.free_here import free_servers
from stratos.plan.horizon import Horizon, horizon_of
from stratos.plan.scale_to_zero import MOST_WAITING, scaled_to_zero
from stratos.plan.ways import hosted_ways, prompt_ways
from stratos.plan.worth_doubts import (
    doubts,
    is_measured,
    is_only_slow,
    misses_limit,
    slow_ones,
    unsure_of,
)
from stratos.plan.worth_words import (
    HEADS,
    beside_models,
    ended,
    in_words,
    months,
    volume,
    with_price,
)
from stratos.records import Interval, Plan, Probe, ScaledToZero, Way, Worth

SUNK = " What the student has cost so far is left out: it is spent either way."


def verdict_of(
    config: Config,
    probe: Probe,
    plan: Plan,
    today: datetime.date | None = None,
    open_models: Sequence[Way] = (),
    beaten_by: Mapping[str, str] | None = None,
) -> Worth | None:
    """Return `worth_of`, with what needs no model first where that may do as well.

    Then distilling is open, however well it pays against other models.
    """
    found, free = (
        worth_of(config, probe, plan, today, open_models, beaten_by),
        needs_no_model(probe),
    )
    if found is None or not free:
        return found
    outcome: Outcome = "stay" if found.outcome == "stay" else "open"
    text = f"{HEADS[outcome]}: {free} {beside_models(found)}"
    return replace(found, outcome=outcome, text=text)


def no_price(config: Config, probe: Probe) -> str:
    """Say why there is no verdict, to a user who gave the traffic; "" where none was given."""
    if config.traffic.requests_per_day is None:
        return ""
    names = [one.teacher for one in probe.teachers]
    if not names:
        return (
            "Whether distilling pays is not said: no model was probed. Name the one that you pay "
            "for: teacher=<name> (--help teacher lists them)."
        )
    have = "has" if len(names) == 1 else "have"
    return (
        f"Whether distilling pays is not said: {listed(names)} {have} no price by the token. "
        "For an endpoint that you pay for, give "
        "teacher.usd_per_million_input_tokens=<dollars> and "
        "teacher.usd_per_million_output_tokens=<dollars>."
    )


def worth_of(
    config: Config,
    probe: Probe,
    plan: Plan,
    today: datetime.date | None = None,
    open_models: Sequence[Way] = (),
    beaten_by: Mapping[str, str] | None = None,
) -> Worth | None:
    """Return whether a plan pays; None where there is no other way of a known price.

    Where servers of one's own count as $0 an hour, its words end with that.

    Args:
        config: the run: its traffic, and its limit of accuracy.
        probe: what the models showed.
        plan: the student, what it costs and how accurate it is expected to be.
        today: from which on the horizon counts; None takes the date of this machine.
        open_models: as they are, on rented servers.
        beaten_by: by the name of a way that was measured to be more accurate than the student, the
            numbers that show it, as "80% against 90% of …": distilling is not advised then.
    """
    found = _weighed(config, probe, plan, today, open_models, beaten_by or {})
    free = free_servers(plan.roles_of("serve"))
    if found is None or not free:
        return found
    return replace(found, text=f"{found.text} {free}")


def _weighed(
    config: Config,
    probe: Probe,
    plan: Plan,
    today: datetime.date | None,
    open_models: Sequence[Way],
    beaten_by: Mapping[str, str],
) -> Worth | None:
    hosted = hosted_ways(config, probe, plan)
    priced = (*hosted, *open_models)
    if not priced:
        return None
    student = Way(plan.student, True, plan.accuracy, None, plan.latency_ms, kind="student")
    horizon, rate = horizon_of(config.traffic), config.traffic.requests_per_day
    once, per_day = _once(plan), plan.servers_usd_per_day
    added = [way for room in config.rooms.values() for way in room.ways(config, plan, hosted)]
    facts: dict[str, Any] = {
        "ways": (student, *added, *hosted, *prompt_ways(config, probe), *open_models),
        "once_usd": once, "servers_usd_per_day": per_day, "months": horizon.months,
        "requests_per_day": rate, "growth_per_month": horizon.growth_per_month,
        "scaled": _scaled(config, plan, horizon),
    }  # fmt: skip
    able = [one for one in priced if not one.why_not]
    slow = slow_ones(config, plan, priced)
    if not able:
        others = [one for one in priced if not is_only_slow(config, plan, one)]
        why = "; ".join(f"{one.name}: {one.why_not}" for one in others)
        doubt = doubts(config, plan, priced, beaten_by)
        head = "Open" if doubt else "Distil"
        text = f"{head}: no model that was probed does the task as well and in time"
        text += f"{f' ({why})' if why else ''}.{slow}{doubt}"
        return Worth("open" if doubt else "distil", text, reference="", **facts)
    end_of = today or datetime.date.today()
    if rate is None:
        reference = min(able, key=_usd_per_answer)
        even = _ends(once, per_day, reference).break_even(horizon)
        text = (
            f"Against {with_price(reference)} distilling pays within {months(horizon)} from "
            f"{volume(even)} requests a day on. Give yours: traffic.requests_per_day=<number>."
        )
        text += shares_unknown(probe, reference.name) + SUNK * is_measured(plan)
        text += slow + doubts(config, plan, priced, beaten_by, reference) + unsure_of(reference)
        text += ended(reference, horizon, end_of)
        facts |= {"reference": reference.name, "break_even_per_day": even}
        return Worth("open", text, **facts)
    misses = misses_limit(config, plan) != ""
    outcome, reference = _decided(able, misses, once, per_day, rate, horizon)
    ends = _ends(once, per_day, reference)
    made_days = 0.0 if is_measured(plan) else plan.hours / 24
    even, payback = ends.break_even(horizon), ends.payback(rate, horizon, made_days)
    doubt = doubts(config, plan, priced, beaten_by, reference)
    if outcome == "distil" and doubt:
        outcome = "open"
    text = in_words(outcome, ends, reference, rate, horizon, payback, even)
    text += SUNK * is_measured(plan)
    text += ended(reference, horizon, end_of) + (slow + doubt) * (outcome != "stay")
    text += unsure_of(reference) + shares_unknown(probe, reference.name)
    text += _if_scaled(facts["scaled"], outcome, able, misses, once, per_day, rate, horizon)
    facts |= {"reference": reference.name, "break_even_per_day": even}
    return Worth(outcome, text, payback_days=payback, **facts)


def _decided(
    able: Sequence[Way], misses: bool, once: Interval, per_day: float, rate: float, horizon: Horizon
) -> tuple[Outcome, Way]:
    """Return the verdict where ways may turn out to be no alternatives: open if they turn it.

    Args:
        able: ways that do the task as well, or may.
        misses: the student does not do it: then what may do it is an alternative.
        once: dollars of teacher, data and training.
        per_day: of the student's servers.
        rate: requests a day at first.
        horizon: for how long.
    """
    outcome, reference = decided(able, once, per_day, rate, horizon)
    sure = [one for one in able if not one.unsure]
    if misses or len(sure) == len(able):
        return outcome, reference
    without: Outcome = "distil"
    other = reference
    if sure:
        without, other = decided(sure, once, per_day, rate, horizon)
    if outcome != without:
        return "open", reference
    return outcome, other if outcome == "stay" else reference


def decided(
    able: Sequence[Way], once: Interval, per_day: float, rate: float, horizon: Horizon
) -> tuple[Outcome, Way]:
    """Return the verdict, and the alternative that decides it: the cheapest by expected costs.

    Args:
        able: ways that do the task as well.
        once: dollars of teacher, data and training.
        per_day: of the student's servers.
        rate: requests a day at first.
        horizon: for how long.
    """
    ends = [_ends(once, per_day, one) for one in able]
    outcomes = [one.outcome(rate, horizon) for one in ends]
    verdict = joint(outcomes)
    # Against the cheapest of all distilling may be open, and lose against a dearer one surely.
    costs = [one.mean.alternative(horizon.days, rate, horizon) for one in ends]
    decisive = [i for i, one in enumerate(outcomes) if one == verdict or verdict != "stay"]
    return verdict, able[min(decisive, key=lambda i: costs[i])]


def _scaled(config: Config, plan: Plan, horizon: Horizon) -> ScaledToZero | None:
    """Return what one rented server costs if it is given back while nobody asks."""
    rate, serve = config.traffic.requests_per_day, plan.roles_of("serve")
    if rate is None or len(serve) != 1 or serve[0].count != 1:
        return None
    offer = serve[0].offer
    if offer is None or not offer.is_rented:
        return None
    per_day = plan.servers_usd_per_day
    found = scaled_to_zero(per_day, rate, horizon)
    if config.limits.latency_ms is not None and found.share_waiting > MOST_WAITING:
        return None
    return found if found.usd_per_day < 0.99 * per_day else None


def _if_scaled(
    scaled: ScaledToZero | None, outcome: Outcome, able: Sequence[Way], misses: bool,
    once: Interval, per_day: float, rate: float, horizon: Horizon,
) -> str:  # fmt: skip
    """Say what changes if the server is given back while nobody asks."""
    if scaled is None:
        return ""
    then, _ = _decided(able, misses, once, scaled.usd_per_day, rate, horizon)
    said = {
        "distil": "distilling pays", "stay": "it does not pay", "open": "it is open if it pays"
    }[then]  # fmt: skip
    so = f"then {'still ' * (then == outcome)}{said}"
    return (
        f" If its server is given back after {duration(scaled.keep_s)} without a request, it costs "
        f"{usd(scaled.usd_per_day)} a day in place of {usd(per_day)}, and "
        f"{percent(scaled.share_waiting)} of the requests wait for a start of about "
        f"{duration(scaled.start_s)}: {so}."
    )


def _once(plan: Plan) -> Interval:
    """Return the dollars of all but serving, from now on: none once the student is trained."""
    if is_measured(plan):
        return Interval(0.0, 0.0, 0.0, "spent already")
    mean = plan.once_usd
    low, high = plan.usd_range or (plan.usd, plan.usd)
    served = [role.usd_range or (role.usd, role.usd) for role in plan.roles_of("serve")]
    low, high = low - sum(one[0] for one in served), high - sum(one[1] for one in served)
    return Interval(mean, max(0.0, min(low, mean)), max(high, mean))


def _ends(once: Interval, per_day: float, other: Way) -> Ends:
    price, servers = other.usd_per_answer or Interval(0.0, 0.0, 0.0), other.usd_per_day or 0.0
    mean = Money(once.mean, per_day, price.mean, servers)
    return Ends(
        mean=mean,
        against=replace(mean, once=once.high, per_answer=price.low),
        in_favour=replace(mean, once=once.low, per_answer=price.high),
    )


def _usd_per_answer(way: Way) -> float:
    return math.inf if way.usd_per_answer is None else way.usd_per_answer.mean
