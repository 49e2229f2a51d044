"""Which format of a student is served: the one that was to be, unless another keeps what it breaks.

What counts under `limits.accuracy` is what is served. So a format that falls short of it gives way
to the smallest that keeps it, and the bundle's own weights come last. Where accuracy cannot tell,
the format whose texts are most often those of the evaluation is served.
"""

from __future__ import annotations

from stratos.core.context import Context
from stratos.core.errors import StratosError
from stratos.deploy.engines.base import Engine
from stratos.evaluate.format_verdict import by_text, is_open_by_text
from stratos.records import Export, Exports


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
    found = keeps[0].format if keeps else None
    why = by_text(served) if served is not None else _why(engine, exports, least_accuracy)
    if not may_change:
        typed = f"deploy.engine.format={found}" if found else "deploy=transformers"
        raise StratosError(f"{why} Serve another with {typed}.")
    by = found or "the bundle's own weights, by transformers,"
    context.warn(
        f"{why} {by} {'is' if found else 'are'} served in its place: latency and requests per "
        "second are those of the load test, not of the plan."
    )
    return found


def _keeps(accuracy: float, least: float | None) -> bool:
    return least is None or accuracy >= least


def _why(engine: Engine, exports: Exports, least: float | None) -> str:
    """Say what keeps the format from being served that was to be."""
    one = next((one for one in exports.formats if one.format == engine.served), None)
    if one is None:
        return f"{engine.served} for {engine.title} cannot be made."
    if not one.is_kept:
        return f"{engine.served} for {engine.title} loses more than deploy.max_loss_points."
    return f"{_right(one)}, which breaks limits.accuracy={least:g}."


def _right(one: Export) -> str:
    return (
        f"As {one.format} the student has {one.exact.mean:.1%} of {one.n_items:,} test items (95% "
        f"interval {one.exact.low:.1%} to {one.exact.high:.1%}), in full precision "
        f"{one.evaluated.mean:.1%}"
    )
