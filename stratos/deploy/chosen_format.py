"""Which format of a student is served: the one that was to be, unless another keeps what it breaks.

What counts under `limits.accuracy` is what is served. So a format that falls short of it gives way
to the smallest that keeps it, and the bundle's own weights come last. Where accuracy cannot tell,
the format whose texts are most often those of the evaluation is served.
"""

from __future__ import annotations

from stratos.core.context import Context
from stratos.core.errors import StratosError
from stratos.core.reasons import Because, Reason
from stratos.deploy.engines.base import Engine
from stratos.deploy.words import (
    FormatBreaksLimit,
    FormatLosesTooMuch,
    FormatNotMade,
    OtherFormat,
)
from stratos.evaluate.format_verdict import by_text, is_open_by_text
from stratos.records import Exports


def chosen_format(
    engine: Engine,
    exports: Exports,
    context: Context,
    *,
    least_accuracy: float | None = None,
    may_change: bool = True,
) -> str | None:
    """Return the format to serve; None for the bundle's own weights, which transformers serves.

    Args:
        engine: names the format that was to be served.
        exports: what each format answered.
        context: takes a warning where another is served.
        least_accuracy: `limits.accuracy`.
        may_change: whether another may be served.

    Raises:
        StratosError: another one has to be served, and may not.
    """
    kept = sorted((one for one in exports.formats if one.is_kept), key=lambda one: one.n_bytes)
    keeps = [one for one in kept if _keeps(one.exact.mean, least_accuracy)]
    whole = exports.formats[0].evaluated.mean
    if not keeps and kept and not _keeps(whole, least_accuracy):
        keeps = kept  # the student itself falls short: no format mends that
    served = next((one for one in keeps if one.format == engine.served), None)
    if served is not None:
        if not (may_change and is_open_by_text(served)):
            return served.format
        # Accuracy cannot tell: the one whose texts are most often those of the evaluation.
        nearest = max(keeps, key=lambda one: (one.n_equal / one.n_items, -one.n_bytes))
        if nearest is served:
            return served.format
        keeps = [nearest]
    chosen = keeps[0].format if keeps else None
    why: Reason
    why = Because(by_text(served)) if served is not None else _why(engine, exports, least_accuracy)
    if not may_change:
        typed = f"deploy.engine.format={chosen}" if chosen else "deploy=transformers"
        raise StratosError(f"{why} Serve another with {typed}.")
    context.warn(str(OtherFormat(why, chosen or "")))
    return chosen


def _keeps(accuracy: float, least: float | None) -> bool:
    return least is None or accuracy >= least


def _why(engine: Engine, exports: Exports, least: float | None) -> Reason:
    """Return what keeps the format from being served that was to be."""
    export = next((one for one in exports.formats if one.format == engine.served), None)
    if export is None:
        return FormatNotMade(engine.served, engine.title)
    if not export.is_kept:
        return FormatLosesTooMuch(engine.served, engine.title)
    assert least is not None, "else it is served"
    return FormatBreaksLimit(export, least)
