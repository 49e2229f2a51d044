"""Whether a server keeps up with requests that come at random moments.

A server keeps up if it answers faster than requests come while all its slots are busy. So the test
takes the time in which they were, and the requests that were answered in it: their rate is the
capacity, and the rate that was asked over it the utilisation. With ten batches of such times it has
an interval (batch means). The verdict is sure when the interval lies on one side of 1.

How often it is wrong: docs/hosting.md, by benchmarks/serving/keeping_up.py.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean, stdev

LOOKS = 4
"""Times that a test looks whether it is sure, at most; it goes on in between."""
_QUANTILE = 2.46
"""Of Student's t with 9 degrees of freedom, one-sided 1.8%: 5% for four looks together (Pocock)."""
_BATCHES = 10
_LEAST_ANSWERS = 20
"""Answers with all slots busy below which their rate is not known."""
_LEAST_ROUNDS = 4
"""Requests for each slot below which a test has hardly begun to fill them."""
_IDLE_SHARE = 0.8
"""Share of the second half of a test with a slot free from which no server is overloaded: one that
is has none free once its queue has begun."""


@dataclass(frozen=True)
class KeepingUp:
    """What a test has shown."""

    keeps_up: bool
    is_sure: bool
    """False where more requests would have to tell."""
    utilisation: float | None
    """Rate that was asked, over the rate with all slots busy; None where they never were."""


def keeping_up(
    spans: Sequence[tuple[float, float]], requests_per_s: float, until: float, slots: int
) -> KeepingUp:
    """Tell whether a server keeps up with a rate.

    Args:
        spans: of each request, when it was due and when it was answered, in seconds from the begin;
            infinite for one that is not answered yet.
        requests_per_s: rate that was asked.
        until: seconds from the begin that are looked at.
        slots: answers that the server makes at once.
    """
    times, busy_share = _busy(spans, until, slots)
    utilisation = requests_per_s * fmean(times) if times else None
    keeps_up = utilisation is None or utilisation < 1
    n_due = sum(due <= until for due, _ in spans)
    if n_due < max(_LEAST_ANSWERS, _LEAST_ROUNDS * slots):
        return KeepingUp(keeps_up, False, utilisation)
    if busy_share < 1 - _IDLE_SHARE:
        return KeepingUp(True, True, utilisation)
    if len(times) < _LEAST_ANSWERS or utilisation is None:
        return KeepingUp(keeps_up, False, utilisation)
    edges = [round(i * len(times) / _BATCHES) for i in range(_BATCHES + 1)]
    means = [fmean(times[a:b]) for a, b in pairwise(edges)]
    error = requests_per_s * stdev(means) / math.sqrt(_BATCHES)
    is_sure = abs(utilisation - 1) > _QUANTILE * error
    return KeepingUp(keeps_up, is_sure, utilisation)


def _busy(
    spans: Sequence[tuple[float, float]], until: float, slots: int
) -> tuple[list[float], float]:
    """Return seconds with all slots busy, by answer, and their share of the second half."""
    events = sorted(
        [(due, 1) for due, _ in spans if due <= until]
        + [(end, -1) for _, end in spans if end <= until],
        # An answer that ends as another request is due was not waited for by that one.
        key=lambda event: (event[0], event[1]),
    )
    times: list[float] = []
    n, last, since, late_half = 0, 0.0, 0.0, 0.0
    for moment, change in [*events, (until, 0)]:
        if n >= slots:
            since += moment - last
            late_half += max(0.0, moment - max(last, until / 2))
            if change < 0:
                times.append(since)
                since = 0.0
        n, last = n + change, moment
    return times, late_half / (until / 2)
