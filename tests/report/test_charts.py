"""Axes, marks and lines; curves as they were measured, with everything that was."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest

from stratos.records import CurvePoint, Interval, KindProbe
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
from stratos.report.frontier import sizes_plot


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


def test_what_was_tried_stands_by_size_and_time_with_what_is_served() -> None:
    interval = Interval(0.9, 0.8, 0.95)
    kinds = [
        KindProbe(name, name, interval, 0.9, 300, 0.01, 1.0, ms, 1_000, n_bytes=size)
        for name, ms, size in (("linear", 0.3, 200_000), ("static", 0.5, 900_000))
    ]
    probe: Any = SimpleNamespace(kinds=kinds)
    plan: Any = SimpleNamespace(student="static", frontier=(), alternatives={})
    part = SimpleNamespace(exact=Interval(0.93, 0.9, 0.95), n_items=100)
    score = SimpleNamespace(slice=lambda: part, n_params=80_000_000, seconds=5.0)
    scorecard: Any = SimpleNamespace(score=lambda role: score if role == "student" else None)
    served: Any = SimpleNamespace(exports=None, model_mb=0.95, latency_p50_ms=0.8)
    plot = sizes_plot(probe, plan, scorecard, served)
    assert plot is not None and (plot.xs, plot.ys) == (("n_bytes", "answer_ms"), ("accuracy",))
    assert [(mark["label"], mark["kind"]) for mark in plot.marks] == [
        ("linear", "dot"),
        ("static", "dot"),
        ("static", "chosen"),
    ]
    assert all(mark["at"].keys() == {"n_bytes", "answer_ms", "accuracy"} for mark in plot.marks)
    q4 = SimpleNamespace(format="q4_0", n_bytes=80e6, exact=interval, latency_p50_ms=20.0)
    q8 = SimpleNamespace(format="q8_0", n_bytes=140e6, exact=interval, latency_p50_ms=30.0)
    served.exports = SimpleNamespace(served="q8_0", formats=(q4, q8))
    formats = sizes_plot(None, plan, scorecard, served)
    assert formats is not None
    assert [mark["kind"] for mark in formats.marks] == ["alternative", "chosen", "alternative"]
    own = formats.marks[-1]
    assert own["label"] == "static" and ("size", "320.0 MB") in map(tuple, own["rows"])
    assert ("one answer", "50 ms") in map(tuple, own["rows"])
    assert sizes_plot(None, plan, None, None) is None
    own: Any = SimpleNamespace(kinds=kinds[1:])
    served.exports = None
    assert sizes_plot(own, plan, scorecard, served) is None, "the same student twice"
