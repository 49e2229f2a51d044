"""What keeps a verdict from "distil" however well it pays, and what does not count any more."""

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
from stratos.core.intervals import by_shares, wilson
from stratos.plan import words
from stratos.plan.alternatives import hosted_models, open_models
from stratos.plan.worth import doubt_of, verdict_of, worth_of
from stratos.records import (
    AnswerSpread,
    Deployment,
    Export,
    Exports,
    Interval,
    ServingSetting,
    SliceScore,
)
from stratos.report.run_verdict import BetterByShares, BetterOnItems, worth_measured

CHEAP = replace(
    teacher(replace(HOSTED, name="cheap", usd_per_million_input_tokens=1.0), right=56),
    spread=AnswerSpread(40.0, 4.0, 0.5),
)


def asking(accuracy, rate, teachers=(BLIND, PAID), **more):
    """Return a plan made without a limit of accuracy, under one, and its verdict."""
    config, probe, plan = of_a_year(rate, teachers)
    limits = replace(config.limits, accuracy=accuracy, confidence="low", **more)
    config = replace(config, limits=limits)
    verdict = verdict_of(config, probe, plan, TODAY)
    return config, probe, replace(plan, worth=worth_of(verdict)), verdict


def test_a_model_that_may_meet_the_limit_of_accuracy_is_compared_in_dollars():
    """Its interval, 85.0% to 97.5%, straddles the limit: few items do not make it unable."""
    few = asking(0.9, 1)[3]
    assert few.outcome == "open" and few.reference.name == "large"
    assert words.NotSure("large", words.MayBeBelowLimit(PAID.exact)) in few.notes
    many = asking(0.9, 50_000)[3]
    assert many.outcome == "distil" and many.reference.name == "large"
    surely = asking(0.8, 1)[3]
    assert surely.outcome == "stay"
    assert not any(isinstance(note, words.NotSure) for note in surely.notes)
    never = asking(0.98, 1)[3]
    assert never.reference is None
    assert [way.why_not for way in never.unable] == [str(words.BelowLimit(PAID.exact))]


def test_a_sure_alternative_that_loses_stays_the_reason_beside_one_that_may_be_none():
    """The dear one surely is an alternative, the cheap one may be: both lose at one a day."""
    found = asking(0.84, 1, (BLIND, PAID, CHEAP))[3]
    assert found.outcome == "stay" and found.reference.name == "large"


def test_a_student_that_misses_the_limit_is_never_advised():
    config, probe, plan, _ = asking(0.9, 50_000)
    missed = worth_measured(config, probe, plan, measured(80, 80, 100, 1.0))
    assert missed.outcome == "open"
    short = words.MissesLimit(missed.alternatives[0].accuracy, 0.9, is_measured=True)
    assert str(short) in missed.text
    # No other model does the task, and the student does not do it, either.
    config, probe, plan, _ = asking(0.98, 50_000)
    assert plan.worth.reference == ""
    assert worth_measured(config, probe, plan, measured(80, 80, 100, 1.0)).outcome == "open"
    # What may do it is an alternative to what does not.
    config, probe, plan, _ = asking(0.9, 1)
    assert worth_measured(config, probe, plan, measured(80, 97, 100, 1e-4)).outcome == "stay"


def test_a_dear_teacher_that_is_better_leaves_it_open_beside_a_cheap_one():
    config, probe, plan = of_a_year(100_000, (BLIND, PAID, CHEAP))
    plan = replace(plan, worth=worth_of(verdict_of(config, probe, plan, TODAY)))
    found = worth_measured(config, probe, plan, measured(850, 960, 1000, 1e-20))
    assert found.reference == "cheap" and found.outcome == "open"
    assert str(words.Beaten((("large", BetterOnItems(0.85, 0.96, 1000, 1e-20)),))) in found.text
    equal = worth_measured(config, probe, plan, measured(955, 960, 1000, 0.6))
    assert equal.outcome == "distil"


def test_an_alternative_that_surely_is_more_accurate_leaves_it_open_whatever_it_costs():
    config, probe, plan = of_a_year(100_000, (BLIND, PAID, CHEAP))
    plan = replace(plan, accuracy=Interval(0.8, 0.78, 0.82))
    found = verdict_of(config, probe, plan, TODAY)
    assert found.reference.name == "cheap" and found.outcome == "open"
    better = words.LessAccurate(plan.accuracy, False, "large", PAID.exact.mean)
    assert found.doubt == better and better in found.notes


@pytest.mark.parametrize(
    ("seconds", "outcome", "reference"), [(8.0, "distil", ""), (0.2, "stay", "large")]
)
def test_a_hosted_model_that_takes_too_long_is_no_alternative(seconds, outcome, reference):
    config, probe, plan = of_a_year(100, (BLIND, replace(PAID, seconds=64 * seconds)))
    config = replace(config, limits=replace(config.limits, latency_ms=300))
    found = verdict_of(config, probe, plan, TODAY)
    assert found.outcome == outcome
    assert (found.reference.name if found.reference is not None else "") == reference
    slow = words.OnlySlow("large", words.TooSlow(1000 * seconds, 300), is_unsure=False)
    assert (slow in found.notes) == (not reference) and found.unable == ()


def test_what_is_no_alternative_is_told_anew_beside_the_measured_student():
    config, probe, plan = of_a_year(100_000, (BLIND, teacher(LARGE, right=52)))
    plan = replace(plan, accuracy=Interval(0.97, 0.95, 0.99))
    found = open_models(config, probe, plan, load_catalog(AWS), None)
    config, probe = config, replace(probe, teachers=(*probe.teachers, PAID))
    plan = replace(plan, worth=worth_of(verdict_of(config, probe, plan, TODAY, found)))
    [before] = [way for way in plan.worth.alternatives if way.name == "qwen2.5_7b"]
    assert before.why_not == str(words.SurelyWorse(before.accuracy))
    after = worth_measured(config, probe, plan, measured(600, 610, 1000, 0.9))
    [way] = [way for way in after.alternatives if way.name == "qwen2.5_7b"]
    assert way.why_not == "" and after.outcome != "distil"
    limited = replace(config, limits=replace(config.limits, accuracy=0.85, confidence="mean"))
    again = worth_measured(limited, probe, plan, measured(600, 610, 1000, 0.9))
    [way] = [way for way in again.alternatives if way.name == "qwen2.5_7b"]
    assert way.unsure == str(words.MayBeBelowLimit(way.accuracy))


def test_once_the_student_is_trained_what_it_has_cost_is_left_out():
    config, probe, plan = of_a_year(5000)
    serve = sum(role.usd for role in plan.roles_of("serve"))
    plan = replace(plan, usd=serve + 2000, usd_range=(serve + 1900, serve + 2100))
    plan = replace(plan, worth=worth_of(verdict_of(config, probe, plan, TODAY)))
    assert plan.worth.outcome == "stay", "with $2,000 to be spent it does not pay"
    found = worth_measured(config, probe, plan, measured(980, 970, 1000, 0.2))
    assert found.once_usd.high == 0 and found.outcome == "distil"
    assert str(words.Sunk()) in found.text
    assert found.payback_days == Interval(0.0, 0.0, 0.0)
    price, even = found.alternatives[1].usd_per_answer.mean, found.break_even_per_day.mean
    assert even == pytest.approx(plan.servers_usd_per_day / price)


def test_the_accuracy_is_that_of_the_format_that_is_served():
    config, probe, plan = of_a_year(50_000)
    plan = replace(plan, worth=worth_of(verdict_of(config, probe, plan, TODAY)))
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
    student = served.alternatives[0].accuracy
    assert student.mean == 0.6 and served.outcome == "open"
    less = words.LessAccurate(student, True, "large", PAID.exact.mean)
    assert str(less) in served.text


def test_a_student_that_hardly_agrees_with_the_log_takes_the_place_of_nothing():
    config, probe, plan = of_a_year(50_000, (BLIND, PAID))
    little = replace(plan, accuracy=Interval(0.0, 0.0, 0.02, "test items"))
    way = replace(hosted_models(config.limits, probe, plan)[0], is_logged=True)
    config = replace(config, limits=replace(config.limits, accuracy=None))
    doubt = doubt_of(config.limits, little, [way], {}, way)
    assert doubt == words.AgreesTooLittle(little.accuracy, is_measured=True)
    much = replace(plan, accuracy=Interval(0.7, 0.6, 0.8, "test items"))
    assert doubt_of(config.limits, much, [way], {}, way) == words.EnoughUnsaid(
        much.accuracy, is_measured=True
    )


def test_a_teacher_that_is_better_as_requests_come_leaves_it_open():
    """An evaluation that alternates slices has them level; 99 of 100 requests are short."""
    shares = {"long": 0.01, "short": 0.99}
    config, probe, plan = of_a_year(100_000, (BLIND, PAID))
    plan = replace(plan, worth=worth_of(verdict_of(config, probe, plan, TODAY)))
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
    better = BetterByShares(
        by_shares({row.slice: row.exact for row in scorecard.score("student").slices}, shares),
        by_shares({row.slice: row.exact for row in scorecard.score("teacher").slices}, shares),
    )
    assert better.student.mean == pytest.approx(0.841, abs=5e-4)
    assert better.model.mean == pytest.approx(0.979, abs=5e-4)
    assert str(words.Beaten((("large", better),))) in found.text
    rare = dict(zip(shares, reversed(shares.values()), strict=True))
    assert worth_measured(config, replace(probe, shares=rare), plan, scorecard).outcome == "distil"
    # Another model has its slices from the probe.
    by_slice = {"long": wilson(30, 64), "short": wilson(64, 64)}
    probed = (BLIND, PAID, replace(CHEAP, exact_by_slice=by_slice))
    config, probe, plan = of_a_year(100_000, probed)
    plan = replace(plan, worth=worth_of(verdict_of(config, probe, plan, TODAY)))
    found = worth_measured(config, replace(probe, shares=shares), plan, scorecard)
    assert "; than cheap: 84.1%" in found.text


def test_a_student_that_surely_will_miss_it_is_not_advised_before_it_is_trained():
    config, probe, plan, _ = asking(0.98, 50_000)
    accuracy = Interval(0.8, 0.7, 0.9)
    found = verdict_of(config, probe, replace(plan, accuracy=accuracy), TODAY)
    assert found.outcome == "open"
    assert found.doubt == words.MissesLimit(accuracy, 0.98, is_measured=False)


def test_a_model_that_is_too_slow_is_named_beside_one_that_is_not():
    slow, quick = replace(PAID, seconds=64 * 8.0), replace(CHEAP, seconds=64 * 0.2)
    config, probe, plan = of_a_year(100_000, (BLIND, slow, quick))
    config = replace(config, limits=replace(config.limits, latency_ms=300))
    told = words.OnlySlow("large", words.TooSlow(8000.0, 300), is_unsure=False)
    found = verdict_of(config, probe, plan, TODAY)
    assert found.reference.name == "cheap" and found.outcome == "distil" and told in found.notes
    asked = replace(config, traffic=replace(config.traffic, requests_per_day=None))
    assert told in verdict_of(asked, probe, plan, TODAY).notes
    # One that does not do the task either is not said to do it.
    config = replace(config, limits=replace(config.limits, accuracy=0.999))
    assert told not in verdict_of(config, probe, plan, TODAY).notes
