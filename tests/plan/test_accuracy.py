import pytest
from world import BLIND, SIGHTED, SMALL, STUDENTS, TASK, Tiles, replace

from stratos.estimate import card_of_student
from stratos.plan.accuracy import predict
from stratos.plan.problem import Candidate
from stratos.records import Interval

CARD = card_of_student(STUDENTS[1], Tiles())


def test_runs_give_their_mean_and_an_interval_that_holds_seeds_and_chance():
    found = predict(CARD, TASK, "injection", BLIND)
    assert found.mean == pytest.approx(0.96)
    assert found.low <= 0.956 and found.high >= 0.964
    assert found.source == "3 recorded runs of 2026-11-20, 3000 test items"
    one = predict(replace(CARD, runs=CARD.runs[:1]), TASK, "injection", BLIND)
    assert one.source == "1 recorded run of 2026-11-20, 1000 test items"
    assert one.high - one.low > found.high - found.low


def test_seeds_that_disagree_widen_the_interval():
    wild = tuple(
        replace(run, accuracy=a) for run, a in zip(CARD.runs, (0.2, 0.9, 0.7), strict=True)
    )
    found = predict(replace(CARD, runs=wild), TASK, "injection", BLIND)
    assert found.low <= 0.2 and found.high >= 0.9


def test_runs_on_another_task_or_strategy_say_nothing():
    for task, strategy in (("chess", "injection"), (TASK, "injection_teacher")):
        found = predict(CARD, task, strategy, BLIND)
        assert (found.mean, found.low, found.high) == (0.5, 0.0, 1.0)
        assert found.source == f"unknown: no recorded run of stratos_1m on {task}"


def test_alignment_without_runs_is_bounded_by_its_teacher():
    found = predict(CARD, TASK, "alignment", SIGHTED)
    assert (found.mean, found.low, found.high) == (0.75, 0.0, SIGHTED.exact.high)
    assert found.source == "bounded by the teacher qwen2.5_7b on 64 validation items"


def test_an_unknown_accuracy_counts_as_nothing():
    unknown = predict(replace(CARD, runs=()), TASK, "injection", BLIND)
    candidate = Candidate(SMALL.name, "s", "injection", unknown, ("a", "b", "c"))
    assert not candidate.is_known and candidate.counted_accuracy == 0.0
    known = replace(candidate, accuracy=Interval(0.4, 0.3, 0.5, "1 recorded run"))
    assert known.is_known and known.counted_accuracy == 0.4
