"""The reasons for a plan, as sentences with numbers; a plan in a line; and what it rests on.

It rests on prices with date and source, and on assumptions. Those of a work are collected while it
is priced (`Problem.assumed`); those of servers and places depend on what was chosen. What a run has
measured or a user has said is no assumption.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace

from stratos.catalog.table import LOCAL
from stratos.config import ObjectiveConfig
from stratos.core.formats import listed, predicted, sentence, taken_before
from stratos.deploy.engines.base import engine_named
from stratos.estimate import constants as k
from stratos.estimate.fitted import Factor, fitted
from stratos.plan.objective import (
    ACCURACY,
    COSTS,
    LIMITS,
    RATES,
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
from stratos.plan.option import BYTES_PER_PARAM, BYTES_PER_TOKEN, Option, Place
from stratos.plan.options.market import CHECKPOINT_HOURS, INTERRUPTIONS_PER_HOUR, RESTART_HOURS
from stratos.plan.options.role_options import loss_of
from stratos.plan.options.teacher import is_hosted
from stratos.plan.options.workload import assumed
from stratos.plan.problem import ROLES, Choice, Problem
from stratos.plan.solve.frontier import frontier, within
from stratos.plan.solve.model import TIE
from stratos.plan.words import CutBrings, free_servers
from stratos.records import Assumption, ModelCard, Offer, PlanPoint, Price

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
    return "; ".join(f"{role} {names}" for role, names in by_role(choice).items())


def by_role(choice: Choice) -> dict[str, str]:
    """Return each role's servers by name; serving may mix several."""
    names: dict[str, list[str]] = {}
    for role in choice.roles():
        times = f"{role.count} × " if role.count > 1 else ""
        name = role.offer.name if role.offer is not None else role.note or "no server"
        names.setdefault(role.role, []).append(f"{times}{name}{' spot' if role.spot else ''}")
    return {role: " + ".join(parts) for role, parts in names.items()}


def as_point(choice: Choice, net: Linear) -> PlanPoint:
    """Return a plan as a row of a table, with its net cost."""
    candidate, accuracy = choice.candidate, choice.candidate.accuracy
    return PlanPoint(
        teacher=candidate.teacher,
        student=candidate.student,
        strategy=candidate.strategy,
        accuracy=accuracy.mean if accuracy.is_known else 0.0,
        usd=choice.usd,
        hours=choice.hours,
        latency_ms=choice.latency_ms,
        servers=by_role(choice),
        accuracy_known=accuracy.is_known,
        accuracy_low=accuracy.low,
        accuracy_high=accuracy.high,
        net_usd=net(choice),
        accuracy_tried=accuracy.tried,
        weights_mb=candidate.weights_mb,
    )


# Two plans compared.


def is_same(first: Choice, second: Choice) -> bool:
    """Tell whether two plans have the same values."""
    pairs = zip(first.costs, second.costs, strict=True)
    return all(abs(a - b) <= SAME * max(1.0, abs(a)) for a, b in pairs)


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
    ordered = [*first, _signed("net cost", net(after) - net(before), money), *parts.values()]
    return ", ".join(filter(None, ordered)) or "less than what would show"


def _signed(label: str, change: float, write: Callable[[float], str]) -> str:
    """Write a difference with its sign, nothing where it is rounding or all its digits are 0."""
    written = write(abs(change))
    if abs(change) < 1e-9 or not any(digit in written for digit in "123456789"):
        return ""
    return f"{label} {'−' if change < 0 else '+'}{written}"


def in_dollars(chosen: Choice, other_plan: Choice, net: Linear) -> str:
    """Say what another plan's net cost is beyond the chosen one's, value by value.

    Each value that is not dollars is said with what it counts: "+0.22 h for +$0.22".
    """
    point, _, hour, millisecond = net.weights
    accuracy = other_plan.accuracy - chosen.accuracy
    hours = other_plan.hours - chosen.hours
    latency_ms = other_plan.latency_ms - chosen.latency_ms
    usd = other_plan.usd - chosen.usd
    parts = [f"{_plus(usd)} to pay"] if abs(usd) >= LEAST_USD else []
    for written, counts in (
        (_points(chosen, other_plan), -point * accuracy),
        (f"{hours:+.3g} h", hour * hours),
        (f"{latency_ms:+,.0f} ms", millisecond * latency_ms),
    ):
        if abs(counts) >= LEAST_USD:
            parts.append(f"{written} for {_plus(counts)}")
    return ", ".join(parts).replace("-", "−") or "a tie in dollars"


def _state(choice: Choice) -> str:
    """Say whether an accuracy is known, or at least measured."""
    if choice.candidate.is_known:
        return "known"
    return "unknown" if choice.candidate.accuracy.tried is None else "not predicted"


def _points(chosen: Choice, other_plan: Choice) -> str:
    if chosen.candidate.is_known != other_plan.candidate.is_known:
        return f"an accuracy that is {_state(other_plan)}"
    points = f"{100 * (other_plan.accuracy - chosen.accuracy):+.1f} points"
    return points if chosen.candidate.is_known else f"{points} of what the teacher knows"


def _plus(usd: float) -> str:
    return f"{'-' if usd < 0 else '+'}{money(abs(usd))}"


# The reasons for a plan.


def reasons(
    problem: Problem, chosen: Choice, everything: Sequence[Choice], rates: Rates
) -> tuple[str, ...]:
    """Return the sentences, in the order that a reader asks for them."""
    net = rates.net_cost
    feasible = within(everything, problem.ahead(problem.limits), problem.spent_usd)
    free = free_servers(chosen.roles())
    return (
        *problem.evidence,
        *_spent(problem),
        _strategy(problem, chosen),
        _accuracy(chosen),
        *_engines(chosen),
        *_cut(problem, chosen, net),
        *_queues(problem, chosen),
        *_teacher_range(problem, chosen),
        f"Among the plans within the limits it has {goal_of(problem.objective)}: "
        f"{money(chosen.usd)}, {chosen.hours:.3g} h until trained, {chosen.latency_ms:,.0f} ms.",
        *_beside(problem, chosen, feasible, rates),
        *_binding(problem, chosen, everything, net),
        *_runner_up(problem, chosen, feasible, net),
        *([] if free is None else [str(free)]),
    )


def _spent(problem: Problem) -> Iterator[str]:
    """Say what of the budget and of the deadline is gone, if something is."""
    budget, deadline = problem.limits.budget_usd, problem.limits.deadline_hours
    if problem.spent_usd and budget is not None:
        yield f"${problem.spent_usd:.2f} of the budget of ${budget:.2f} is spent already."
    if problem.spent_hours:
        counts = "" if deadline is None else f", and the deadline of {deadline:g} h counts them"
        before = sentence(taken_before(problem.spent_hours))
        yield f"{before}{counts}. The hours of the plan come after."


def _strategy(problem: Problem, chosen: Choice) -> str:
    strategy = chosen.candidate.strategy
    beaten = sorted({c.strategy for c in problem.candidates} - {strategy})
    if beaten:
        return f"{strategy} was chosen over {', '.join(beaten)}, which were also possible."
    return problem.strategies[strategy].why_alone()


def _accuracy(chosen: Choice) -> str:
    candidate, accuracy = chosen.candidate, chosen.candidate.accuracy
    if candidate.is_known:
        reaches = predicted(accuracy)
        return f"{candidate.student} is predicted to reach {reaches}: {accuracy.source}."
    ordered = " No other pair has a known accuracy either: they are ranked by what their teachers"
    ordered = f"{ordered} know." if candidate.stand_in else ""
    return f"The accuracy of {candidate.student} is {accuracy.source}.{ordered}"


def _engines(chosen: Choice) -> list[str]:
    """Say which engines and formats serve, if the plan chose among several."""
    runs = [part.run for part in chosen.options[2].parts if part.run is not None]
    names = dict.fromkeys(run.name for run in runs if run.format)
    return [f"Served by {listed(names)}: chosen with the servers."] if names else []


def _cut(problem: Problem, chosen: Choice, net: Linear) -> Iterator[str]:
    """Yield what a cut vocabulary brings, where the chosen student is offered whole and cut."""
    strategy, student = chosen.candidate.strategy, chosen.candidate.student
    order = counted_by(problem.objective, net)
    for name, cut in problem.cuts.items():
        if student not in (name, cut.whole):
            continue
        plans: list[Choice] = []
        fits: list[bool] = []
        for student_name in (cut.whole, name):
            pair = student_name, strategy
            pairs = [c for c in problem.candidates if (c.student, c.strategy) == pair]
            every = frontier(replace(problem, candidates=tuple(pairs)))
            able = within(every, problem.ahead(problem.limits), problem.spent_usd)
            plans += [best(able or every, order, net)] if every else []
            fits.append(bool(able))
        if len(plans) == 2:
            whole, short = plans
            yield str(
                CutBrings(
                    cut.whole,
                    cut.mb,
                    (whole.options[1].hours, short.options[1].hours),
                    (whole.latency_ms, short.latency_ms),
                    (whole.usd, short.usd),
                    (whole.candidate.accuracy, short.candidate.accuracy),
                    (fits[0], fits[1]),
                )
            )


def _queues(problem: Problem, chosen: Choice) -> Iterator[str]:
    """Yield a sentence for each partition that the plan waits for where others have such servers.

    It names the waits that decided, and whose jobs make room for those of the partition.
    """
    jobs: dict[Offer, list[str]] = {}
    for role in chosen.roles():
        if role.role != "serve" and role.offer is not None and role.wait_hours is not None:
            name = {"teacher": "the teacher", "train": "the training"}[role.role]
            jobs.setdefault(role.offer, []).append(name)
    for offer, names in jobs.items():
        waits = {
            region: hours
            for (cloud, region, kind), hours in problem.wait_hours.items()
            if (cloud, kind) == (offer.cloud, offer.instance_type)
        }
        preempted = problem.preempts.get((offer.cloud, offer.region), {})
        modes = [
            f"{name} (PreemptMode={mode})"
            for name, mode in sorted(preempted.items())
            if name in waits
        ]
        if not modes and waits.get(offer.region, 0.0) >= max(waits.values(), default=0.0):
            continue
        by_wait = sorted((hours, name) for name, hours in waits.items())
        text = (
            f"A job of {offer.instance_type} waits by partition: "
            f"{listed(f'{name} about {hours:.2g} h' for hours, name in by_wait)}; {offer.region} "
            f"was chosen for {listed(names)}."
        )
        if modes:
            free = ",".join(sorted(name for name in waits if name != offer.region))
            text += (
                f" Jobs of {offer.region} may preempt those of {listed(modes)}: "
                f"cloud.regions=[{free}] leaves {offer.region} out."
            )
        yield text


def _teacher_range(problem: Problem, chosen: Choice) -> list[str]:
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
        first = best(feasible, cost.alone, net)
        name = cost.alternative.replace("_", "-")
        if is_same(first, chosen):
            yield f"The {name} plan is the same."
            continue
        more = money(net(first) - net(chosen))
        yield (
            f"The {name} plan ({first.candidate.student}) has a net cost {more} higher: "
            f"{in_dollars(chosen, first, net)}."
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
        free_choice = best(looser, counted_by(problem.objective, net), net)
        is_loose = is_same(free_choice, chosen)
        (loose if is_loose else binding).append(limit.now(problem.limits))
    if binding:
        verb = "binds" if len(binding) == 1 else "bind"
        rest = f"; {listed(loose)} {'does' if len(loose) == 1 else 'do'} not" if loose else ""
        return [f"Of the limits, {listed(binding)} {verb}{rest}."]
    if loose:
        return ["No limit binds: without any one of them the plan would be the same."]
    return []


def _runner_up(
    problem: Problem, chosen: Choice, feasible: Sequence[Choice], net: Linear
) -> list[str]:
    """Name the best plan of another pair or strategy, else the best with other servers, and why.

    It lost either on what the objective counts, or on what breaks the tie in that.
    """
    rivals = [c for c in feasible if c.candidate.name != chosen.candidate.name]
    what = "Runner-up"
    if not rivals:
        rivals = [c for c in feasible if not is_same(c, chosen)]
        what = "Runner-up, with other servers"
    if not rivals:
        return []
    second = best(rivals, counted_by(problem.objective, net), net)
    return [f"{what}: {describe(second)}. {_why(problem.objective, chosen, second, net)}"]


def _why(objective: ObjectiveConfig, chosen: Choice, second: Choice, net: Linear) -> str:
    """Say what a plan lost on against the chosen one."""
    lost = next(
        (
            level
            for level in levels(counted_by(objective, net), net)
            if level(second) - level(chosen) > TIE * max(1.0, abs(level(chosen)))
        ),
        None,
    )
    if lost is None:
        return f"It ties on {goal_of(objective)} and comes later by name."
    if lost != counted_by(objective, net):
        on = "dollars" if lost == USD.alone else "the net cost"
        return f"It ties on {goal_of(objective)} and lost on {on}."
    if objective.weights is not None:
        gains = difference(chosen, second, net, objective)
        return f"It lost on {listed([cost.label for cost in weighted(objective)])}: {gains}."
    behind = money(lost(second) - lost(chosen))
    return f"Its net cost is {behind} higher: {in_dollars(chosen, second, net)}."


STALE_DAYS = 30
"""Prices older than this are warned about."""


def prices_of(problem: Problem, chosen: Choice) -> tuple[Price, ...]:
    """Return the price of every offer, teacher and move between places that a plan uses, once.

    Args:
        problem: what was chosen from, with the cards of its teachers.
        chosen: the plan.
    """
    prices = [price for option in chosen.options for part in option.parts for price in _rent(part)]
    teacher = problem.teachers.get(chosen.candidate.teacher)
    if teacher is not None and is_hosted(teacher):
        prices += _tokens(teacher, chosen.options[0].parts[0].as_batch)
    prices += _moves(problem, chosen)
    return tuple(dict.fromkeys(prices))


def stale(prices: Iterable[Price], today: datetime.date | None = None) -> tuple[str, ...]:
    """Return what is to be said of prices that are old or have no day.

    Args:
        prices: what a plan rests on.
        today: None takes the date of this machine.
    """
    limit = ((today or datetime.date.today()) - datetime.timedelta(days=STALE_DAYS)).isoformat()
    prices = list(prices)
    old = [price for price in prices if price.date and price.date < limit]
    # The price of a card has a source: one of a teacher without any was typed for this run.
    undated = [
        price for price in prices
        if not price.date and price.usd and not (price.kind == "teacher" and not price.source)
    ]  # fmt: skip
    warnings = []
    if old:
        warnings.append(
            f"The plan uses prices older than {STALE_DAYS} days: "
            f"{', '.join(dict.fromkeys(f'{price.what} {price.date}' for price in old))}. "
            f"{_remedy(old)}"
        )
    if undated:
        names = dict.fromkeys(price.what for price in undated)
        warnings.append(f"The plan uses prices without a date: {', '.join(names)}.")
    return tuple(warnings)


def _remedy(old: Iterable[Price]) -> str:
    kinds = {price.kind for price in old}
    remedies = []
    if "server" in kinds:
        remedies.append("Name a fresher catalog with cloud.catalog=[…].")
    if "teacher" in kinds:
        remedies.append(
            "Give the teacher's prices of today with teacher.usd_per_million_input_tokens=…, "
            "teacher.usd_per_million_output_tokens=… and teacher.price_date=<day>."
        )
    if "egress" in kinds:
        remedies.append(
            "Prices of egress are a list of the package; compare them with the cloud's."
        )
    return " ".join(remedies)


def _rent(option: Option) -> Iterator[Price]:
    offer = option.offer
    if offer is None:
        return
    on_spot = option.spot and offer.usd_per_hour_spot is not None
    usd = offer.usd_per_hour_spot if on_spot else offer.usd_per_hour
    unit = "an hour on spot" if on_spot else "an hour"
    yield Price("server", offer.name, usd or 0.0, unit, offer.price_date, offer.source)


def _tokens(card: ModelCard, as_batch: bool) -> Iterator[Price]:
    usd_in, usd_out = card.usd_per_million_input_tokens, card.usd_per_million_output_tokens
    usd_cached = card.usd_per_million_cached_input_tokens
    suffix = ""
    if as_batch:
        usd_in = card.usd_per_million_batch_input_tokens
        usd_out = card.usd_per_million_batch_output_tokens
        usd_cached, suffix = None, " in a batch"
    prices = [(usd_in, "a million tokens in"), (usd_out, "a million tokens out")]
    if usd_cached is not None:
        prices.insert(1, (usd_cached, "a million tokens in that it has read before"))
    for usd, unit in prices:
        yield Price(
            "teacher", card.name, usd or 0.0, unit + suffix, card.price_date, card.price_source
        )


def egress_of(cloud: str) -> str:
    """Return what the egress of a cloud is called among prices."""
    return f"egress of {cloud}"


def _moves(problem: Problem, chosen: Choice) -> Iterator[Price]:
    """Yield the prices of what leaves a place, where that costs something."""
    teacher, train, serve = chosen.options
    first, _, last = chosen.candidate.work
    at = train.parts[0].location
    moves: list[tuple[str, Place | None, Place | None]] = [(first, teacher.parts[0].location, at)]
    moves += [(last, at, part.location) for part in serve.parts]
    for work, source, target in moves:
        usd = problem.egress.price(source, target)
        if source is None or target is None or not usd or not problem.gb.get(work):
            continue
        unit = "a GB between its regions" if source[0] == target[0] else "a GB to the internet"
        date, origin = problem.egress.provenance_of(source[0])
        yield Price("egress", egress_of(source[0]), usd, unit, date, origin)


# Warn if a plan's teacher retires before its serving ends.


def end_of(problem: Problem, chosen: Choice) -> str:
    """Return the day from which a plan's teacher answers no more, "" where none is known."""
    card = problem.teachers.get(chosen.candidate.teacher)
    return card.retires if card is not None else ""


def ending(problem: Problem, chosen: Choice, today: datetime.date | None = None) -> Iterator[str]:
    """Yield what is to be said of a teacher that ends before the student's serving does.

    Args:
        problem: what was chosen from, with the cards of its teachers.
        chosen: the plan.
        today: the day of the plan; None takes the date of this machine.
    """
    ends = end_of(problem, chosen)
    if not ends:
        return
    now = today or datetime.date.today()
    served = chosen.hours + problem.limits.serve_hours
    if datetime.date.fromisoformat(ends) > now + datetime.timedelta(hours=served):
        return
    name = chosen.candidate.teacher
    source = problem.teachers[name].retires_source
    longer = [
        teacher
        for teacher, card in sorted(problem.teachers.items())
        if teacher != name and (not card.retires or card.retires > ends)
    ]
    then = "Choose one that lasts longer with teacher=…"
    if longer:
        then = f"Teachers of this run that last longer: {', '.join(longer)}"
    yield (
        f"The teacher {name} ends on {ends}{f' ({source})' if source else ''}, within the "
        f"{served:,.0f} h until the serving of this plan ends: its answers are not available after "
        f"that. {then}."
    )


def assumptions_of(
    problem: Problem, chosen: Choice, prices: Iterable[Price], rates: Rates
) -> tuple[Assumption, ...]:
    """Return every assumption that a plan rests on, once."""
    assumptions = [
        assumption for work in chosen.candidate.work for assumption in problem.assumed.get(work, ())
    ]
    parts = [
        (role, part)
        for role, option in zip(ROLES, chosen.options, strict=True)
        for part in option.parts
        if part.offer is not None
    ]
    assumptions += _servers(parts, problem.up)
    assumptions += _moved(problem, prices)
    if problem.objective.weights is None:
        assumptions += _exchange(rates)
    return tuple(dict.fromkeys(assumptions))


def _servers(parts: Iterable[tuple[str, Option]], up: frozenset[str]) -> Iterator[Assumption]:
    for role, part in parts:
        offer = part.offer
        assert offer is not None, "only servers are looked at"
        if offer.is_rented and role != "serve" and role not in up:
            yield assumed("startup", 60 * k.STARTUP_HOURS)
        if part.spot:
            yield assumed("interruptions", INTERRUPTIONS_PER_HOUR)
            yield assumed("restart", 60 * (CHECKPOINT_HOURS / 2 + RESTART_HOURS))
        if part.run is not None and part.run.utilisation:
            yield assumed("utilisation", part.run.utilisation)
        if part.run is not None and part.run.format:
            yield loss_of(engine_named(part.run.engine).weight_format(part.run.format))
        if offer.accelerator is None and offer.cloud != LOCAL and role == "train":
            yield assumed("vcpu", k.CPU_TRAIN_GFLOPS_PER_VCPU, error=k.CPU_ERROR)
        if offer.accelerator is not None:
            yield from _gpu(offer.accelerator, is_training=role == "train")


def _gpu(name: str, is_training: bool) -> Iterator[Assumption]:
    """Yield what is scaled from other GPUs for one that the estimate was not fitted to."""
    if not fitted().errors["training" if is_training else "output_token"].knows(Factor.GPU, name):
        share = k.MATMUL_SHARE.get(name, k.MATMUL_SHARE_UNKNOWN)
        work = "training" if is_training else "inference"
        yield assumed("gpu", share, name=name, work=work)


def _moved(problem: Problem, prices: Iterable[Price]) -> Iterator[Assumption]:
    moved = [price for price in prices if price.kind == "egress"]
    if not moved:
        return
    yield assumed("dataset", BYTES_PER_TOKEN)
    yield assumed("bundle", BYTES_PER_PARAM)
    names = {egress_of(cloud) for cloud in problem.egress.assumed}
    for price in moved:
        if price.what in names:
            unit, why = price.unit, price.source
            yield assumed("egress", price.usd, name=price.what, unit=unit, why=why)


def _exchange(rates: Rates) -> Iterator[Assumption]:
    for rate in RATES:
        why = rates.why[rate.key]
        if why is not None:
            usd = rates.usd[rate.key]
            yield assumed("exchange", usd, name=rate.name, why=why, key=rate.key)
