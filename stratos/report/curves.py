"""Training curves of one run or several: loss, validation, learning rate, gradient, speed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from stratos.core import formats
from stratos.records import CurvePoint
from stratos.report import charts

_N_CURVE = 500
"""Points that a curve is thinned to."""
_N_HOVER = 120
"""Points that say their numbers when they are pointed at."""
_XS = (charts.TOKENS, charts.STEPS)
_SMOOTH = "smoothed: moving average over about 10 points, corrected for its start"
N_COLOURS = 8
"""Jobs of a sweep whose curves have a colour of their own."""


def curve_plots(curve: Sequence[CurvePoint]) -> tuple[charts.Plot, ...]:
    """Lay out what was measured of a training, as far as it was."""
    plots = (
        _loss(curve),
        _measured(
            curve,
            "Exact match on validation items",
            charts.EXACT,
            lambda p: p.exact,
            formats.percent,
        ),
        _measured(
            curve,
            "Loss on validation items",
            charts.VALIDATION_LOSS,
            lambda p: p.validation_loss,
            _four,
        ),
        _line(curve, "Learning rate", charts.LEARNING_RATE, lambda p: p.learning_rate),
        _line(curve, "Gradient norm before clipping", charts.GRAD_NORM, lambda p: p.grad_norm),
        _line(curve, "Speed", charts.SPEED, lambda p: p.tokens_per_s),
    )
    return tuple(plot for plot in plots if plot is not None)


def overlaid(
    curves: Mapping[str, Sequence[CurvePoint]],
) -> tuple[charts.Plot, ...]:
    """Lay the curves of several jobs over each other: validation, and smoothed training loss.

    Args:
        curves: name of a job to its curve; the first `N_COLOURS` are drawn.
    """
    drawn = dict(list(curves.items())[:N_COLOURS])
    plots = (
        _over(
            drawn,
            "Exact match on validation items",
            charts.EXACT,
            lambda points: [p.exact for p in points],
            formats.percent,
        ),
        _over(
            drawn,
            "Training loss, smoothed",
            charts.LOSS,
            lambda points: charts.smooth([p.loss for p in points]),
            _four,
        ),
    )
    return tuple(plot for plot in plots if plot is not None)


def _loss(curve: Sequence[CurvePoint]) -> charts.Plot | None:
    points = [point for point in curve if formats.is_number(point.loss)]
    if len(points) < 2:
        return None
    smoothed = charts.smooth([point.loss for point in points])
    kept = _thinned(len(points), _N_CURVE)
    lines = [
        charts.Line([_at(points[i], "loss", points[i].loss) for i in kept], "raw"),
        charts.Line([_at(points[i], "loss", smoothed[i]) for i in kept], "smooth"),
    ]
    marks = [
        charts.Mark(
            label=f"loss {points[i].loss:.4g}",
            values=_at(points[i], "loss", points[i].loss),
            kind="hidden",
            rows=(("smoothed", f"{smoothed[i]:.4g}"), *_where(points[i])),
        )
        for i in kept[:: max(1, len(kept) // _N_HOVER)]
    ]
    legend = (("raw", "as measured: mean of up to 10 steps"), ("smooth", _SMOOTH))
    return charts.plot("Training loss", _XS, (charts.LOSS,), marks, lines, legend)


def _measured(
    curve: Sequence[CurvePoint],
    title: str,
    quantity: charts.Quantity,
    value: Callable[[CurvePoint], float | None],
    write: Callable[[float], str],
) -> charts.Plot | None:
    """Lay out what was measured now and then: a line with a dot for each measurement."""
    found = [(point, one) for point in curve if formats.is_number(one := value(point))]
    if not found:
        return None
    at = [_at(point, quantity.key, one) for point, one in found]
    marks = [
        charts.Mark(f"{quantity.key.replace('_', ' ')} {write(one)}", here, "dot", _where(point))
        for (point, one), here in zip(found, at, strict=True)
    ]
    return charts.plot(title, _XS, (quantity,), marks, [charts.Line(at, "smooth")])


def _line(
    curve: Sequence[CurvePoint],
    title: str,
    quantity: charts.Quantity,
    value: Callable[[CurvePoint], float | None],
) -> charts.Plot | None:
    """Lay out a quantity of every point; None for fewer than two points."""
    found = [(point, one) for point in curve if formats.is_number(one := value(point))]
    if len(found) < 2:
        return None
    kept = [found[i] for i in _thinned(len(found), _N_CURVE)]
    marks = [
        charts.Mark(quantity.write(one), _at(point, quantity.key, one), "hidden", _where(point))
        for point, one in kept[:: max(1, len(kept) // _N_HOVER)]
    ]
    line = charts.Line([_at(point, quantity.key, one) for point, one in kept], "smooth")
    return charts.plot(title, _XS, (quantity,), marks, [line])


def _over(
    curves: Mapping[str, Sequence[CurvePoint]],
    title: str,
    quantity: charts.Quantity,
    values: Callable[[Sequence[CurvePoint]], Sequence[float | None]],
    write: Callable[[float], str],
) -> charts.Plot | None:
    lines, marks, legend = [], [], []
    for number, (name, curve) in enumerate(curves.items()):
        points = [point for point in curve if formats.is_number(point.loss)]
        pairs = zip(points, values(points), strict=True)
        found = [(point, one) for point, one in pairs if formats.is_number(one)]
        if not found:
            continue
        kept = [found[i] for i in _thinned(len(found), _N_CURVE)]
        lines.append(
            charts.Line([_at(point, quantity.key, one) for point, one in kept], f"job-{number}")
        )
        legend.append((f"job-{number}", f"job {name}"))
        marks += [
            charts.Mark(
                f"job {name}: {write(one)}",
                _at(point, quantity.key, one),
                "hidden",
                _where(point),
            )
            for point, one in kept[:: max(1, len(kept) // (_N_HOVER // max(1, len(curves))))]
        ]
    if not lines:
        return None
    return charts.plot(title, _XS, (quantity,), marks, lines, tuple(legend))


def _at(point: CurvePoint, key: str, value: float) -> dict[str, float | None]:
    return {"tokens": point.tokens, "step": point.step, key: value}


def _where(point: CurvePoint) -> tuple[tuple[str, str], ...]:
    return (("step", formats.count(point.step)), ("tokens", formats.count(point.tokens)))


def _thinned(n: int, most: int) -> list[int]:
    """Return evenly spaced places of `n`, the last among them."""
    return sorted({*range(0, n, max(1, n // most)), n - 1})


def _four(value: float) -> str:
    return f"{value:.4g}"
