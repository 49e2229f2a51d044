"""Predictions against what trainings of the embedded students really came to.

Measured on two cores of an AMD EPYC: short trainings of the 0.3M student (`plan.pilot`, validation
items), and recorded runs (1,000 test items).
"""

import importlib.util
import math
import sys
from pathlib import Path

import pytest

from stratos.plan.accuracy.learning_curve import Measured, extrapolate, on_same_items

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
    path = Path(__file__).parents[2] / "benchmarks" / "planner" / "calibration.py"
    spec = importlib.util.spec_from_file_location("accuracy_calibration", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_recorded_runs_lie_where_the_others_predict_them(calibration):
    """Each is left out in turn; what its test items showed is in the interval of so many items."""
    found = calibration.left_out()
    assert len(found) >= 3
    missed = [one for one in found if not one.is_held]
    assert len(missed) <= 0.05 * len(found), missed
    for one in found:
        # Never narrower than chance alone makes the share of so many items right; and not so wide
        # that it says nothing.
        p = one.predicted.mean
        chance = 2 * 1.96 * math.sqrt(p * (1 - p) / one.run.n_items)
        assert chance <= one.shown.high - one.shown.low < 0.2
        assert one.shown.low < one.predicted.low < one.predicted.high < one.shown.high
