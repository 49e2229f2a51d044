"""Curves as they were measured, with everything that was."""

from __future__ import annotations

from stratos.records import CurvePoint
from stratos.report.charts import N_COLOURS, curve_plots, overlaid


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


def test_every_measurement_has_a_curve() -> None:
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


def test_a_quantity_that_no_point_has_is_not_drawn() -> None:
    old = [CurvePoint(i, i, 1.0) for i in range(1, 5)]
    assert [plot.title for plot in curve_plots(old)] == ["Training loss"]


def test_jobs_are_drawn_over_each_other() -> None:
    jobs = {str(i): points(20 + i) for i in range(N_COLOURS + 3)}
    exact, loss = overlaid(jobs)
    assert len(exact.lines) == len(loss.lines) == N_COLOURS
    assert exact.legend[0] == ("job-0", "job 0")
    assert overlaid({}) == ()
