"""Whether distilling pays: against a simulation of every hour, and in words."""

from __future__ import annotations

import datetime
import itertools
import math
import random

import numpy as np
import pytest
from rich.console import Console
from world import BLIND, LARGE, World, replace, teacher

from stratos.catalog import load_catalog
from stratos.config import CloudConfig, LimitsConfig, TrafficConfig
from stratos.core.intervals import wilson
from stratos.plan import words
from stratos.plan.alternatives import open_models
from stratos.plan.options.candidates import build_problem
from stratos.plan.payback import (
    DAYS_A_MONTH,
    Ends,
    Horizon,
    Money,
    Servers,
    horizon_of,
    servers_of,
    share_on,
    share_waiting,
    with_horizon,
)
from stratos.plan.stage import solve
from stratos.plan.worth import (
    MEASURED,
    MOST_UNSURE,
    Verdict,
    decided,
    doubt_of,
    first_month_usd,
    span_name,
    verdict_of,
    verdict_text,
    volume,
    ways_table,
    why_no_verdict,
    worth_of,
)
from stratos.records import (
    AnswerSpread,
    Comparison,
    EarlierReads,
    Interval,
    LoggedProof,
    ModelScore,
    PromptTrial,
    ScaledToZero,
    Scorecard,
    SliceScore,
    Versus,
    Way,
)
from stratos.report.run_verdict import BetterByShares, BetterOnItems, worth_measured

AWS = CloudConfig(name="aws", providers=("aws",))
N_CASES = 10_000
TODAY = datetime.date(2026, 11, 27)
HOSTED = replace(
    LARGE, name="large", usd_per_million_input_tokens=2.0, usd_per_million_output_tokens=8.0
)
PAID = replace(teacher(HOSTED, right=60), spread=AnswerSpread(40.0, 4.0, 0.5))


def cases():
    rng = random.Random(0)
    for _ in range(N_CASES):
        horizon = Horizon(rng.uniform(0.1, 36), rng.choice((0.0, rng.uniform(-0.3, 0.4))))
        once, per_day = 10 ** rng.uniform(-1, 4), rng.choice((0.0, 10 ** rng.uniform(-1, 3)))
        yield Money(once, per_day, 10 ** rng.uniform(-6, -1)), 10 ** rng.uniform(0, 6), horizon


def simulated(money, rate, horizon, n=4000):
    """The dollars by which the student is ahead, at n equal steps, by adding up."""
    days = np.linspace(0.0, horizon.days, n + 1)
    # Requests of each step, by Simpson's rule on the rate of that moment.
    middle = (days[1:] + days[:-1]) / 2
    rates = [rate * (1 + horizon.growth_per_month) ** (one / DAYS_A_MONTH)
             for one in (days[:-1], middle, days[1:])]  # fmt: skip
    requests = (rates[0] + 4 * rates[1] + rates[2]) / 6 * np.diff(days)
    earned = money.per_answer * np.concatenate([[0.0], np.cumsum(requests)])
    return days, earned - money.per_day * days - money.once


def test_payback_is_that_of_a_simulation_of_every_step():
    for money, rate, horizon in cases():
        days, ahead = simulated(money, rate, horizon)
        found = money.payback_days(rate, horizon)
        scale = 1e-6 * (money.once + money.per_day * horizon.days)
        if abs(ahead[-1]) <= scale:
            continue  # on the edge, where rounding decides
        if ahead[-1] < 0:
            assert found is None
            continue
        behind = np.flatnonzero(ahead < -scale)
        last = days[behind[-1]] if len(behind) else 0.0
        step = days[1]
        assert found is not None and last - step <= found <= last + 3 * step
        made = 0.5 * horizon.days * (rate % 1)  # until then neither earns nor costs more
        from_plan = Ends(money, money, money).payback(rate, horizon, made)
        assert from_plan is not None and made <= from_plan.low == from_plan.high
        assert made + last - step <= from_plan.mean <= made + last + 3 * step
        even = money.break_even_per_day(horizon)
        assert even <= rate * (1 + 1e-9)
        assert abs(money.ahead(horizon.days, even, horizon)) <= 10 * scale


def test_beside_servers_that_are_paid_by_the_day_both_sides_are_counted():
    config = TrafficConfig(months=12, growth_per_month=0.2)
    assert horizon_of(config) == Horizon(12, 0.2)
    year = Horizon(12)
    dearer = Money(once=100.0, per_day=10.0, per_answer=0.01, other_per_day=5.0)
    even = (100 + (10 - 5) * year.days) / (0.01 * year.days)
    assert dearer.break_even_per_day(year) == pytest.approx(even)
    cheaper = replace(dearer, per_day=2.0, per_answer=0.0)
    assert cheaper.break_even_per_day(year) == 0
    assert cheaper.payback_days(0.0, year) == pytest.approx(100 / (5 - 2))
    assert replace(dearer, per_answer=0.0).break_even_per_day(year) == math.inf
    # It falls behind first, while requests grow: the day is the last one, not the first.
    grows = Money(once=0.0, per_day=10.0, per_answer=0.01, other_per_day=8.5)
    day = grows.payback_days(100.0, replace(year, growth_per_month=1.0))
    assert day is not None and day > 30
    assert grows.ahead(day, 100.0, replace(year, growth_per_month=1.0)) == pytest.approx(
        0, abs=1e-6
    )


def alternatives(rng):
    """Some hosted and open models, with prices that have a range."""
    for i in range(rng.randint(1, 4)):
        if rng.random() < 0.6:
            price = 10 ** rng.uniform(-6, -1)
            spread = rng.uniform(1.0, 2.0)
            answer = Interval(price, price / spread, price * spread)
            yield Way(f"hosted {i}", False, KNOWN, answer, None)
        else:
            usd = 10 ** rng.uniform(-1, 3)
            ends = usd / rng.uniform(1.0, 2.0), usd * rng.uniform(1.0, 2.0)
            way = Way(f"open {i}", False, KNOWN, None, None, kind="open", usd_per_day=usd)
            yield replace(way, usd_per_day_range=ends)


KNOWN = Interval(0.9, 0.85, 0.95)


def test_the_verdict_over_all_ways_is_that_of_trying_all_ends():
    """Dollars until the horizon's end are added up, for every way and every end of every range."""
    rng, said = random.Random(2), {"distil": 0, "stay": 0, "open": 0}
    for mean, rate, horizon in cases():
        spread, able = rng.uniform(1.0, 2.0), list(alternatives(rng))
        once = Interval(mean.once, mean.once / spread, mean.once * spread)
        free = Money(0.0, 0.0, 1.0)
        answers = simulated(free, rate, horizon, 200)[1][-1]
        days = horizon.days

        def costs(way, end, answers=answers, days=days):
            price, (low, high) = way.usd_per_answer, way.usd_per_day_range or (0.0, 0.0)
            by_day = {"low": low, "mean": way.usd_per_day, "high": high}
            return getattr(price, end) * answers if price else by_day[end] * days

        usd = Interval(mean.per_day, mean.per_day / spread, mean.per_day * spread)
        ours = [once.low + usd.low * days, once.high + usd.high * days]
        theirs = [[costs(way, end) for end in ("low", "high")] for way in able]
        wins = all(own < other for own in ours for ends in theirs for other in ends)
        loses = any(all(own > other for own in ours for other in ends) for ends in theirs)
        edge = min(abs(own / other - 1) for own in ours for ends in theirs for other in ends)
        outcome, reference = decided(able, once, Servers(usd), rate, horizon)
        said[outcome] += 1
        if edge > 1e-5:
            assert outcome == ("distil" if wins else "stay" if loses else "open")
        means = {way.name: costs(way, "mean") for way in able}
        if outcome != "stay":
            assert means[reference.name] <= min(means.values()) * (1 + 1e-5)
        else:
            assert costs(reference, "high") <= min(ours) * (1 + 1e-5)
    assert min(said.values()) > 500, "each is tried often"


def test_break_even_counts_the_servers_that_so_many_requests_take():
    """Against the fewest requests of a fine grid that cost less with servers enough for them."""
    rng, n_more, rates = random.Random(4), 0, np.geomspace(1e-3, 1e9, 200_000)
    for base, _, horizon in itertools.islice(cases(), 400):
        n, price = rng.randint(1, 5), 10 ** rng.uniform(-5, -2)
        money = replace(base, per_answer=price, n_servers=n, per_server=10 ** rng.uniform(2, 6))
        count = np.maximum(1, np.ceil(rates / money.per_server))
        answers = rates * horizon.days_of_first_rate(horizon.days)
        paid = money.once + money.per_day / n * count * horizon.days
        ahead = np.flatnonzero(price * answers >= paid)
        even = money.break_even_per_day(horizon)
        if not len(ahead):
            assert even > 1e8
        elif ahead[0]:
            assert rates[ahead[0] - 1] * (1 - 1e-9) <= even <= rates[ahead[0]] * (1 + 1e-9)
            n_more += count[ahead[0]] > 1
    assert n_more > 20, "several servers are tried"


def test_an_interval_of_servers_makes_what_they_decide_open():
    """A server twice as slow as estimated is two: the dollars of both are in every range."""
    _, plan, found = planned(TrafficConfig(requests_per_day=50_000, months=12))
    [role] = plan.roles_of("serve")
    assert role.filled.low < role.filled.mean < role.filled.high
    assert role.count == math.ceil(role.filled.mean) and found.servers.n.mean == role.count
    each = plan.servers_usd_per_day / role.count
    filled = Interval(0.7, 0.4, 1.4)
    slow = replace(plan, roles=tuple(
        replace(r, filled=filled, count=1, usd=r.usd / r.count) if r == role else r
        for r in plan.roles
    ))  # fmt: skip
    servers = servers_of(slow, 70_000)
    assert servers.usd_per_day == Interval(each, each, pytest.approx(2 * each))
    assert servers.n == Interval(1, 1, 2)
    assert servers.per_server == Interval(*map(pytest.approx, (100_000, 50_000, 175_000)))


def test_distil_is_seldom_said_of_a_student_that_is_far_behind():
    """Of students that are 5 points behind, the bound lets through no more than its 2.5 of 100."""
    rng = np.random.default_rng(5)
    config, _, plan = of_a_year(50_000)
    large = Way("large", False, KNOWN, Interval(1e-3, 1e-3, 1e-3), None)
    for n_model, n_student, right in ((64, 300, 0.9), (400, 400, 0.8), (2000, 2000, 0.9)):
        n_advised, n_draws = 0, 1000
        for _ in range(n_draws):
            model = wilson(rng.binomial(n_model, right), n_model)
            student = wilson(rng.binomial(n_student, right - MOST_UNSURE), n_student)
            way = replace(large, accuracy=model)
            doubt = doubt_of(config.limits, replace(plan, accuracy=student), [way], {}, way)
            n_advised += doubt is None
        assert n_advised / n_draws <= 0.04, (n_model, n_student)
    good = Interval(0.95, 0.94, 0.96)
    way = replace(large, accuracy=wilson(1880, 2000))
    assert doubt_of(config.limits, replace(plan, accuracy=good), [way], {}, way) is None


def test_a_server_that_is_given_back_is_paid_as_long_as_in_a_simulation():
    rng = random.Random(3)
    for per_s, start_s, keep_s in ((0.001, 300.0, 600.0), (0.005, 120.0, 300.0), (1e-4, 600, 60)):
        n, paid, waiting, clock, ordered, ready, until = 40_000, 0.0, 0, 0.0, 0.0, 0.0, 0.0
        for _ in range(n):
            clock += rng.expovariate(per_s)
            if clock > until:  # it is off, and ordered now
                paid += until - ordered
                ordered, ready = clock, clock + start_s
            waiting += clock < ready
            until = max(clock, ready) + keep_s
        assert share_on(per_s, start_s, keep_s) == pytest.approx(paid / clock, rel=0.06)
        assert share_waiting(per_s, start_s, keep_s) == pytest.approx(waiting / n, rel=0.06)
    assert share_on(0.0, 60, 60) == 0.0
    assert share_on(10.0, 60, 1200) == pytest.approx(1.0) and share_waiting(10.0, 60, 1200) < 1e-9


def solved(traffic, limits=None, teachers=(BLIND, PAID)):
    world = World(cloud=AWS, teachers=teachers, limits=limits or LimitsConfig(), traffic=traffic)
    config, probe = with_horizon(world.config()), world.probe()
    return config, probe, solve(build_problem(config, probe, load_catalog(AWS)))


def of_a_year(rate, teachers=(BLIND, PAID)):
    return solved(TrafficConfig(requests_per_day=rate, months=12), teachers=teachers)


def unknown(plan):
    """Return a plan of whose student no accuracy is known."""
    return replace(plan, accuracy=Interval(0, 0, 1, "", is_known=False))


def planned(traffic, limits=None, teachers=(BLIND, PAID), with_open=False):
    config, probe, plan = solved(traffic, limits, teachers)
    found = open_models(config, probe, plan, load_catalog(AWS), None) if with_open else ()
    return config, plan, verdict_of(config, probe, plan, TODAY, found)


def test_much_traffic_pays_and_little_does_not():
    config, plan, much = planned(TrafficConfig(requests_per_day=50_000, months=12))
    assert config.traffic.requests_per_s == pytest.approx(2 * 50_000 / 86_400)
    assert config.limits.serve_hours == pytest.approx(12 * 730.5)
    assert much is not None and much.outcome == "distil"
    price = (2.0 * 400 + 8.0 * 12) / 1e6
    assert much.models[1].usd_per_answer.mean == pytest.approx(price)
    serve = sum(role.usd for role in plan.roles_of("serve"))
    once, per_day = plan.usd - serve, serve / (365.25)
    assert much.servers_usd_per_day == pytest.approx(per_day)
    made = plan.hours / 24
    paid = made + once / (price * 50_000 - per_day)
    assert much.payback_days.mean == pytest.approx(paid, rel=1e-6)
    assert much.payback_days.low > made > 0, "it pays nothing back before it serves"
    assert much.payback_days.low <= much.payback_days.mean <= much.payback_days.high
    assert much.reference.name == "large" and much.notes == ()
    assert much.distilling_usd == pytest.approx(plan.usd)
    assert much.reference_usd == pytest.approx(price * 50_000 * 365.25)
    _, _, little = planned(TrafficConfig(requests_per_day=100, months=12))
    assert little.outcome == "stay" and little.payback_days is None
    assert little.reference_usd < little.distilling_usd
    even = little.break_even_per_day
    assert 100 < even.low <= even.mean <= even.high


def test_a_teacher_whose_answers_cannot_be_read_is_named_and_decides_nothing():
    mute = replace(PAID, exact=wilson(0, 64), parsable=0.0)
    _, _, verdict = planned(TrafficConfig(requests_per_day=50_000, months=12), teachers=(mute,))
    assert verdict.outcome == "open" and verdict.unable[0].name == "large"
    assert verdict.unable[0].why_not == str(words.NothingRead(64))
    assert str(words.NothingRead(64)) in verdict_text(verdict)


def test_without_traffic_the_volume_is_told():
    _, _, found = planned(TrafficConfig())
    assert found.outcome == "open" and found.payback_days is None
    assert found.reference.name == "large" and found.break_even_per_day is not None


def test_a_model_that_is_surely_worse_is_no_alternative():
    poor = replace(PAID, exact=replace(PAID.exact, mean=0.1, low=0.05, high=0.2))
    _, _, found = planned(TrafficConfig(requests_per_day=10), teachers=(BLIND, poor))
    assert found.outcome == "distil" and found.reference is None
    [way] = found.unable
    assert way.why_not == str(words.SurelyWorse(poor.exact))


def test_a_student_behind_what_it_replaces_pays_nothing_back():
    config, probe, plan = of_a_year(50_000)
    student = replace(plan.accuracy, mean=0.88, low=0.8, high=0.96)
    behind = verdict_of(config, probe, replace(plan, accuracy=student), TODAY)
    assert PAID.exact.low < student.high, "their intervals meet"
    assert behind.doubt == words.Behind(student, False, "large", PAID.exact.mean)
    assert behind.outcome == "open" and behind.payback_days is None
    assert "pay" not in verdict_text(behind)
    wide = verdict_of(config, probe, replace(plan, accuracy=Interval(0.6, 0.35, 0.86)), TODAY)
    assert wide.outcome == "open" and wide.doubt.accuracy.mean == 0.6
    assert verdict_text(wide).startswith("Open, measure first: ")
    assert "60.0% (35.0–86.0%) against 93.8%" in verdict_text(wide)
    near = replace(student, mean=PAID.exact.mean - 0.005)
    unsure = verdict_of(config, probe, replace(plan, accuracy=near), TODAY)
    points = 100 * (0.005 + math.hypot(PAID.exact.high - PAID.exact.mean, near.mean - near.low))
    assert unsure.doubt == words.MayBeBehind(
        near, False, "large", PAID.exact, pytest.approx(points)
    )
    assert unsure.outcome == "open" and unsure.payback_days is not None
    close = replace(near, low=near.mean - 0.02)
    assert verdict_of(config, probe, replace(plan, accuracy=close), TODAY).outcome == "distil"
    enough = replace(config, limits=replace(config.limits, accuracy=0.85, confidence="mean"))
    assert verdict_of(enough, probe, replace(plan, accuracy=student), TODAY).outcome == "distil"
    silent = replace(config, traffic=TrafficConfig())
    unasked = verdict_of(silent, probe, replace(plan, accuracy=student), TODAY)
    assert unasked.break_even_per_day is not None and "pay" not in verdict_text(unasked)


def test_what_is_free_and_ahead_leaves_nothing_to_pay_back():
    config, probe, plan = of_a_year(50_000)
    plan = replace(plan, worth=worth_of(verdict_of(config, probe, plan, TODAY)))
    free = Versus("lookup", "the nearest row", 50, wilson(44, 50), wilson(46, 50), 2, 4, 0.69)
    card = replace(measured(98, 97, 100, 1.0), against=(free,))
    found = worth_measured(config, probe, plan, card)
    shown = BetterOnItems(44 / 50, 46 / 50, 50, 0.69)
    assert str(words.Beaten((("the nearest row", shown),))) in found.text
    assert found.outcome == "open" and found.payback_days is None and "pay" not in found.text
    level = replace(card, against=(replace(free, other_exact=free.student_exact),))
    assert worth_measured(config, probe, plan, level).payback_days is not None


def test_a_limit_of_accuracy_decides_who_is_an_alternative():
    limits = LimitsConfig(accuracy=0.9, confidence="mean")
    _, plan, found = planned(TrafficConfig(requests_per_day=10), limits)
    assert plan.accuracy.mean >= 0.9 and found.reference.name == "large"
    limits = LimitsConfig(accuracy=0.94, confidence="mean")
    may_be_none = words.NotSure("large", words.MayBeBelowLimit(PAID.exact))
    assert may_be_none in planned(TrafficConfig(requests_per_day=10), limits)[2].notes
    limits = LimitsConfig(accuracy=0.98, confidence="mean")
    [way] = planned(TrafficConfig(requests_per_day=10), limits)[2].unable
    assert way.why_not == str(words.BelowLimit(PAID.exact))


def test_an_end_within_the_horizon_is_told():
    ending = replace(PAID, card=replace(HOSTED, retires="2027-03-01"))
    for months, is_told in ((12, True), (1, False)):
        traffic = TrafficConfig(requests_per_day=1000, months=months)
        notes = planned(traffic, teachers=(BLIND, ending))[2].notes
        assert (words.EndsWithin("large", datetime.date(2027, 3, 1)) in notes) is is_told


def logged(right, n=200, *, is_checked=True, **changes):
    proof = LoggedProof("gpt-large", is_checked, {}, True)
    card = replace(HOSTED, name="gpt-large")
    found = teacher(card, right=right, n=n, logged=proof, seconds=0.0, **changes)
    return replace(found, teacher="logged_model")


def test_the_logged_model_is_the_way_to_stay():
    rate = TrafficConfig(requests_per_day=50_000)
    _, _, found = planned(rate, teachers=(BLIND, logged(194)))
    assert found.reference.name == "gpt-large (logged)" and found.reference.is_logged
    # That the student agrees with it is all that is known: the user says what is enough.
    assert found.outcome == "open" and isinstance(found.doubt, words.EnoughUnsaid)
    limits = LimitsConfig(accuracy=0.5, confidence="mean")
    enough = planned(rate, limits, teachers=(BLIND, logged(194)))[2]
    assert enough.outcome == "distil" and enough.doubt is None
    little = planned(TrafficConfig(requests_per_day=10), limits, teachers=(BLIND, logged(194)))[2]
    assert little.outcome == "stay"


def test_an_open_model_as_it_is_stands_on_servers_that_keep_up():
    traffic = TrafficConfig(requests_per_day=200_000, months=12)
    _, _, found = planned(traffic, teachers=(BLIND, PAID, teacher(LARGE, right=62)), with_open=True)
    ways = {one.name: one for one in found.models if one.kind == "open"}
    assert ways["smollm2_135m"].why_not.endswith("surely less accurate")
    large = ways["qwen2.5_7b"]
    assert not large.why_not and large.usd_per_day > 0 and large.servers.count("aws/")
    _, _, twice = planned(
        TrafficConfig(requests_per_day=2_000_000, months=12),
        teachers=(BLIND, PAID, teacher(LARGE, right=62)), with_open=True,
    )  # fmt: skip
    dearer = next(one for one in twice.models if one.name == "qwen2.5_7b")
    assert 3 * large.usd_per_day < dearer.usd_per_day < 12 * large.usd_per_day
    assert large.usd_per_day > found.servers_usd_per_day, "it has a thousand times the parameters"


def test_what_a_better_prompt_alone_changes_is_listed():
    trials = (PromptTrial("default", 16, 0.5, 0.25), PromptTrial("terse", 16, 0.75, 0.25))
    better = replace(PAID, prompt="terse", trials=trials)
    _, _, found = planned(TrafficConfig(requests_per_day=1e4), teachers=(BLIND, better))
    [way] = [one for one in found.models if one.kind == "prompt"]
    assert way.name == "large, prompt default" and way.accuracy.mean == 0.5
    assert way.why_not == str(words.WorsePrompt("terse", 0.75, 0.5, 16))
    assert found.reference.name == "large", "a way without a price decides nothing"
    same = replace(PAID, trials=trials)
    _, _, found = planned(TrafficConfig(requests_per_day=1e4), teachers=(BLIND, same))
    assert not [one for one in found.models if one.kind == "prompt"]


def test_few_requests_are_told_what_a_server_costs_that_is_given_back():
    _, _, few = planned(TrafficConfig(requests_per_day=20, months=12))
    assert few.scaled is not None
    assert few.scaled.usd_per_day < 0.6 * few.servers_usd_per_day
    [given_back] = [note for note in few.notes if isinstance(note, words.IfGivenBack)]
    assert (given_back.scaled, given_back.usd_per_day) == (few.scaled, few.servers_usd_per_day)
    _, _, limited = planned(
        TrafficConfig(requests_per_day=20, months=12), LimitsConfig(latency_ms=5000)
    )
    assert limited.scaled is None, "one in three waits for a start"
    assert planned(TrafficConfig(requests_per_day=50_000, months=12))[2].scaled is None


def test_the_ways_are_shown_side_by_side():
    _, _, found = planned(TrafficConfig(requests_per_day=50_000, months=12), with_open=True)
    console = Console(width=200, record=True)
    with console.capture() as caught:
        console.print(ways_table(worth_of(found)))
    text = caught.get()
    for way in found.models:
        assert way.name in text
    assert "distil: " in text and "compared with" in text and "as it is, on" in text


def test_what_needs_no_model_leaves_the_verdict_open():
    free = ModelScore("linear", "TF-IDF", (SliceScore("all", 200, wilson(199, 200), 0.0),))
    config, probe, plan = of_a_year(50_000)
    assert verdict_of(config, probe, plan, TODAY).outcome == "distil"
    for rate, outcome, beside in ((50_000, "open", "distil"), (50, "stay", "stay"),
                                  (None, "open", "open")):  # fmt: skip
        config, probe, plan = of_a_year(rate)
        found = verdict_of(config, replace(probe, baselines=(free,)), plan, TODAY)
        assert found.without_model == words.NeedsNoModel(free)
        assert (found.outcome, found.beside_models) == (outcome, beside)
        heads = [verdict_text(found).count(head) for head in ("Open", "Distil", "Don't distil")]
        assert sum(heads) == 1, verdict_text(found)
        # A student that was measured to be better than it needs no warning.
        better = verdict_of(
            config, replace(probe, baselines=(free,)), plan, TODAY, beats_baselines=True
        )
        assert better.without_model is None and better.outcome == beside


def test_no_interval_is_written_without_a_width_and_no_traffic_as_none():
    assert volume(Interval(1700.0, 1700.0, 1701.0)) == "1,700"
    assert volume(Interval(1700.0, 1600.0, 1701.0)) == "1,700 [1,600, 1,700]"
    assert volume(Interval(0.42, 0.4, 0.5)) == "0.42 [0.4, 0.5]"
    config, probe, plan = of_a_year(0.001)
    found = verdict_of(config, probe, plan, TODAY)
    assert "at 0.001 requests a day" in verdict_text(found)


def measured(student: int, teacher: int, n: int, p_value: float) -> Scorecard:
    """Return what an evaluation showed of a student and of the paid teacher."""

    def score(role: str, name: str, right: int) -> ModelScore:
        return ModelScore(role, name, (SliceScore("all", n, wilson(right, n), 0.0),))

    return Scorecard(
        "t",
        "exact",
        scores=(score("student", "s", student), score("teacher", PAID.teacher, teacher)),
        comparison=Comparison(
            n, wilson(student, n), wilson(teacher, n), 1.0, 1.0, 0, teacher - student, p_value
        ),
        examples_path="",
        seconds=1.0,
        against=(),
        earlier_reads=EarlierReads(0, 0, n),
        answers_path="",
    )


def test_once_it_is_measured_the_verdict_rests_on_that():
    config, probe, plan = of_a_year(50_000)
    plan = unknown(plan)
    before = verdict_of(config, probe, plan, TODAY)
    assert before.outcome == "open" and before.doubt == words.AccuracyUnknown()
    plan = replace(plan, worth=worth_of(before))
    assert worth_measured(config, probe, plan, None) == plan.worth
    good = worth_measured(config, probe, plan, measured(98, 97, 100, 1.0))
    assert good.outcome == "distil" and str(words.AccuracyUnknown()) not in good.text
    worse = worth_measured(config, probe, plan, measured(88, 97, 99, 0.02))
    better = BetterOnItems(88 / 99, 97 / 99, 99, 0.02)
    assert worse.outcome == "open" and str(words.Beaten((("large", better),))) in worse.text
    assert worse.payback_days is None and "pay" not in worse.text
    unproven = worth_measured(config, probe, plan, measured(92, 97, 99, 0.2))
    assert unproven.outcome == "open" and unproven.payback_days is None


def test_without_a_price_it_is_said_why_there_is_no_verdict():
    config, probe, _ = of_a_year(200, (BLIND,))
    assert why_no_verdict(config.traffic, probe) == words.NonePriced((BLIND.teacher,))
    assert why_no_verdict(config.traffic, replace(probe, teachers=())) == words.NoneProbed()
    silent = replace(config, traffic=TrafficConfig())
    assert why_no_verdict(silent.traffic, probe) is None


def test_verdicts_in_words(snapshot):
    """Each kind of verdict, with all that may be added to one."""
    paid, free, day = (0.0, 0.0, 0.0), "spent already", datetime.date(2027, 3, 1)
    hosted = Way("large", False, Interval(0.938, 0.85, 0.975), Interval(9e-4, 8e-4, 1e-3), 900.0)
    logged = replace(hosted, name="gpt (logged)", is_logged=True)
    silent = replace(logged, accuracy=Interval(0.5, 0.0, 1.0, is_known=False))
    opened = replace(
        hosted,
        name="qwen",
        usd_per_answer=None,
        kind="open",
        usd_per_day=24.0,
        servers="2 × g5",
    )
    plain = Verdict(
        "distil", (), Interval(20.0, 15.0, 25.0), Servers(Interval(12.0, 12.0, 24.0)),
        Horizon(12.0), 50_000.0, hosted,
        break_even_per_day=Interval(1700.0, 1600.0, 1800.0),
        payback_days=Interval(12.4, 10.0, 15.0), reference_usd=16_436.0,
    )  # fmt: skip
    student = Way("small", True, Interval(0.94, 0.9, 0.96), None, 5.0, kind="student")
    unsure = words.MayBeBehind(student.accuracy, False, "large", hosted.accuracy, 5.3)
    poor = replace(hosted, why_not=str(words.SurelyWorse(hosted.accuracy)))
    scaled = ScaledToZero(2.5, 0.2, 0.31, 300.0, 1200.0)
    verdicts = {
        "pays": plain,
        "pays, of a student": replace(plain, models=(student,)),
        "pays, of a measured student": replace(
            plain, models=(replace(student, accuracy=replace(hosted.accuracy, source=MEASURED)),)
        ),
        "measure first": replace(plain, beside_models="open", doubt=unsure, notes=(unsure,)),
        "pays at once": replace(
            plain, payback_days=Interval(0.0, 0.0, 0.0), break_even_per_day=Interval(*paid)
        ),
        "pays within hours or never": replace(plain, payback_days=Interval(0.25, 0.1, math.inf)),
        "pays against a log": replace(plain, reference=logged),
        "pays against a log that proves nothing": replace(plain, reference=silent),
        "pays against an open model": replace(plain, reference=opened),
        "open": replace(plain, beside_models="open", payback_days=None),
        "open, may pay": replace(plain, beside_models="open"),
        "open without requests": replace(plain, beside_models="open", requests_per_day=None),
        "stay": replace(plain, beside_models="stay", horizon=Horizon(1.0)),
        "stay once it is trained": replace(
            plain, beside_models="stay", once_usd=Interval(*paid, free)
        ),
        "stay with an open model": replace(plain, beside_models="stay", reference=opened),
        "no alternative": replace(plain, reference=None),
        "none is able": replace(plain, reference=None, unable=(poor, replace(poor, name="small"))),
        "all notes": replace(plain, notes=(
            words.Sunk(), words.EndsWithin("large", day), words.OnlySlow("large",
            words.TooSlow(8000.0, 300.0), False),
            words.OnlySlow("small", words.TooSlow(800.0, 300.0), True),
            words.NotSure("large", words.MayBeBelowLimit(hosted.accuracy)),
            words.SlicesNotAsked(0.01),
            words.SharesUnknown(2), words.IfGivenBack(scaled, 12.0, "open", "open"),
            words.IfGivenBack(scaled, 12.0, "stay", "distil"),
            words.FreeServers(("local", "slurm")),
        )),
    }  # fmt: skip
    assert {name: verdict_text(verdict) for name, verdict in verdicts.items()} == snapshot


def test_reasons_in_words(snapshot):
    student = Interval(0.8, 0.7, 0.9)
    free = ModelScore("linear", "TF-IDF", (SliceScore("all", 200, wilson(199, 200), 0.0),))
    better = BetterOnItems(0.85, 0.96, 1000, 1e-20)
    reasons = (
        words.NotProbed(), words.BelowLimit(student), words.AtMostBelowLimit(student),
        words.MayBeBelowLimit(student),
        words.NothingRead(64), words.LearnsRows("linear"), words.SurelyWorse(student),
        words.NextToNothing(student), words.TooSlow(8000.0, 300.0),
        words.WorsePrompt("terse", 0.75, 0.5, 16),
        words.Beaten((("large", better), ("cheap", better))),
        words.AccuracyUnknown(), words.MissesLimit(student, 0.9, True),
        words.MissesLimit(student, 0.9, False),
        words.AgreesTooLittle(student, True), words.EnoughUnsaid(student, False),
        words.LessAccurate(student, False, "large", 0.96),
        words.LessAccurate(student, True, "large", 0.96),
        words.WithoutModel(free), words.NeedsNoModel(free), words.NoneProbed(),
        words.NonePriced(("large",)),
        words.NonePriced(("large", "small")), words.FreeServers(("local",)),
        BetterByShares(student, Interval(0.979, 0.97, 0.99)),
    )  # fmt: skip
    assert [f"{type(reason).__name__}: {reason}" for reason in reasons] == snapshot


def test_an_endpoint_of_ones_own_has_no_price_to_compare_with():
    card = replace(HOSTED, usd_per_million_input_tokens=0.0, usd_per_million_output_tokens=0.0)
    own = replace(PAID, card=card)
    assert planned(TrafficConfig(requests_per_day=1e5), teachers=(BLIND, own))[2] is None


def test_a_log_asks_for_nothing_and_costs_nothing():
    _, plan, _ = planned(TrafficConfig(requests_per_day=50_000), teachers=(logged(194),))
    assert plan.teacher == "logged_model" and plan.strategy == "injection"
    assert sum(role.usd for role in plan.roles_of("teacher")) == 0


def test_without_requests_a_day_nothing_says_how_many_servers_an_open_model_needs():
    _, _, found = planned(TrafficConfig(), with_open=True)
    assert {one.kind for one in found.models} == {"student", "hosted"}


def test_what_needs_no_verdict_has_none():
    assert planned(TrafficConfig(), teachers=(BLIND,))[2] is None


def test_dollars_of_the_ways_are_those_of_a_horizon_below_a_month():
    verdict = planned(TrafficConfig(requests_per_day=50_000, months=1), with_open=True)[2]
    month = worth_of(verdict)
    short = replace(month, months=0.1)
    assert span_name(month) == "first month" and span_name(short) == "in 3 d 1 h"
    for way in month.alternatives:
        whole, part = first_month_usd(way, month), first_month_usd(way, short)
        assert whole is None if part is None else part == pytest.approx(whole / 10)


def test_a_teacher_that_is_right_on_nothing_is_no_alternative():
    config, probe, plan = of_a_year(200)
    plan = unknown(plan)
    wrong = tuple(replace(one, exact=wilson(0, 64)) for one in probe.teachers)
    found = verdict_of(config, replace(probe, teachers=wrong), plan, TODAY)
    assert found.reference is None
    [way] = found.unable
    assert way.why_not == str(words.NextToNothing(wilson(0, 64)))
