"""Chart geometry: values and axes as fractions of the drawing area; and the page around charts.

Python places marks and ticks for all axes that a plot can show; the template draws the first pair,
and the page's script only looks up another pair when the reader picks it. So scales exist once.
"""

from __future__ import annotations

import base64
import hashlib
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from stratos.core import formats
from stratos.core.extensions import rooms_folder
from stratos.core.formats import visible
from stratos.records import CurvePoint, to_plain

_MARGIN = 0.05
"""Free share of an axis on either side of the data."""


@dataclass(frozen=True)
class Quantity:
    """Something that an axis can show."""

    key: str
    label: str
    write: Callable[[float], str]
    log: bool = False
    bounds: tuple[float, float] = (-math.inf, math.inf)
    """Where the quantity can lie at all; the axis never leaves this range."""


def _share(value: float) -> str:
    """Write a share with a decimal only where it has one."""
    return formats.percent(value, 0 if abs(value * 100 - round(value * 100)) < 1e-6 else 1)


def _money(value: float) -> str:
    return f"${value:,.0f}" if value >= 1000 else f"${value:g}"


def _span(hours: float) -> str:
    """Write hours in one unit, short enough for a tick."""
    for unit_hours, unit in ((24.0, "d"), (1.0, "h"), (1 / 60, "min")):
        if hours >= unit_hours * (2 if unit == "d" else 0.999):
            return f"{hours / unit_hours:.3g} {unit}"
    return f"{hours * 3600:.3g} s"


def _latency(value: float) -> str:
    return f"{value / 1000:.3g} s" if value >= 1000 else f"{value:.3g} ms"


ACCURACY = Quantity("accuracy", "accuracy", _share, bounds=(0.0, 1.0))
USD = Quantity("usd", "cost in dollars, log scale", _money, log=True, bounds=(0.0, math.inf))
HOURS = Quantity("hours", "hours until trained, log scale", _span, log=True)
RUN_HOURS = Quantity("here", "hours this run took, log scale", _span, log=True)
LATENCY = Quantity("latency_ms", "p95 latency, log scale", _latency, log=True)
BYTES = Quantity("n_bytes", "size on disk, log scale", formats.n_bytes, log=True)
ANSWER = Quantity("answer_ms", "time of one answer, log scale", _latency, log=True)
NET = Quantity("net_usd", "net cost beyond the chosen plan", formats.usd)
TOKENS = Quantity("tokens", "training tokens", formats.magnitude, bounds=(0.0, math.inf))
STEPS = Quantity("step", "gradient steps", formats.magnitude, bounds=(0.0, math.inf))
LOSS = Quantity("loss", "loss, log scale", lambda v: f"{v:.3g}", log=True)
VALIDATION_LOSS = Quantity(
    "validation_loss", "nats a token, log scale", lambda v: f"{v:.3g}", log=True
)
LEARNING_RATE = Quantity(
    "learning_rate", "learning rate", lambda v: f"{v:.2g}", bounds=(0.0, math.inf)
)
GRAD_NORM = Quantity("grad_norm", "norm, log scale", lambda v: f"{v:.3g}", log=True)
SPEED = Quantity("speed", "tokens a second", formats.magnitude, bounds=(0.0, math.inf))
EXACT = Quantity("exact", "validation exact match", _share, bounds=(0.0, 1.0))


@dataclass(frozen=True)
class Axis:
    """One quantity laid out: its label, and where its ticks stand."""

    key: str
    label: str
    ticks: tuple[tuple[float, str], ...]


@dataclass(frozen=True)
class Mark:
    """One point of a plot."""

    label: str
    values: Mapping[str, float | None]
    kind: str = "dot"
    """CSS class: dot, chosen, alternative, ..."""
    rows: tuple[tuple[str, ...], ...] = ()
    """What hovering shows below the label: name and value; a third text compares with a plan that
    the mark can be shown beside."""
    href: str = ""
    command: str = ""
    """What to type to have it carried out; shown where a mark is picked."""


@dataclass(frozen=True)
class Line:
    """Points joined by a line."""

    points: Sequence[Mapping[str, float | None]]
    kind: str = "line"


@dataclass(frozen=True)
class Plot:
    """Axes, and everything at its fraction of each of them (0 is left or bottom)."""

    title: str
    axes: dict[str, Axis]
    xs: tuple[str, ...]
    ys: tuple[str, ...]
    marks: tuple[dict[str, object], ...]
    lines: tuple[dict[str, object], ...] = field(default=())
    legend: tuple[tuple[str, str], ...] = ()
    """CSS class and meaning of each kind of line or mark."""


def plot(
    title: str,
    xs: Sequence[Quantity],
    ys: Sequence[Quantity],
    marks: Sequence[Mark],
    lines: Sequence[Line] = (),
    legend: tuple[tuple[str, str], ...] = (),
) -> Plot:
    """Lay out marks and lines on every quantity of `xs` and `ys`; the first of each is shown."""
    quantities = {quantity.key: quantity for quantity in (*xs, *ys)}
    rows = [mark.values for mark in marks] + [point for line in lines for point in line.points]
    scales = {
        key: Scale(quantity, [v for row in rows if formats.is_number(v := row.get(key))])
        for key, quantity in quantities.items()
    }

    def fractions(values: Mapping[str, float | None]) -> dict[str, float]:
        return {
            key: round(scale.fraction(value), 4)
            for key, scale in scales.items()
            if formats.is_number(value := values.get(key))
        }

    return Plot(
        title=title,
        axes={key: Axis(key, scale.quantity.label, scale.ticks()) for key, scale in scales.items()},
        xs=tuple(quantity.key for quantity in xs),
        ys=tuple(quantity.key for quantity in ys),
        marks=tuple(
            {
                "kind": mark.kind,
                "label": visible(mark.label),
                "rows": [[visible(part) for part in row] for row in mark.rows],
                "href": mark.href,
                "command": mark.command,
                "at": fractions(mark.values),
            }
            for mark in marks
        ),
        lines=tuple(
            {"kind": line.kind, "at": [fractions(point) for point in line.points]} for line in lines
        ),
        legend=tuple((kind, visible(meaning)) for kind, meaning in legend),
    )


class Scale:
    """A linear or logarithmic scale over some values, with room at both ends.

    On a log scale a value of zero (a machine that costs nothing) stands at the left end, where a
    tick names it.
    """

    def __init__(self, quantity: Quantity, values: Sequence[float]) -> None:
        """Fit the scale; without any value it spans 0 to 1."""
        self.quantity = quantity
        positive = [value for value in values if value > 0]
        self._log = quantity.log and bool(positive)
        self._has_zero = self._log and len(positive) < len(values)
        used = [math.log10(v) for v in positive] if self._log else list(values)
        low, high = (min(used), max(used)) if used else (0.0, 1.0)
        if high - low < 1e-9:
            room = 0.3 if self._log else (abs(low) * 0.1 or 0.5)
            low, high = low - room, high + room
        room = (high - low) * _MARGIN
        low, high = low - room, high + room
        if self._has_zero:
            low -= (high - low) * 0.12
        if not self._log:
            low, high = max(low, quantity.bounds[0]), min(high, quantity.bounds[1])
        self._low, self._span = low, high - low

    def fraction(self, value: float) -> float:
        """Return where a value stands: 0 at the low end, 1 at the high end."""
        if self._log:
            if value <= 0:
                return _MARGIN / 2
            value = math.log10(value)
        return min(1.0, max(0.0, (value - self._low) / self._span))

    def ticks(self) -> tuple[tuple[float, str], ...]:
        """Return round values inside the scale, with their labels."""
        values = self._log_ticks() if self._log else self._linear_ticks()
        written: dict[str, float] = {}
        for value in values:
            written.setdefault(self.quantity.write(value), round(self.fraction(value), 4))
        ticks = [(fraction, label) for label, fraction in written.items()]
        if self._has_zero:
            ticks.insert(0, (_MARGIN / 2, self.quantity.write(0.0)))
        return tuple(ticks)

    def _linear_ticks(self) -> list[float]:
        rough = self._span / 7
        power = 10.0 ** math.floor(math.log10(rough))
        step = next(power * factor for factor in (1, 2, 5, 10) if rough <= power * factor * 1.01)
        first = math.ceil(self._low / step - 1e-9)
        last = math.floor((self._low + self._span) / step + 1e-9)
        return [index * step for index in range(first, last + 1)]

    def _log_ticks(self) -> list[float]:
        low, high = self._low, self._low + self._span
        if self._has_zero:
            low += self._span * 0.1
        steps = ((4, (1,)), (2, (1, 3)), (0.9, (1, 2, 5)), (0, (1, 2, 3, 4, 6, 8)))
        factors = next(factors for decades, factors in steps if high - low > decades)
        decades = range(math.floor(low), math.ceil(high) + 1)
        ticks = [
            value
            for decade in decades
            for factor in factors
            if low <= math.log10(value := factor * 10.0**decade) <= high
        ]
        if len(ticks) >= 2:
            return ticks
        # Less than a factor of two: round values as on a linear axis.
        inner = Scale(Quantity(self.quantity.key, "", self.quantity.write), [10.0**low, 10.0**high])
        return [value for value in inner._linear_ticks() if 10.0**low <= value <= 10.0**high]


def smooth(values: Sequence[float], weight: float = 0.9) -> list[float]:
    """Return the exponential moving average, corrected for its start (Adam's bias correction)."""
    total, norm, smoothed = 0.0, 0.0, []
    for value in values:
        total = weight * total + (1 - weight) * value
        norm = weight * norm + (1 - weight)
        smoothed.append(total / norm)
    return smoothed


# Training curves of one run or several: loss, validation, learning rate, gradient, speed.

_N_CURVE = 500
"""Points that a curve is thinned to."""
_N_HOVER = 120
"""Points that say their numbers when they are pointed at."""
_XS = (TOKENS, STEPS)
_SMOOTH = "smoothed: moving average over about 10 points, corrected for its start"
N_COLOURS = 8
"""Jobs of a sweep whose curves have a colour of their own."""


def curve_plots(curve: Sequence[CurvePoint]) -> tuple[Plot, ...]:
    """Lay out what was measured of a training, as far as it was."""
    title = "Exact match on validation items"
    plots = (
        _loss(curve),
        _measured(curve, title, EXACT, lambda p: p.exact, formats.percent),
        _measured(
            curve, "Loss on validation items", VALIDATION_LOSS, lambda p: p.validation_loss, _four
        ),
        _line(curve, "Learning rate", LEARNING_RATE, lambda p: p.learning_rate),
        _line(curve, "Gradient norm before clipping", GRAD_NORM, lambda p: p.grad_norm),
        _line(curve, "Speed", SPEED, lambda p: p.tokens_per_s),
    )
    return tuple(plot for plot in plots if plot is not None)


def overlaid(curves: Mapping[str, Sequence[CurvePoint]]) -> tuple[Plot, ...]:
    """Lay the curves of several jobs over each other: validation, and smoothed training loss.

    Args:
        curves: name of a job to its curve; the first `N_COLOURS` are drawn.
    """
    points = {
        name: [point for point in curve if formats.is_number(point.loss)]
        for name, curve in list(curves.items())[:N_COLOURS]
    }
    exact = {name: _series(curve, [p.exact for p in curve]) for name, curve in points.items()}
    loss = {name: _series(curve, smooth([p.loss for p in curve])) for name, curve in points.items()}
    plots = (
        _over(exact, "Exact match on validation items", EXACT, formats.percent),
        _over(loss, "Training loss, smoothed", LOSS, _four),
    )
    return tuple(plot for plot in plots if plot is not None)


_Series = Sequence[tuple[CurvePoint, float]]
"""Points of a training, each with the value that is drawn."""


def _loss(curve: Sequence[CurvePoint]) -> Plot | None:
    points = [point for point in curve if formats.is_number(point.loss)]
    if len(points) < 2:
        return None
    smoothed = _thinned(_series(points, smooth([point.loss for point in points])))
    measured = [(point, point.loss) for point, _ in smoothed]
    marks = [
        Mark(
            label=f"loss {point.loss:.4g}",
            values=_at(point, LOSS, point.loss),
            kind="hidden",
            rows=(("smoothed", f"{value:.4g}"), *_where(point)),
        )
        for point, value in _pointed_at(smoothed)
    ]
    legend = (("raw", "as measured: mean of up to 10 steps"), ("smooth", _SMOOTH))
    lines = [_drawn(measured, LOSS, "raw"), _drawn(smoothed, LOSS)]
    return plot("Training loss", _XS, (LOSS,), marks, lines, legend)


def _measured(
    curve: Sequence[CurvePoint],
    title: str,
    quantity: Quantity,
    value: Callable[[CurvePoint], float | None],
    write: Callable[[float], str],
) -> Plot | None:
    """Lay out what was measured now and then: a line with a dot for each measurement."""
    series = _series(curve, map(value, curve))
    name = quantity.key.replace("_", " ")
    marks = _marks(series, quantity, write, "dot", f"{name} ")
    return plot(title, _XS, (quantity,), marks, [_drawn(series, quantity)]) if series else None


def _line(
    curve: Sequence[CurvePoint],
    title: str,
    quantity: Quantity,
    value: Callable[[CurvePoint], float | None],
) -> Plot | None:
    """Lay out a quantity of every point; None for fewer than two points."""
    series = _thinned(_series(curve, map(value, curve)))
    marks = _marks(_pointed_at(series), quantity, quantity.write)
    line = _drawn(series, quantity)
    return plot(title, _XS, (quantity,), marks, [line]) if len(series) > 1 else None


def _over(
    curves: Mapping[str, _Series], title: str, quantity: Quantity, write: Callable[[float], str]
) -> Plot | None:
    lines, marks, legend = [], [], []
    for number, (name, curve) in enumerate(curves.items()):
        if series := _thinned(curve):
            shown = _pointed_at(series, _N_HOVER // len(curves))
            lines.append(_drawn(series, quantity, f"job-{number}"))
            legend.append((f"job-{number}", f"job {name}"))
            marks += _marks(shown, quantity, write, prefix=f"job {name}: ")
    return plot(title, _XS, (quantity,), marks, lines, tuple(legend)) if lines else None


def _series(
    points: Sequence[CurvePoint], values: Iterable[float | None]
) -> list[tuple[CurvePoint, float]]:
    """Return the points that have a value."""
    pairs = zip(points, values, strict=True)
    return [(point, value) for point, value in pairs if formats.is_number(value)]


def _drawn(series: _Series, quantity: Quantity, kind: str = "smooth") -> Line:
    return Line([_at(point, quantity, value) for point, value in series], kind)


def _marks(
    series: _Series,
    quantity: Quantity,
    write: Callable[[float], str],
    kind: str = "hidden",
    prefix: str = "",
) -> list[Mark]:
    return [
        Mark(f"{prefix}{write(value)}", _at(point, quantity, value), kind, _where(point))
        for point, value in series
    ]


def _at(point: CurvePoint, quantity: Quantity, value: float) -> dict[str, float | None]:
    return {"tokens": point.tokens, "step": point.step, quantity.key: value}


def _where(point: CurvePoint) -> tuple[tuple[str, str], ...]:
    return (("step", formats.count(point.step)), ("tokens", formats.count(point.tokens)))


def _thinned(series: _Series) -> _Series:
    """Return evenly spaced points, the last among them."""
    return [*series[: -1 : max(1, len(series) // _N_CURVE)], *series[-1:]]


def _pointed_at(series: _Series, most: int = _N_HOVER) -> _Series:
    return series[:: max(1, len(series) // most)]


def _four(value: float) -> str:
    return f"{value:.4g}"


_FOLDER = Path(__file__).parent / "templates"
_SCRIPTS = ("page.js", "sweep.js")


def render(template: str, **values: Any) -> bytes:
    """Render a template into one self-contained page, as UTF-8.

    Every expression of a template is escaped and made visible (`formats.visible`), and the page
    carries a content security policy that allows exactly one script, by its hash: even text that
    slipped through as markup could load and run nothing.
    """
    script = "\n".join((_FOLDER / name).read_text() for name in _SCRIPTS)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    page = _environment().get_template(template).render(
        style=Markup((_FOLDER / "style.css").read_text()),
        script=Markup(script),
        policy=(
            f"default-src 'none'; script-src 'sha256-{digest}'; style-src 'unsafe-inline'; "
            "img-src data:; base-uri 'none'; form-action 'none'"
        ),
        **values,
    )  # fmt: skip
    return page.encode()


@cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        # Sections of the page that rooms add lie below `contrib`.
        loader=jinja2.FileSystemLoader([_FOLDER, rooms_folder()]),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_finalize,
    )
    environment.policies["json.dumps_kwargs"] = {}  # figures keep their order
    environment.filters.update(formats.FILTERS, plain=to_plain)
    return environment


def _finalize(value: Any) -> Any:
    if isinstance(value, Markup):
        return value
    return visible(value) if isinstance(value, str) else value
