"""Axes, marks and lines; curves as they were measured, with everything that was."""

from __future__ import annotations

import math

import pytest

from stratos.records import CurvePoint
from stratos.report import charts
from stratos.report.charts import (
    ACCURACY,
    LATENCY,
    LOSS,
    N_COLOURS,
    TOKENS,
    USD,
    Line,
    Mark,
    Scale,
    curve_plots,
    overlaid,
)


@pytest.mark.parametrize(
    ("quantity", "values"),
    [
        (ACCURACY, [0.897, 0.989]),
        (ACCURACY, [0.98]),
        (ACCURACY, []),
        (USD, [0.002, 48.8]),
        (USD, [2.5, 2.6]),
        (USD, [0.0, 1.0, 30.0]),
        (USD, [0.0]),
        (LATENCY, [3.0, 900.0]),
        (LOSS, [4.1, 0.0021]),
        (TOKENS, [8192, 23_000_000]),
    ],
)
def test_values_and_ticks_lie_on_the_axis_in_order(quantity, values):
    scale = Scale(quantity, values)
    places = [scale.fraction(value) for value in sorted(values)]
    assert all(0 <= at <= 1 for at in places)
    assert places == sorted(places)
    ticks = scale.ticks()
    assert 2 <= len(ticks) <= 12
    assert [at for at, _ in ticks] == sorted(at for at, _ in ticks)
    assert all(0 <= at <= 1 for at, _ in ticks)
    assert len({label for _, label in ticks}) == len(ticks)


def test_a_log_scale_is_logarithmic_and_says_its_decades():
    scale = Scale(USD, [0.1, 1.0, 10.0])
    low, middle, high = (scale.fraction(v) for v in (0.1, 1.0, 10.0))
    assert middle - low == pytest.approx(high - middle)
    assert {"$0.1", "$1", "$10"} <= {label for _, label in scale.ticks()}
    assert dict((label, at) for at, label in scale.ticks())["$1"] == pytest.approx(middle, abs=1e-4)


def test_zero_on_a_log_scale_stands_apart_at_the_left():
    scale = Scale(USD, [0.0, 0.5, 20.0])
    assert scale.fraction(0.0) < scale.fraction(0.5) - 0.05
    assert scale.ticks()[0][1] == "$0"
    assert scale.ticks()[0][0] == scale.fraction(0.0)


def test_accuracy_never_leaves_its_range():
    assert Scale(ACCURACY, [0.2, 1.0]).fraction(1.0) == 1.0
    assert Scale(ACCURACY, [0.0, 1.0]).fraction(0.0) == 0.0


def test_a_plot_places_marks_on_all_axes_and_skips_what_is_missing():
    plot = charts.plot(
        "t",
        (USD, LATENCY),
        (ACCURACY,),
        [
            Mark("one\x1b", {"usd": 1.0, "accuracy": 0.9, "latency_ms": None}),
            Mark("two", {"usd": math.nan, "accuracy": 0.5, "latency_ms": 20.0}),
        ],
        [Line([{"usd": 1.0, "accuracy": 0.1}])],
    )
    assert set(plot.axes) == {"usd", "latency_ms", "accuracy"}
    assert [set(mark["at"]) for mark in plot.marks] == [  # type: ignore[call-overload]
        {"usd", "accuracy"},
        {"accuracy", "latency_ms"},
    ]
    assert plot.marks[0]["label"] == "one␛"
    assert plot.lines[0]["at"][0]["accuracy"] < plot.marks[1]["at"]["accuracy"]  # type: ignore[index]


def test_smoothing_keeps_a_constant_and_follows_a_step():
    assert charts.smooth([2.0] * 30) == pytest.approx([2.0] * 30)
    stepped = charts.smooth([0.0] * 50 + [1.0] * 50)
    assert stepped[49] == 0
    assert 0.09 < stepped[50] < 0.11
    assert stepped[-1] > 0.99


def points(n: int = 40, rate: float | None = 0.01) -> list[CurvePoint]:
    return [
        CurvePoint(
            10 * i,
            1000 * i,
            3.0 / i,
            0.5 + i / 100 if i % 10 == 0 else None,
            2.0 / i if i % 10 == 0 else None,
            rate,
            1.0 + i,
            5000.0,
        )
        for i in range(1, n + 1)
    ]


def test_every_measurement_has_a_curve():
    plots = {plot.title: plot for plot in curve_plots(points())}
    assert list(plots) == [
        "Training loss",
        "Exact match on validation items",
        "Loss on validation items",
        "Learning rate",
        "Gradient norm before clipping",
        "Speed",
    ]
    loss = plots["Training loss"]
    assert [kind for kind, _ in loss.legend] == ["raw", "smooth"]
    assert loss.legend[0][1].startswith("as measured")
    assert "corrected for its start" in loss.legend[1][1]
    # What is pointed at is what was measured, and the smoothing is said beside it.
    assert loss.marks[0]["label"] == "loss 3" and loss.marks[0]["rows"][0][0] == "smoothed"
    assert len(plots["Loss on validation items"].marks) == 4


def test_a_quantity_that_no_point_has_is_not_drawn():
    old = [CurvePoint(i, i, 1.0) for i in range(1, 5)]
    assert [plot.title for plot in curve_plots(old)] == ["Training loss"]


def test_jobs_are_drawn_over_each_other():
    jobs = {str(i): points(20 + i) for i in range(N_COLOURS + 3)}
    exact, loss = overlaid(jobs)
    assert len(exact.lines) == len(loss.lines) == N_COLOURS
    assert exact.legend[0] == ("job-0", "job 0")
    assert overlaid({}) == ()
