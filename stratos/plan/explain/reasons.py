"""The reasons for a plan, as sentences with numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from stratos.config import ObjectiveConfig
from stratos.core.formats import listed, predicted, sentence, taken_before
from stratos.plan.objective import (
    ACCURACY,
    COSTS,
    LIMITS,
    USD,
    Linear,
    Rates,
    best,
    counted_by,
    goal_of,
    levels,
    money,
    weighted,
    with_limit,
)
from stratos.plan.problem import Choice, Problem
from stratos.plan.solve.frontier import within
from stratos.plan.solve.model import TIE
from stratos.plan.words import free_servers
from stratos.records import Offer, PlanPoint

# Plans in words: one in a line, two compared.


LEAST_USD = 0.005
"""Dollars below which a difference is not worth a word."""

SAME = 1e-6
"""Relative difference below which two values are the same."""


def describe(choice: Choice) -> str:
    """Return a plan in one line: who, and its four values."""
    return (
        f"{choice.candidate.name}: {money(choice.usd)}, {choice.hours:.3g} h, "
        f"{choice.latency_ms:,.0f} ms, accuracy {predicted(choice.candidate.accuracy)}"
    )


def servers(choice: Choice) -> str:
    """Return the servers of a plan in one line, role by role."""
    return "; ".join(f"{role} {' + '.join(names)}" for role, names in by_role(choice).items())


def by_role(choice: Choice) -> dict[str, list[str]]:
    """Return each role's servers by name; serving may mix several."""
    found: dict[str, list[str]] = {}
    for role in choice.roles():
        times = f"{role.count} × " if role.count > 1 else ""
        spot = " spot" if role.spot else ""
        name = role.offer.name if role.offer is not None else role.note or "no server"
        found.setdefault(role.role, []).append(f"{times}{name}{spot}")
    return found


def is_same(one: Choice, other: Choice) -> bool:
    """Tell whether two plans have the same values."""
    return all(
        abs(a - b) <= SAME * max(1.0, abs(a)) for a, b in zip(one.costs, other.costs, strict=True)
    )


def difference(before: Choice, after: Choice, net: Linear, objective: ObjectiveConfig) -> str:
    """Say what one plan gains and loses on another: "net cost −$0.21, cost +$1.20".

    Args:
        before: the plan that is compared with.
        after: the other plan.
        net: the net cost.
        objective: what the plans are chosen by; it is said first.
    """
    parts = {
        cost.name: _signed(cost.label, cost.value(after) - cost.value(before), cost.write)
        for cost in COSTS
    }
    if before.candidate.is_known != after.candidate.is_known:
        parts[ACCURACY.name] = f"accuracy {_state(after)}"
    elif not before.candidate.is_known:
        parts[ACCURACY.name] = ""
    first = [parts.pop(cost.name) for cost in weighted(objective)]
    net_change = _signed("net cost", net(after) - net(before), money)
    ordered = [*first, net_change, *parts.values()]
    return ", ".join(filter(None, ordered)) or "less than what would show"


def _signed(label: str, change: float, write: Callable[[float], str]) -> str:
    """Write a difference with its sign, nothing where it is rounding or all its digits are 0."""
    if abs(change) < 1e-9:
        return ""
    written = write(abs(change))
    sign = "−" if change < 0 else "+"
    return f"{label} {sign}{written}" if any(d in written for d in "123456789") else ""


def in_dollars(chosen: Choice, other: Choice, net: Linear) -> str:
    """Say what another plan's net cost is beyond the chosen one's, value by value.

    Each value that is not dollars is said with what it counts: "+0.22 h for +$0.22".
    """
    point, _, hour, millisecond = net.weights
    parts = []
    usd = other.usd - chosen.usd
    if abs(usd) >= LEAST_USD:
        parts.append(f"{_plus(usd)} to pay")
    for written, counts in (
        (_points(chosen, other), -point * (other.accuracy - chosen.accuracy)),
        (f"{other.hours - chosen.hours:+.3g} h", hour * (other.hours - chosen.hours)),
        (f"{other.latency_ms - chosen.latency_ms:+,.0f} ms",
         millisecond * (other.latency_ms - chosen.latency_ms)),
    ):  # fmt: skip
        if abs(counts) >= LEAST_USD:
            parts.append(f"{written} for {_plus(counts)}")
    return ", ".join(parts).replace("-", "−") or "a tie in dollars"


def _state(choice: Choice) -> str:
    """Say whether an accuracy is known, or at least measured."""
    if choice.candidate.is_known:
        return "known"
    return "unknown" if choice.candidate.accuracy.tried is None else "not predicted"


def _points(chosen: Choice, other: Choice) -> str:
    if chosen.candidate.is_known != other.candidate.is_known:
        return f"an accuracy that is {_state(other)}"
    points = f"{100 * (other.accuracy - chosen.accuracy):+.1f} points"
    return points if chosen.candidate.is_known else f"{points} of what the teacher knows"


def _plus(usd: float) -> str:
    return f"{'-' if usd < 0 else '+'}{money(abs(usd))}"


# A plan as a table row.


def as_point(choice: Choice, net: Linear) -> PlanPoint:
    """Return a plan as a row.

    Args:
        choice: the plan.
        net: what its net cost is.
    """
    predicted = choice.candidate.accuracy
    return PlanPoint(
        teacher=choice.candidate.teacher,
        student=choice.candidate.student,
        strategy=choice.candidate.strategy,
        accuracy=predicted.mean if predicted.is_known else 0.0,
        usd=choice.usd,
        hours=choice.hours,
        latency_ms=choice.latency_ms,
        servers={role: " + ".join(names) for role, names in by_role(choice).items()},
        accuracy_known=predicted.is_known,
        accuracy_low=predicted.low,
        accuracy_high=predicted.high,
        net_usd=net(choice),
        accuracy_tried=predicted.tried,
    )


# The waits that decided between partitions of a cluster, and whose jobs make room for the plan.


_ROLES = {"teacher": "the teacher", "train": "the training"}


def queued(problem: Problem, chosen: Choice) -> Iterator[str]:
    """Yield a sentence for each partition that the plan waits for where others have such servers.

    Args:
        problem: what was chosen from.
        chosen: the plan.
    """
    roles: dict[Offer, list[str]] = {}
    for role in chosen.roles():
        if role.role in _ROLES and role.offer is not None and role.wait_hours is not None:
            roles.setdefault(role.offer, []).append(_ROLES[role.role])
    for offer, names in roles.items():
        waits = {
            region: hours
            for (cloud, region, kind), hours in problem.wait_hours.items()
            if (cloud, kind) == (offer.cloud, offer.instance_type)
        }
        others = problem.preempts.get((offer.cloud, offer.region), {})
        others = {name: mode for name, mode in others.items() if name in waits}
        is_decided = waits.get(offer.region, 0.0) < max(waits.values(), default=0.0)
        if is_decided or others:
            yield _said(offer, names, waits, others)


def _said(
    offer: Offer, names: list[str], waits: Mapping[str, float], others: Mapping[str, str]
) -> str:
    by_wait = sorted(waits.items(), key=lambda one: (one[1], one[0]))
    told = listed([f"{name} about {hours:.2g} h" for name, hours in by_wait])
    said = (
        f"A job of {offer.instance_type} waits by partition: {told}; {offer.region} was chosen for "
        f"{listed(names)}."
    )
    if not others:
        return said
    modes = listed([f"{name} (PreemptMode={mode})" for name, mode in sorted(others.items())])
    free = ",".join(sorted(name for name in waits if name != offer.region))
    return (
        f"{said} Jobs of {offer.region} may preempt those of {modes}: cloud.regions=[{free}] "
        f"leaves {offer.region} out."
    )


def reasons(
    problem: Problem, chosen: Choice, everything: Sequence[Choice], rates: Rates
) -> tuple[str, ...]:
    """Return the sentences, in the order that a reader asks for them.

    Args:
        problem: what was chosen from.
        chosen: the plan.
        everything: the frontier before the limits.
        rates: what points, hours and milliseconds count in dollars.
    """
    net = rates.net_cost
    feasible = within(everything, problem.ahead(problem.limits), problem.spent_usd)
    return (
        *problem.evidence,
        *spent(problem),
        _strategy(problem, chosen),
        _accuracy(chosen),
        *_engines(chosen),
        *queued(problem, chosen),
        *_asked(problem, chosen),
        _goal(problem, chosen),
        *_beside(problem, chosen, feasible, rates),
        *_binding(problem, chosen, everything, net),
        *_runner_up(problem, chosen, feasible, net),
        *_free(chosen),
    )


def spent(problem: Problem) -> list[str]:
    """Say what of the budget and of the deadline is gone, if something is."""
    budget, deadline = problem.limits.budget_usd, problem.limits.deadline_hours
    found = []
    if problem.spent_usd and budget is not None:
        found.append(f"${problem.spent_usd:.2f} of the budget of ${budget:.2f} is spent already.")
    if problem.spent_hours:
        counts = "" if deadline is None else f", and the deadline of {deadline:g} h counts them"
        before = sentence(taken_before(problem.spent_hours))
        found.append(f"{before}{counts}. The hours of the plan come after.")
    return found


def _strategy(problem: Problem, chosen: Choice) -> str:
    strategy = chosen.candidate.strategy
    others = sorted({c.strategy for c in problem.candidates} - {strategy})
    if others:
        return f"{strategy} was chosen over {', '.join(others)}, which were also possible."
    return problem.strategies[strategy].why_alone()


def _engines(chosen: Choice) -> list[str]:
    """Say which engines and formats serve, if the plan chose among several."""
    runs = [one.run for one in chosen.options[2].parts if one.run is not None]
    named = dict.fromkeys(run.name for run in runs if run.format)
    return [f"Served by {listed(list(named))}: chosen with the servers."] if named else []


def _accuracy(chosen: Choice) -> str:
    candidate, accuracy = chosen.candidate, chosen.candidate.accuracy
    if candidate.is_known:
        reaches = predicted(accuracy)
        return f"{candidate.student} is predicted to reach {reaches}: {accuracy.source}."
    ordered = (
        " No other pair has a known accuracy either: they are ranked by what their teachers know."
        if candidate.stand_in
        else ""
    )
    return f"The accuracy of {candidate.student} is {accuracy.source}.{ordered}"


def _asked(problem: Problem, chosen: Choice) -> list[str]:
    """Say what the teacher's work costs at least and at most, where that depends on its answers."""
    candidate = chosen.candidate
    why = problem.ranges.get(candidate.work[0])
    role = next(role for role in chosen.roles() if role.role == "teacher")
    if why is None or role.usd_range is None:
        return []
    low, high = role.usd_range
    return [
        f"{candidate.teacher} is expected to cost ${role.usd:.2f} (${low:.2f} to ${high:.2f}): "
        f"{why}."
    ]


def _goal(problem: Problem, chosen: Choice) -> str:
    goal = goal_of(problem.objective)
    return (
        f"Among the plans within the limits it has {goal}: {money(chosen.usd)}, "
        f"{chosen.hours:.3g} h until it serves, {chosen.latency_ms:,.0f} ms."
    )


def _beside(
    problem: Problem, chosen: Choice, feasible: Sequence[Choice], rates: Rates
) -> Iterator[str]:
    """Say what the plan of the lowest net cost gains on those of other objectives, in dollars."""
    if problem.objective.weights is not None:
        return
    point, hour, tenth = rates.usd.values()
    yield (
        f"A point of accuracy counts {money(point)}, an hour of waiting {money(hour)}, 100 ms of "
        f"p95 latency {money(tenth)} (objective.{', '.join(rates.usd)})."
    )
    net = rates.net_cost
    for cost in (ACCURACY, USD):
        other = best(feasible, cost.alone, net)
        said = cost.alternative.replace("_", "-")
        if is_same(other, chosen):
            yield f"The {said} plan is the same."
            continue
        more = net(other) - net(chosen)
        yield (
            f"The {said} plan ({other.candidate.student}) has a net cost {money(more)} higher: "
            f"{in_dollars(chosen, other, net)}."
        )


def _binding(
    problem: Problem, chosen: Choice, everything: Sequence[Choice], net: Linear
) -> list[str]:
    """Say which limits bind: without one of those another plan would be chosen."""
    binding: list[str] = []
    loose: list[str] = []
    for limit in LIMITS:
        if limit.of(problem.limits) is None:
            continue
        free = problem.ahead(with_limit(problem.limits, limit, None))
        looser = within(everything, free, problem.spent_usd)
        other = best(looser, counted_by(problem.objective, net), net)
        (loose if is_same(other, chosen) else binding).append(limit.now(problem.limits))
    if binding:
        verb = "binds" if len(binding) == 1 else "bind"
        rest = f"; {listed(loose)} {'does' if len(loose) == 1 else 'do'} not" if loose else ""
        return [f"Of the limits, {listed(binding)} {verb}{rest}."]
    if loose:
        return ["No limit binds: without any one of them the plan would be the same."]
    return []


def _free(chosen: Choice) -> list[str]:
    """Say which servers count as $0 an hour."""
    free = free_servers(chosen.roles())
    return [] if free is None else [str(free)]


def _runner_up(
    problem: Problem, chosen: Choice, feasible: Sequence[Choice], net: Linear
) -> list[str]:
    """Name the best plan of another pair or strategy, else the best with other servers, and why.

    It lost either on what the objective counts, or on what breaks the tie in that.
    """
    others = [c for c in feasible if c.candidate.name != chosen.candidate.name]
    what = "Runner-up"
    if not others:
        others = [c for c in feasible if not is_same(c, chosen)]
        what = "Runner-up, with other servers"
    if not others:
        return []
    objective = problem.objective
    second = best(others, counted_by(objective, net), net)
    return [f"{what}: {describe(second)}. {_why(objective, chosen, second, net)}"]


def _why(objective: ObjectiveConfig, chosen: Choice, second: Choice, net: Linear) -> str:
    """Say what a plan lost on against the chosen one."""
    first, *ties = levels(counted_by(objective, net), net)
    behind = first(second) - first(chosen)
    if behind <= TIE * max(1.0, abs(first(chosen))):
        for level in ties:
            if level(second) - level(chosen) > TIE * max(1.0, abs(level(chosen))):
                on = "dollars" if level == USD.alone else "the net cost"
                return f"It ties on {goal_of(objective)} and lost on {on}."
        return f"It ties on {goal_of(objective)} and comes later by name."
    if objective.weights is not None:
        gains = difference(chosen, second, net, objective)
        return f"It lost on {listed([cost.label for cost in weighted(objective)])}: {gains}."
    return f"Its net cost is {money(behind)} higher: {in_dollars(chosen, second, net)}."
