"""What keeps a verdict from "distil" however well it pays, and what does not count any more."""

from __future__ import annotations

import pytest
from test_worth import (
    AWS,
    HOSTED,
    PAID,
    TODAY,
    measured,
    of_a_year,
)
from world import BLIND, LARGE, replace, teacher

from stratos.catalog import load_catalog
from stratos.core.intervals import wilson
from stratos.plan.open_models import open_ways
from stratos.plan.ways import hosted_ways
from stratos.plan.worth import verdict_of
from stratos.plan.worth_doubts import doubts
from stratos.records import (
    AnswerSpread,
    Deployment,
    Export,
    Exports,
    Interval,
    ServingSetting,
    SliceScore,
)
from stratos.report.worth_measured import worth_measured

CHEAP = replace(
    teacher(replace(HOSTED, name="cheap", usd_per_million_input_tokens=1.0), right=56),
    spread=AnswerSpread(40.0, 4.0, 0.5),
)


def asking(accuracy, rate, teachers=(BLIND, PAID), **more):
    """Return a plan made without a limit of accuracy, under one."""
    config, probe, plan = of_a_year(rate, teachers)
    limits = replace(config.limits, accuracy=accuracy, confidence="low", **more)
    config = replace(config, limits=limits)
    return config, probe, replace(plan, worth=verdict_of(config, probe, plan, TODAY))


def test_a_model_that_may_meet_the_limit_of_accuracy_is_compared_in_dollars():
    """Its interval, 85.0% to 97.5%, straddles the limit: few items do not make it unable."""
    few = asking(0.9, 1)[2].worth
    assert few.outcome == "open" and few.reference == "large"
    assert "Whether large is an alternative is not sure: 93.8% (85.0–97.5%)" in few.text
    many = asking(0.9, 50_000)[2].worth
    assert many.outcome == "distil" and many.reference == "large"
    surely = asking(0.8, 1)[2].worth
    assert surely.outcome == "stay" and "not sure" not in surely.text
    never = asking(0.98, 1)[2].worth
    assert never.reference == "" and "below limits.accuracy" in never.text


def test_a_sure_alternative_that_loses_stays_the_reason_beside_one_that_may_be_none():
    """The dear one surely is an alternative, the cheap one may be: both lose at one a day."""
    found = asking(0.84, 1, (BLIND, PAID, CHEAP))[2].worth
    assert found.outcome == "stay" and found.reference == "large"


def test_a_student_that_misses_the_limit_is_never_advised():
    config, probe, plan = asking(0.9, 50_000)
    missed = worth_measured(config, probe, plan, measured(80, 80, 100, 1.0))
    assert missed.outcome == "open"
    assert "the student does not meet limits.accuracy=0.9: 80.0%" in missed.text
    # No other model does the task, and the student does not do it, either.
    config, probe, plan = asking(0.98, 50_000)
    assert plan.worth.reference == ""
    assert worth_measured(config, probe, plan, measured(80, 80, 100, 1.0)).outcome == "open"
    # What may do it is an alternative to what does not.
    config, probe, plan = asking(0.9, 1)
    assert worth_measured(config, probe, plan, measured(80, 97, 100, 1e-4)).outcome == "stay"


def test_a_student_that_surely_will_miss_it_is_not_advised_before_it_is_trained():
    config, probe, plan = asking(0.98, 50_000)
    found = verdict_of(config, probe, replace(plan, accuracy=Interval(0.8, 0.7, 0.9)), TODAY)
    assert found.outcome == "open" and "is not expected to meet limits.accuracy" in found.text


def test_a_dear_teacher_that_is_better_leaves_it_open_beside_a_cheap_one():
    config, probe, plan = of_a_year(100_000, (BLIND, PAID, CHEAP))
    plan = replace(plan, worth=verdict_of(config, probe, plan, TODAY))
    found = worth_measured(config, probe, plan, measured(850, 960, 1000, 1e-20))
    assert found.reference == "cheap" and found.outcome == "open"
    assert "less accurate than large: 85.0% against 96.0% of the same 1,000" in found.text
    equal = worth_measured(config, probe, plan, measured(955, 960, 1000, 0.6))
    assert equal.outcome == "distil"


def test_an_alternative_that_surely_is_more_accurate_leaves_it_open_whatever_it_costs():
    config, probe, plan = of_a_year(100_000, (BLIND, PAID, CHEAP))
    plan = replace(plan, accuracy=Interval(0.8, 0.78, 0.82))
    found = verdict_of(config, probe, plan, TODAY)
    assert found.reference == "cheap" and found.outcome == "open"
    assert "is expected to be less accurate than large" in found.text


@pytest.mark.parametrize(
    ("seconds", "outcome", "reference"), [(8.0, "distil", ""), (0.2, "stay", "large")]
)
def test_a_hosted_model_that_takes_too_long_is_no_alternative(seconds, outcome, reference):
    config, probe, plan = of_a_year(100, (BLIND, replace(PAID, seconds=64 * seconds)))
    config = replace(config, limits=replace(config.limits, latency_ms=300))
    found = verdict_of(config, probe, plan, TODAY)
    assert (found.outcome, found.reference) == (outcome, reference)
    told = (
        "large would do the task, but is too slow: 8.00 s an answer, above limits.latency_ms=300."
    )
    assert (told in found.text) == (not reference)
    assert found.text.count("8.00 s") == (not reference)


def test_a_model_that_is_too_slow_is_named_beside_one_that_is_not():
    slow, quick = replace(PAID, seconds=64 * 8.0), replace(CHEAP, seconds=64 * 0.2)
    config, probe, plan = of_a_year(100_000, (BLIND, slow, quick))
    config = replace(config, limits=replace(config.limits, latency_ms=300))
    told = " large would do the task, but is too slow: 8.00 s an answer, above"
    found = verdict_of(config, probe, plan, TODAY)
    assert found.reference == "cheap" and found.outcome == "distil" and told in found.text
    asked = replace(config, traffic=replace(config.traffic, requests_per_day=None))
    assert told in verdict_of(asked, probe, plan, TODAY).text
    # One that does not do the task either is not said to do it.
    config = replace(config, limits=replace(config.limits, accuracy=0.999))
    assert told not in verdict_of(config, probe, plan, TODAY).text


def test_what_is_no_alternative_is_told_anew_beside_the_measured_student():
    config, probe, plan = of_a_year(100_000, (BLIND, teacher(LARGE, right=52)))
    plan = replace(plan, accuracy=Interval(0.97, 0.95, 0.99))
    found = open_ways(config, probe, plan, load_catalog(AWS), None)
    config, probe = config, replace(probe, teachers=(*probe.teachers, PAID))
    plan = replace(plan, worth=verdict_of(config, probe, plan, TODAY, found))
    [before] = [way for way in plan.worth.ways if way.name == "qwen2.5_7b"]
    assert before.why_not.endswith("surely less accurate")
    after = worth_measured(config, probe, plan, measured(600, 610, 1000, 0.9))
    [way] = [way for way in after.ways if way.name == "qwen2.5_7b"]
    assert way.why_not == "" and after.outcome != "distil"
    limited = replace(config, limits=replace(config.limits, accuracy=0.85, confidence="mean"))
    again = worth_measured(limited, probe, plan, measured(600, 610, 1000, 0.9))
    [way] = [way for way in again.ways if way.name == "qwen2.5_7b"]
    assert way.unsure.endswith("may be below limits.accuracy")


def test_once_the_student_is_trained_what_it_has_cost_is_left_out():
    config, probe, plan = of_a_year(5000)
    serve = sum(role.usd for role in plan.roles_of("serve"))
    plan = replace(plan, usd=serve + 2000, usd_range=(serve + 1900, serve + 2100))
    plan = replace(plan, worth=verdict_of(config, probe, plan, TODAY))
    assert plan.worth.outcome == "stay", "with $2,000 to be spent it does not pay"
    found = worth_measured(config, probe, plan, measured(980, 970, 1000, 0.2))
    assert found.once_usd.high == 0 and found.outcome == "distil"
    assert found.text.startswith("Distil: pays from the first day on at 5,000 requests a day")
    assert "What the student has cost so far is left out" in found.text
    assert found.payback_days == Interval(0.0, 0.0, 0.0)
    price, even = found.ways[1].usd_per_answer.mean, found.break_even_per_day.mean
    assert even == pytest.approx(plan.servers_usd_per_day / price)


def test_the_accuracy_is_that_of_the_format_that_is_served():
    config, probe, plan = of_a_year(50_000)
    plan = replace(plan, worth=verdict_of(config, probe, plan, TODAY))
    card = measured(980, 970, 1000, 0.2)
    q4 = Export(
        "q4_k_m", 1, 1000, 500, wilson(600, 1000), wilson(980, 1000), Interval(38, 35, 41), 0.0,
        1.0, 1.0, 1.0, 1, 1.0, 1.0,
    )  # fmt: skip
    deployment = Deployment(
        "b", "s", 1, 1, 1.0, 1.0, 1.0, "s", 1, 1.0,
        run=ServingSetting("llamacpp", format="q4_k_m"),
        exports=Exports("llamacpp", "1", "", (q4,), "q4_k_m"),
    )  # fmt: skip
    assert worth_measured(config, probe, plan, card).outcome == "distil"
    served = worth_measured(config, probe, plan, card, deployment)
    assert served.ways[0].accuracy.mean == 0.6 and served.outcome == "open"
    assert "the student is less accurate than large: 60.0%" in served.text


def test_a_student_that_hardly_agrees_with_the_log_takes_the_place_of_nothing():
    config, probe, plan = of_a_year(50_000, (BLIND, PAID))
    little = replace(plan, accuracy=Interval(0.0, 0.0, 0.02, "test items"))
    way = replace(hosted_ways(config, probe, plan)[0], is_logged=True)
    config = replace(config, limits=replace(config.limits, accuracy=None))
    told = doubts(config, little, [way], {}, way)
    assert "gives its answer to 0.0% (0.0–2.0%) of requests: it takes the place of noth" in told
    much = replace(plan, accuracy=Interval(0.7, 0.6, 0.8, "test items"))
    assert "such as limits.accuracy=0.9" in doubts(config, much, [way], {}, way)


def test_a_teacher_that_is_better_as_requests_come_leaves_it_open():
    """An evaluation that alternates slices has them level; 99 of 100 requests are short."""
    shares = {"long": 0.01, "short": 0.99}
    config, probe, plan = of_a_year(100_000, (BLIND, PAID))
    plan = replace(plan, worth=verdict_of(config, probe, plan, TODAY))
    equal = measured(910, 910, 1000, 1.0)

    def sliced(score, long, short):
        parts = (("long", long), ("short", short))
        more = tuple(SliceScore(name, 500, wilson(right, 500), 0.0) for name, right in parts)
        return replace(score, slices=(*score.slices, *more))

    student, large = equal.scores
    scorecard = replace(equal, scores=(sliced(student, 490, 420), sliced(large, 420, 490)))
    alike = worth_measured(config, probe, plan, scorecard)
    assert alike.outcome == "distil", "how often slices are asked is not known"
    found = worth_measured(config, replace(probe, shares=shares), plan, scorecard)
    assert found.outcome == "open"
    assert "the student is less accurate than large: 84.1% (80.7–87.1%) against 97.9%" in found.text
    assert "each slice by its share of the rows" in found.text
    rare = dict(zip(shares, reversed(shares.values()), strict=True))
    assert worth_measured(config, replace(probe, shares=rare), plan, scorecard).outcome == "distil"
    # Another model has its slices from the probe.
    by_slice = {"long": wilson(30, 64), "short": wilson(64, 64)}
    probed = (BLIND, PAID, replace(CHEAP, exact_by_slice=by_slice))
    config, probe, plan = of_a_year(100_000, probed)
    plan = replace(plan, worth=verdict_of(config, probe, plan, TODAY))
    found = worth_measured(config, replace(probe, shares=shares), plan, scorecard)
    assert "; than cheap: 84.1%" in found.text
