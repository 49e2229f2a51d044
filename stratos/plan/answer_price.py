"""How long the answers of a probed model are, and what one costs, as requests come.

The probe asks the slices of a task in turn, so that a rare one has more of its answers than of
requests. Each slice therefore counts by its share among the rows. What differs is not told apart
where shares are not known: then the range covers requests of any one slice alone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from stratos.core.counted import counted
from stratos.core.reasons import Reason
from stratos.plan.words import SharesUnknown, SlicesNotAsked
from stratos.records import Interval, ModelCard, Probe, SliceAnswers, TeacherProbe

_SPREAD_UNKNOWN = 0.5
"""By what share the price of an answer may be off where the probe does not tell how they differ."""


def mean_tokens(probe: Probe, one: TeacherProbe) -> tuple[float, float]:
    """Return the mean tokens of a question and of an answer, each slice by its share."""
    weights = _weights(probe, one)
    if not weights:
        return one.input_tokens / one.n_items, one.output_tokens / one.n_items
    parts = [(weight, one.by_slice[name]) for name, weight in weights.items()]
    return (
        sum(weight * part.input_tokens / part.n_items for weight, part in parts),
        sum(weight * part.output_tokens / part.n_items for weight, part in parts),
    )


def price_of_answer(probe: Probe, one: TeacherProbe) -> Interval | None:
    """Return the dollars of an answer, with the error of a mean of so many; None without items."""
    if one.n_items < 1:
        return None
    whole = SliceAnswers(one.n_items, one.input_tokens, one.output_tokens, one.spread)
    mean, error = _price(one.card, whole)
    weights = _weights(probe, one)
    prices = {name: _price(one.card, part) for name, part in one.by_slice.items()}
    low, high = mean - error, mean + error
    if weights:
        mean = sum(weight * prices[name][0] for name, weight in weights.items())
        error = math.hypot(*(weight * prices[name][1] for name, weight in weights.items()))
        # A slice of which nothing was asked may cost nothing, or twice as much as the dearest.
        error += _not_asked(probe, one) * max(price for price, _ in prices.values())
        low, high = mean - error, mean + error
    elif len(prices) > 1:
        low = min(low, *(price for price, _ in prices.values()))
        high = max(high, *(price for price, _ in prices.values()))
    return Interval(mean, max(0.0, low), high, counted(one.n_items, "probe answer"))


def unweighted_slices(probe: Probe, name: str) -> Reason | None:
    """Return that the price of a hosted model does not count its slices as requests have them.

    None where it does.
    """
    probed = next((teacher for teacher in probe.teachers if teacher.teacher == name), None)
    if probed is None or len(probed.exact_by_slice) < 2:
        return None
    if share := _not_asked(probe, probed):
        return SlicesNotAsked(share)
    return None if _weights(probe, probed) else SharesUnknown(len(probed.exact_by_slice))


def _weights(probe: Probe, one: TeacherProbe) -> Mapping[str, float]:
    """Return the share of each slice among those that were asked; empty where it is not known."""
    known = {name: share for name, share in probe.shares.items() if name in one.by_slice}
    total = sum(known.values())
    return {name: share / total for name, share in known.items()} if total else {}


def _not_asked(probe: Probe, one: TeacherProbe) -> float:
    """Return the share of the slices of which nothing was asked, where shares are known."""
    if not one.by_slice:
        return 0.0
    return sum(share for name, share in probe.shares.items() if name not in one.by_slice)


def _price(card: ModelCard, of: SliceAnswers) -> tuple[float, float]:
    """Return mean dollars of some answers, and by how much the mean may be off."""
    usd_in = (card.usd_per_million_input_tokens or 0.0) / 1e6
    usd_out = (card.usd_per_million_output_tokens or 0.0) / 1e6
    mean = (usd_in * of.input_tokens + usd_out * of.output_tokens) / of.n_items
    if of.spread is None or of.n_items < 2:
        return mean, _SPREAD_UNKNOWN * mean
    deviation = usd_in * of.spread.input_tokens + usd_out * of.spread.output_tokens
    return mean, max(2 * deviation / math.sqrt(of.n_items), mean / of.n_items)
