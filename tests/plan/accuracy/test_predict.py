"""What a predicted accuracy rests on, and what it says about that."""

from dataclasses import dataclass

import pytest
from world import ALIGNMENT, BLIND, INJECTION, SIGHTED, SMALL, STUDENTS, TASK, Tiles, replace

from stratos.core.formats import predicted
from stratos.estimate.cards import card_of_student
from stratos.plan.accuracy.predict import MAX_RUNS, predict, with_labels
from stratos.plan.problem import Candidate
from stratos.records import Interval, KindProbe, Pilot, PilotPoint, PilotRun, Tried
from stratos.synthesize.injection import Injection

CARD = card_of_student(STUDENTS[1], Tiles())
NEW = replace(CARD, runs=())
TOKENS = CARD.runs[0].train_tokens


def past(accuracy=0.9, tokens=TOKENS, **changes):
    """A finished run of this machine, whose test accuracy is another than that on validation."""
    facts = {"accuracy": 0.123, "train_tokens": tokens, "student": NEW.name, "seed": 7,
             "validation_accuracy": accuracy, "n_validation_items": 500}  # fmt: skip
    return replace(CARD.runs[0], **{**facts, **changes})


def pilot(*accuracies, teacher=BLIND.teacher, strategy="injection", student=NEW.name):
    points = tuple(
        PilotPoint(250_000 * 2**i, accuracy, 128, 1000, 60.0, 60.0, 60.0)
        for i, accuracy in enumerate(accuracies)
    )
    run = PilotRun(student, strategy, teacher, points, "pilot")
    return Pilot(TASK, (run,), {}, 180.0, 180.0, 0.0)


# --- runs at the planned budget -------------------------------------------------------------------


def test_runs_give_their_mean_and_an_interval_that_holds_seeds_and_chance(snapshot):
    found = predict(CARD, TASK, INJECTION, BLIND)
    assert found.mean == pytest.approx(0.96)
    assert found.low <= 0.956 and found.high >= 0.964
    assert found.source == snapshot
    one = predict(replace(CARD, runs=CARD.runs[:1]), TASK, INJECTION, BLIND)
    assert one.source == snapshot
    assert one.high - one.low > found.high - found.low


# --- what a run speaks with -----------------------------------------------------------------------


def test_runs_of_a_card_say_nothing_of_what_is_taught_otherwise():
    """Bare answers came to 0.90 where the path had come to 0.98."""
    bare = replace(INJECTION, rationale="none")
    assert not predict(CARD, TASK, bare, BLIND).is_known
    assert predict(CARD, TASK, replace(INJECTION, n_items=100), BLIND).is_known
    found = predict(CARD, TASK, bare, BLIND, history=(past(0.9),))
    assert found.mean == pytest.approx(0.9)


def test_a_test_accuracy_moves_no_prediction():
    seen = predict(CARD, TASK, INJECTION, BLIND)
    for accuracy in (0.0, 0.5, 1.0):
        runs = tuple(replace(run, accuracy=accuracy) for run in CARD.runs)
        assert predict(replace(CARD, runs=runs), TASK, INJECTION, BLIND) == seen


def test_a_run_without_a_validation_accuracy_says_nothing(snapshot):
    runs = tuple(replace(run, validation_accuracy=None) for run in CARD.runs)
    found = predict(replace(CARD, runs=runs), TASK, INJECTION, BLIND)
    assert not found.is_known
    assert found.source == snapshot


def test_test_items_that_are_drawn_no_more_may_speak_until_there_is_something_better(snapshot):
    old = tuple(replace(run, validation_accuracy=None) for run in CARD.runs)
    found = predict(replace(CARD, runs=old), TASK, INJECTION, BLIND, task_version=2)
    assert found.mean == pytest.approx(0.96)
    assert found.source == snapshot
    new = replace(past(0.9), student="", task_version=2)
    both = predict(replace(CARD, runs=(*old, new)), TASK, INJECTION, BLIND, task_version=2)
    assert both.mean == pytest.approx(0.9)
    assert both.source == snapshot


# --- past runs of this machine --------------------------------------------------------------------


def test_past_runs_of_this_student_count_beside_those_of_the_card(snapshot):
    other = past(0.5, student="stratos_3m")
    found = predict(NEW, TASK, INJECTION, BLIND, history=[past(0.9), other])
    assert found.mean == pytest.approx(0.9)
    assert found.source == snapshot
    both = predict(CARD, TASK, INJECTION, BLIND, history=[past(0.9)])
    assert both.mean == pytest.approx((0.956 + 0.96 + 0.964 + 0.9) / 4)
    assert both.source == snapshot


def test_a_run_that_stands_on_the_card_and_on_this_machine_counts_once():
    same = replace(CARD.runs[0], student=CARD.name, machine="this machine", date="2026-11-21")
    assert predict(CARD, TASK, INJECTION, BLIND, history=[same]) == predict(
        CARD, TASK, INJECTION, BLIND
    )


def test_of_many_runs_the_nearest_in_budget_count():
    far = [past(0.1, TOKENS // 100, seed=seed) for seed in range(500)]
    near = [past(0.9, TOKENS, seed=seed) for seed in range(MAX_RUNS)]
    found = predict(NEW, TASK, INJECTION, BLIND, history=[*far, *near], tokens=TOKENS)
    assert found.mean == pytest.approx(0.9)
    assert found.source.startswith(f"{MAX_RUNS} past runs of this machine, 2026-11-20, ")


# --- another budget of tokens ---------------------------------------------------------------------


def test_a_shorter_training_is_not_promised_what_a_long_one_reached(snapshot):
    planned = predict(CARD, TASK, INJECTION, BLIND, tokens=TOKENS)
    means, widths = [planned.mean], [planned.high - planned.low]
    for part in (2, 10, 50):
        found = predict(CARD, TASK, INJECTION, BLIND, tokens=TOKENS // part)
        means.append(found.mean)
        widths.append(found.high - found.low)
    assert means == sorted(means, reverse=True) and means[-1] < 0.6
    assert widths[1] > 3 * widths[0], "half as long is much less certain"
    assert found.source == snapshot


# --- a pilot --------------------------------------------------------------------------------------


def test_a_pilot_makes_an_unknown_accuracy_known(snapshot):
    found = predict(NEW, TASK, INJECTION, BLIND, pilot=pilot(0.05, 0.3, 0.6), tokens=TOKENS)
    assert 0.6 < found.mean < 1 and found.low < 0.6 < 0.9 < found.high
    assert found.source == snapshot
    worse = predict(NEW, TASK, INJECTION, BLIND, pilot=pilot(0.05, 0.1, 0.2), tokens=TOKENS)
    assert worse.mean < found.mean


def test_a_pilot_with_next_to_no_right_answer_leaves_the_accuracy_unknown(snapshot):
    """Measured on the smallest student: 2 of 128 right after 1M tokens, 96% after 9M."""
    found = predict(NEW, TASK, INJECTION, BLIND, pilot=pilot(1 / 128, 1 / 128, 2 / 128))
    assert found.is_known, "what it is after as many tokens is known"
    found = predict(
        NEW, TASK, INJECTION, BLIND, pilot=pilot(1 / 128, 1 / 128, 2 / 128), tokens=9_000_000
    )
    assert (found.is_known, found.low, found.high) == (False, 0.0, 1.0)
    assert found.source == snapshot
    assert found.tried == Tried(2, 128, 1_000_000)
    assert predicted(found) == snapshot
    bad = predict(NEW, TASK, INJECTION, BLIND, history=[past(0.01)], tokens=TOKENS // 2)
    assert bad.mean < 0.02, "half of a training that learnt nothing learns nothing"


def test_a_pilot_speaks_for_its_student_its_strategy_and_by_alignment_its_teacher():
    seen = pilot(0.1, 0.3, 0.6, student="stratos_3m")
    assert not predict(NEW, TASK, INJECTION, BLIND, pilot=seen).is_known
    taught = pilot(0.1, 0.3, 0.6, strategy="alignment", teacher=SIGHTED.teacher)
    found = predict(NEW, TASK, ALIGNMENT, SIGHTED, pilot=taught, tokens=TOKENS)
    assert found.source.startswith("power law through a pilot")
    other = predict(NEW, TASK, ALIGNMENT, BLIND, pilot=taught, tokens=TOKENS)
    assert not other.is_known
    shown = pilot(0.1, 0.3, 0.6, teacher=SIGHTED.teacher)
    assert predict(NEW, TASK, INJECTION, BLIND, pilot=shown).source.startswith("power law")


# --- nothing of the kind --------------------------------------------------------------------------


def test_alignment_without_runs_is_unknown_and_bounded_by_its_teacher(snapshot):
    found = predict(CARD, TASK, ALIGNMENT, SIGHTED)
    assert (found.is_known, found.low, found.high) == (False, 0.0, SIGHTED.exact.high)
    assert found.source == snapshot
    assert predicted(found) == "at most 0.84, not measured"


def test_an_unknown_accuracy_counts_as_nothing():
    unknown = predict(NEW, TASK, INJECTION, BLIND)
    candidate = Candidate(SMALL.name, "s", "injection", unknown, ("a", "b", "c"))
    assert not candidate.is_known
    assert candidate.counted_accuracy == candidate.limit_accuracy == 0.0
    known = replace(candidate, accuracy=Interval(0.4, 0.3, 0.5, "1 recorded run"))
    assert known.is_known and known.counted_accuracy == known.limit_accuracy == 0.4
    assert replace(known, confidence="low").limit_accuracy == 0.3
    assert replace(known, confidence="low").counted_accuracy == 0.4


def test_an_upper_bound_is_no_mean_and_meets_no_limit():
    bounded = predict(CARD, TASK, ALIGNMENT, SIGHTED)
    candidate = Candidate(SMALL.name, "s", "alignment", bounded, ("a", "b", "c"))
    assert candidate.counted_accuracy == candidate.limit_accuracy == 0.0
    alone = replace(candidate, stand_in=0.75)
    assert alone.counted_accuracy == 0.75, "pairs of which nothing is known are ordered by it"
    assert alone.limit_accuracy == 0.0


def test_numbers_that_no_run_can_have_are_passed_over():
    bad = [
        past(accuracy=1.5),
        past(tokens=0),
        past(n_validation_items=0),
        past(accuracy=float("nan")),
    ]
    found = predict(NEW, TASK, INJECTION, BLIND, history=bad)
    assert not found.is_known


def test_runs_on_another_task_or_strategy_say_nothing(snapshot):
    @dataclass(frozen=True)
    class Another(Injection):
        name: str = "another"

    for task, strategy in (("chess", INJECTION), (TASK, Another())):
        found = predict(CARD, task, strategy, BLIND)
        assert (found.is_known, found.low, found.high) == (False, 0.0, 1.0)
        assert found.source == snapshot


# --- labels of a teacher, beside rows that a kind was measured on ---------------------------------

KIND = KindProbe("encoder", "encoder", Interval(0.8, 0.7, 0.9), 0.8, 500, 0.01, 1.0, 1.0, 1_000,
                 gain=(0.02, 0.12))  # fmt: skip
RIGHT_HALF = replace(SIGHTED, exact=Interval(0.5, 0.4, 0.6))


def test_corrected_labels_add_as_much_as_the_teacher_is_right_and_may_pass_it():
    taught = with_labels(KIND, RIGHT_HALF, 5_000, corrects=True)
    assert (taught.mean, taught.low, taught.high) == pytest.approx((0.835, 0.7, 1.0))
    few = with_labels(KIND, RIGHT_HALF, 50, corrects=True)
    assert (few.mean, few.high) == pytest.approx((0.8035, 0.912)), "a tenth of twice the rows"
    full = with_labels(replace(KIND, accuracy=Interval(0.99, 0.97, 1.0)), SIGHTED, 5_000,
                       corrects=True)  # fmt: skip
    assert full.mean <= 1


def test_labels_that_nothing_corrects_end_at_the_teacher():
    better = replace(SIGHTED, exact=Interval(0.84, 0.8, 0.9))
    assert with_labels(KIND, better, 5_000, corrects=False).mean == pytest.approx(0.84)
    assert with_labels(KIND, RIGHT_HALF, 5_000, corrects=False).mean == pytest.approx(0.8)
    unknown = with_labels(replace(KIND, gain=None), better, 5_000, corrects=True)
    assert (unknown.mean, unknown.high) == pytest.approx((0.8, 0.9))
