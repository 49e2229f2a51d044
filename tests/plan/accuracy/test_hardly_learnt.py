"""A student that would answer next to nothing: left out beside a better one, warned of alone."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
from world import STUDENTS, World, context

from stratos.catalog import load_catalog
from stratos.config import StudentConfig
from stratos.core.errors import InfeasibleError
from stratos.models.students import better_student
from stratos.plan import plan
from stratos.plan.accuracy.predict import hardly_learnt, without_hopeless
from stratos.plan.options.candidates import build_problem
from stratos.plan.problem import Exclusions
from stratos.plan.solve.frontier import frontier
from stratos.plan.stage import solve
from stratos.plan.words import AlmostNothing, HardlyLearnt
from stratos.records import Pilot, PilotPoint, PilotRun, Tried

TINY, LARGER = (replace(one, runs=()) for one in STUDENTS[:2])


def piloted(world: World, **right: int) -> Pilot:
    """Each student's planned training, made whole, with so many of 50 right."""
    problem = build_problem(world.config(), world.probe(), load_catalog(world.config().cloud))
    runs = [
        PilotRun(
            one.student, one.strategy, one.teacher,
            (PilotPoint(one.train_tokens, right[one.student] / 50, 50, 172, 1.0, 1.0, 1.0),),
            "", 0.0,
        )
        for one in problem.candidates
        if one.student in right
    ]  # fmt: skip
    return Pilot(world.config().task.name, tuple(runs), {}, 1.0, 1.0, 0.0, "")


def world(**changes) -> World:
    return World(students=(TINY, LARGER), **changes)


def build(now: World, **right: int):
    config = now.config()
    pilot = piloted(now, **right)
    return config, build_problem(config, now.probe(), load_catalog(config.cloud), pilot=pilot)


def test_what_a_pilot_shows_to_be_useless_is_not_planned_for_its_price():
    """The small one is cheaper, by more than the points of the other are counted."""
    _, problem = build(world(), **{TINY.name: 0, LARGER.name: 9})
    assert {one.student for one in problem.candidates} == {LARGER.name}
    [why] = [one.why for one in problem.exclusions if one.subject.startswith(TINY.name)]
    assert isinstance(why, AlmostNothing)
    assert why.accuracy.mean == pytest.approx(0.004, abs=0.001)
    assert (why.other_student, why.other_accuracy) == (LARGER.name, solve(problem).accuracy.mean)


@pytest.mark.parametrize("right", [{TINY.name: 0}, {TINY.name: 0, LARGER.name: 1}])
def test_beside_what_is_no_better_or_unknown_it_stays(right):
    _, problem = build(world(), **right)
    assert {one.student for one in problem.candidates} == {TINY.name, LARGER.name}


def test_alone_it_is_warned_of_with_what_may_help():
    config, problem = build(world(), **{TINY.name: 0, LARGER.name: 0})
    chosen = solve(problem)
    assert chosen.accuracy.mean == pytest.approx(0.004, abs=0.001)
    better = better_student(config, LARGER)
    assert "student=smollm2_135m" in better
    why = hardly_learnt(config, chosen)
    assert why == HardlyLearnt(chosen.student, chosen.accuracy, None, better)
    half = replace(chosen, accuracy=replace(chosen.accuracy, mean=0.5))
    assert hardly_learnt(config, half) is None
    unknown = replace(chosen, accuracy=replace(chosen.accuracy, is_known=False))
    assert hardly_learnt(config, unknown) is None


def test_where_all_that_is_known_is_useless_what_starts_from_a_model_is_tried():
    config, problem = build(world(), **{TINY.name: 0})
    known, unknown = (
        next(one for one in problem.candidates if one.student == name)
        for name in (TINY.name, LARGER.name)
    )
    pretrained = replace(config, students=(TINY, replace(LARGER, path="a/folder")))
    left_out = Exclusions()
    assert without_hopeless(pretrained.students, (known, unknown), left_out) == (unknown,)
    [why] = [one.why for one in left_out.values()]
    assert why == AlmostNothing(known.accuracy, LARGER.name, None)
    random = replace(config, students=(TINY, replace(LARGER, path=None)))
    assert without_hopeless(random.students, (known, unknown), Exclusions()) == (known, unknown)


def test_what_may_be_more_than_nothing_is_not_left_out_for_what_is_unknown():
    """Of 50, 4 right: up to a third may be."""
    config, problem = build(world(), **{TINY.name: 4})
    pretrained = replace(config, students=(TINY, replace(LARGER, path="a/folder")))
    assert max(one.accuracy.high for one in problem.candidates if one.is_known) > 0.2
    found = without_hopeless(pretrained.students, problem.candidates, Exclusions())
    assert {one.student for one in found} == {TINY.name, LARGER.name}


def test_a_model_that_surely_learns_nothing_either_is_not_tried_in_its_place():
    config, problem = build(world(), **{TINY.name: 0})
    known, unknown = (
        next(one for one in problem.candidates if one.student == name)
        for name in (TINY.name, LARGER.name)
    )
    pretrained = replace(config, students=(TINY, replace(LARGER, path="a/folder")))
    bounded = replace(unknown, accuracy=replace(unknown.accuracy, high=0.03))
    assert without_hopeless(pretrained.students, (known, bounded), Exclusions()) == (known, bounded)
    is_known = replace(unknown, accuracy=replace(known.accuracy))
    assert without_hopeless(pretrained.students, (known, is_known), Exclusions()) == (
        known,
        is_known,
    )


def test_what_is_left_out_comes_back_where_no_other_plan_meets_the_limits(tmp_path):
    now, right = world(), {TINY.name: 0, LARGER.name: 9}
    pilot = piloted(now, **right)
    assert plan(now.config(), now.probe(), context(tmp_path), pilot).student == LARGER.name
    _, without = build(now, **right)
    least = min(point.usd for point in frontier(without))
    tight = replace(now, limits=replace(now.limits, budget_usd=least - 0.001))
    assert plan(tight.config(), tight.probe(), context(tmp_path), pilot).student == TINY.name
    none = replace(now, limits=replace(now.limits, budget_usd=0.01))
    with pytest.raises(InfeasibleError):
        plan(none.config(), none.probe(), context(tmp_path), pilot)


def test_a_low_figure_that_rests_on_nothing_leaves_nobody_out():
    config, problem = build(world(), **{TINY.name: 0, LARGER.name: 9})
    known = next(iter(problem.candidates))
    guess = replace(known.accuracy, mean=0.0, low=0.0, high=0.01, is_known=False)
    unknown = replace(known, student=TINY.name, accuracy=guess)
    assert without_hopeless(config.students, (known, unknown), Exclusions()) == (known, unknown)
    measured = replace(unknown, accuracy=replace(guess, is_known=True))
    assert without_hopeless(config.students, (known, measured), Exclusions()) == (known,)


def test_what_was_tried_in_vain_makes_way_for_a_model_that_was_not_tried():
    """Seen: 0 of 45 after a short training, and planned, for the price; the model was left out."""
    config, problem = build(world(), **{TINY.name: 0})
    tiny, larger = (
        next(one for one in problem.candidates if one.student == name)
        for name in (TINY.name, LARGER.name)
    )

    def tried(one, n_right):
        short = Tried(n_right, 45, 1000)
        return replace(one, accuracy=replace(larger.accuracy, is_known=False, tried=short))

    pretrained = replace(config, students=(TINY, replace(LARGER, path="a/folder")))
    assert not larger.is_known and larger.accuracy.tried is None
    left_out = Exclusions()
    assert without_hopeless(pretrained.students, (tried(tiny, 0), larger), left_out) == (larger,)
    [why] = [one.why for one in left_out.values()]
    assert why == AlmostNothing(tried(tiny, 0).accuracy, LARGER.name, None)
    both = tried(tiny, 0), tried(larger, 2)
    assert without_hopeless(pretrained.students, both, Exclusions()) == both
    assert both[0].counted_accuracy < both[1].counted_accuracy == 2 / 45, "the better one counts"
    problem = replace(problem, candidates=both)
    chosen = solve(problem)
    why = hardly_learnt(config, chosen)
    assert why is not None and why.accuracy.tried is not None and why.accuracy.tried.n_items == 45


def test_of_labels_the_kinds_are_named_that_are_trained_in_seconds():
    config = world().config()
    labels = replace(config, task=SimpleNamespace(has_labels=True, calls_tools=False))
    assert "linear, static and encoder" in better_student(labels, TINY)


def test_of_a_model_the_next_larger_is_named_with_what_brings_it(monkeypatch):
    monkeypatch.setattr("stratos.models.students.is_here", lambda student: False)
    config = world().config()
    small = StudentConfig("small", path="a/folder", facts={"n_params": 135_000_000})
    assert better_student(config, small) == (
        "a larger student: student=smollm2_360m (its weights are not on this machine. Type: hf "
        "download HuggingFaceTB/SmolLM2-360M-Instruct)"
    )
    vast = replace(small, facts={"n_params": 10**12})
    assert better_student(config, vast) == "another student (--help student lists them)"
