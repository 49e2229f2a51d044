"""The learning curve: what it must do on any trainings, and how often its interval is right."""

import importlib.util
import itertools
import math
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from stratos.core.intervals import on_items, wilson
from stratos.estimate.cards import card_of_student
from stratos.plan.accuracy.learning_curve import (
    Measured,
    extrapolate,
    on_same_items,
    without_optimism,
)
from stratos.plan.accuracy.predict import predict
from stratos.plan.explain.whatif import shipped_students
from stratos.records import ModelCard, TeacherProbe
from stratos.synthesize.alignment import Alignment
from stratos.synthesize.injection import Injection
from stratos.synthesize.supervised import Supervised
from stratos.tasks.mahjong import DiscardTask, MahjongTask


def measured(*rows):
    return tuple(Measured(*row) for row in rows)


LADDER = (1e3, 4e3, 16e3, 64e3, 256e3)


def test_many_trainings_of_one_length_give_their_accuracy():
    found = extrapolate(measured(*[(1e6, 900, 1000)] * 20), 1e6)
    assert found.mean == pytest.approx(0.9, abs=0.003)
    assert 0.88 < found.low < 0.9 < found.high < 0.92


def test_a_long_ladder_is_carried_on_as_the_power_law_that_it_is():
    """A closed form: hazard 2 · (D / 1000)^-0.5, known almost without noise."""
    rows = [(d, 1e6 * math.exp(-2 * (d / 1000) ** -0.5), 1_000_000) for d in LADDER] * 3
    found = extrapolate(measured(*rows), 1e6)
    truth = math.exp(-2 * 1000**-0.5)
    assert found.low < truth < found.high
    assert found.mean == pytest.approx(truth, abs=0.015), "a small floor cannot be excluded"


def test_a_floor_is_found_where_the_ladder_shows_it():
    """Hazard 0.3 + (D / 1000)^-1: no amount of training passes 74%."""
    rows = [(d, 1e6 * math.exp(-0.3 - (d / 1000) ** -1.0), 1_000_000) for d in LADDER] * 3
    found = extrapolate(measured(*rows), 1e7)
    assert found.low < math.exp(-0.3) < found.high
    assert found.mean == pytest.approx(math.exp(-0.3), abs=0.06)


SETS = [
    [(250_000, first, 128), (1_000_000, second, 128)]
    for first, second in itertools.product((0, 1, 40, 127, 128), repeat=2)
]


@pytest.mark.parametrize("rows", SETS, ids=str)
def test_whatever_was_seen_the_interval_is_one(rows):
    rng = np.random.default_rng(0)
    trainings = measured(*rows)
    before = -1.0
    for tokens in (1, 1e5, 1e6, 1e7, 1e12):
        wide = extrapolate(trainings, tokens)
        narrow = extrapolate(trainings, tokens, 0.8)
        assert 0 <= wide.low <= narrow.low <= wide.mean <= narrow.high <= wide.high <= 1
        assert wide.mean == narrow.mean >= before - 1e-9, "more training is not worse"
        before = wide.mean
    shuffled = tuple(trainings[i] for i in rng.permutation(len(trainings)))
    assert extrapolate(shuffled, 1e7) == extrapolate(trainings, 1e7), "no order, no chance"


# --- calibration on simulated curves ----------------------------------------------------------

N_CURVES = 200


def simulate(rng, parts, n_items, n_trainings=1):
    """Return trainings of one true curve, and the accuracy that the planned training comes to.

    Exponent, ceiling, level and the spread of seeds are drawn anew for every curve; the exponent
    is another one from a quarter of the planned length on; the items are of unequal difficulty,
    and the same ones are asked after every training, as a pilot does.
    """
    exponent = np.exp(rng.uniform(np.log(0.2), np.log(5.0)))
    ceiling = 1 - 0.4 * rng.random() ** 2
    bend = np.exp(0.5 * rng.standard_normal())
    at_planned = -np.log(rng.uniform(0.3, 0.99))
    spread = np.exp(rng.uniform(np.log(0.05), np.log(0.4)))
    items = rng.gamma(4.0, 0.25, n_items)

    def train(part, difficulties):
        fallen = max(part, 0.25) ** -exponent * (min(part, 0.25) / 0.25) ** (-exponent * bend)
        hazard = -np.log(ceiling) + at_planned * fallen
        return np.exp(-hazard * np.exp(spread * rng.standard_normal()) * difficulties)

    seen = tuple(
        Measured(part * 1e7, float((rng.random(n_items) < train(part, items)).sum()), n_items)
        for part in parts
        for _ in range(n_trainings)
    )
    if len(parts) > 1:
        seen = on_same_items(seen)
    return seen, float(train(1.0, rng.gamma(4.0, 0.25, 20_000)).mean())


@pytest.mark.parametrize(
    ("parts", "n_items", "n_trainings"),
    [
        pytest.param((1 / 16, 1 / 8, 1 / 4), 128, 1, id="pilot, 4 times as long"),
        pytest.param((1 / 32, 1 / 16, 1 / 8), 128, 1, id="pilot, 8 times as long"),
        pytest.param((1.0,), 1000, 3, id="three runs of the same length"),
        pytest.param((4.0,), 1000, 1, id="a run four times as long"),
        pytest.param((1 / 4,), 1000, 1, id="a run a quarter as long"),
    ],
)
def test_95_percent_intervals_hold_between_90_and_99_percent(parts, n_items, n_trainings):
    rng = np.random.default_rng([5, int(parts[0] * 64), n_trainings])
    held = 0
    for _ in range(N_CURVES):
        seen, truth = simulate(rng, parts, n_items, n_trainings)
        found = extrapolate(seen, 1e7)
        held += found.low <= truth <= found.high
    assert 0.90 <= held / N_CURVES <= 0.99


PILOT = (
    Measured(253_838, 1, 128),
    Measured(502_387, 1, 128),
    Measured(1_001_239, 2, 128),
    Measured(2_001_382, 12, 128),
    Measured(4_001_488, 113, 128),
)
SMALL = Measured(9_002_004, 959, 1000)
LARGE = (Measured(13_003_573, 981, 1000), Measured(13_001_980, 974, 1000))


@pytest.mark.parametrize(
    ("seen", "came"),
    [
        pytest.param(on_same_items(PILOT[2:]), SMALL, id="pilot of 4M tokens, run of 9M"),
        pytest.param((SMALL,), PILOT[4], id="run of 9M tokens, training of 4M"),
        pytest.param((SMALL,), PILOT[3], id="run of 9M tokens, training of 2M"),
        pytest.param((SMALL,), PILOT[2], id="run of 9M tokens, training of 1M"),
        pytest.param(LARGE[:1], LARGE[1], id="another seed"),
        pytest.param(LARGE[1:], LARGE[0], id="the other way round"),
    ],
)
def test_what_came_lies_in_the_interval(seen, came):
    found = extrapolate(seen, came.tokens)
    assert found.low <= came.right / came.n_items <= found.high


@pytest.fixture(scope="module")
def calibration():
    path = Path(__file__).parents[3] / "benchmarks" / "planner" / "calibration.py"
    spec = importlib.util.spec_from_file_location("accuracy_calibration", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


BLIND = TeacherProbe(
    teacher="blind", card=ModelCard("blind", 1, 1, 64, 1, 1, 64, 64, 128), prompt="", n_items=64,
    exact=wilson(0, 64), choice=wilson(0, 0), exact_by_slice={}, parsable=0.0, echoes=0.0,
    input_tokens=0, output_tokens=0, seconds=0.0, cpu_seconds=0.0, usd=0.0, n_cached=0,
)  # fmt: skip
"""A teacher that no prediction rests on."""


def of_others(student, run):
    """What a student's other recorded runs predict of one, and what its test items may show."""
    task = {"mahjong": MahjongTask, "mahjong_discard": DiscardTask}[run.task]()
    others = tuple(other for other in student.runs if other is not run)
    strategy = {kind.kind: kind() for kind in (Alignment, Injection, Supervised)}[run.strategy]
    predicted = predict(
        replace(card_of_student(student, task), runs=others), run.task, strategy, BLIND,
        task_version=task.version, tokens=run.train_tokens,
    )  # fmt: skip
    return predicted, on_items(predicted, run.n_items) if predicted.is_known else None


def test_recorded_runs_lie_where_the_others_predict_them():
    """Each is left out in turn; what its test items showed is in the interval of so many items."""
    all_runs = [(run, *of_others(s, run)) for s in shipped_students() for run in s.runs]
    known = [row for row in all_runs if row[1].is_known]
    assert len(known) >= 3
    missed = [run for run, _, shown in known if not shown.low <= run.accuracy <= shown.high]
    assert len(missed) <= 0.05 * len(known), missed
    for run, predicted, shown in known:
        # Never narrower than chance alone makes the share of so many items right; and not so wide
        # that it says nothing.
        p = predicted.mean
        chance = 2 * 1.96 * math.sqrt(p * (1 - p) / run.n_items)
        assert chance <= shown.high - shown.low < 0.2
        assert shown.low < predicted.low < predicted.high < shown.high


def test_more_right_answers_promise_more():
    means = [extrapolate(measured((1e6, right, 128)), 4e6).mean for right in range(0, 129, 8)]
    assert means == sorted(means)


def test_farther_is_less_certain():
    trainings = measured((2.5e5, 20, 128), (5e5, 50, 128), (1e6, 80, 128))
    widths = [
        found.high - found.low
        for found in (extrapolate(trainings, tokens) for tokens in (1e6, 2e6, 4e6))
    ]
    assert widths == sorted(widths)


def drawn_alike(rng, shape, accuracy):
    """Right answers of trainings, (trainings, items), to items that are hard or easy for all."""
    difficulty = rng.beta(1.0, (1 - accuracy) / accuracy, shape[1])
    return rng.random(shape) < difficulty


def test_the_best_of_several_weights_leans_less_high():
    """Eight equal weights, the best by 40 items, measured on the same items again."""
    rng, accuracy, raw, corrected = np.random.default_rng(0), 0.8, [], []
    for _ in range(300):
        shown = drawn_alike(rng, (8, 40), accuracy).mean(axis=1)
        raw.append(shown.max() - accuracy)
        corrected.append(without_optimism(shown.max(), 1.0, shown.tolist(), 40) - accuracy)
    assert np.mean(raw) > 0.04
    assert -0.01 < np.mean(corrected) < 0.55 * np.mean(raw)


def test_what_chose_nothing_is_not_corrected():
    assert without_optimism(0.8, 0.0, (0.7, 0.8), 100) == 0.8
    assert without_optimism(0.8, 1.0, (), 100) == 0.8
    assert without_optimism(0.9, 1.0, (0.1, 0.4, 0.9), 200) == pytest.approx(0.9, abs=2e-3)
    half, whole = (without_optimism(0.8, part, (0.8, 0.8), 100) for part in (0.5, 1.0))
    assert 0.8 - half == pytest.approx((0.8 - whole) / 2)
    # Of two equal ones the better is ahead of its mean by sd / sqrt(pi), and half of it counts.
    sd = math.sqrt(0.5 * 0.8 * 0.2 / 100)
    assert 0.8 - whole == pytest.approx(sd / math.sqrt(math.pi), rel=0.1)


@pytest.mark.parametrize(("n_runs", "n_items", "accuracy"), [(3, 1000, 0.98), (10, 200, 0.9)])
def test_items_that_all_runs_share_are_in_the_interval(n_runs, n_items, accuracy):
    """They are the same in every run of a task, so that more runs do not make up for them."""
    rng, inside = np.random.default_rng(1), 0
    for _ in range(24):
        right = drawn_alike(rng, (n_runs, n_items), accuracy).sum(axis=1)
        runs = on_same_items([Measured(1e6, float(k), n_items) for k in right])
        found = extrapolate(runs, 1e6)
        inside += found.low <= accuracy <= found.high
    assert inside >= 21
