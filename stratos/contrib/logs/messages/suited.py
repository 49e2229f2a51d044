"""The metric that fits answers."""

from __future__ import annotations

from collections import Counter
from itertools import islice

from stratos.tasks.metrics import MetricName
from stratos.tasks.objects import object_of
from stratos.tasks.table import Rows

_N_SAMPLE = 2000
_SHORT = 40
"""Characters of an answer that is short: a label, a number, a date."""
_FEW_WORDS = 2
"""Words of a short answer that no other is equal to; those with more are texts."""
_SHARE = 0.9


def suited_metric(rows: Rows) -> MetricName:
    """Return exact for answers that are short or JSON objects, nine tenths of them; else f1."""
    return suited_to([row.answer for row in islice(rows, _N_SAMPLE)])


def suited_to(answers: list[str]) -> MetricName:
    """Return the same of answers."""
    counts = Counter(answers)
    n_short = sum(
        len(one) <= _SHORT and "\n" not in one and (n > 1 or len(one.split()) <= _FEW_WORDS)
        for one, n in ((one, counts[one]) for one in answers)
    )
    n_objects = sum(one.endswith(("}", "```")) and object_of(one) is not None for one in answers)
    return "exact" if max(n_short, n_objects) >= _SHARE * len(answers) else "f1"
