"""Tests of whether two samples of requests with answers are of one distribution.

Each statistic is compared with its values when the samples' labels are dealt anew at random. If
nothing has changed, all ways to deal them are equally likely, so that a p-value of at most p comes
with a probability of at most p, whatever the texts are like (Phipson and Smyth 2010: the dealt
labels and the real ones are counted together). k tests at α/k each alarm falsely with at most α.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np

from stratos.core.formats import percent

if TYPE_CHECKING:
    Floats = np.ndarray[Any, np.dtype[np.float64]]

N_DEALT = 1999
"""Ways in which the labels are dealt; with the real one the least p-value is 1/2,000."""
MOST = 1000
"""Requests of a sample that are compared; of more a random part."""
_FEATURES = 2**12
_MOST_ANSWERS = 50
"""Different answers up to which their shares are compared."""
_SHOWN = 5


@dataclass(frozen=True)
class Asked:
    """A request with its answer."""

    question: str
    answer: str
    value: str | None
    """What the task reads out of the answer; None where it reads nothing."""


@dataclass(frozen=True)
class Shift:
    """One property of both samples."""

    name: str
    before: str
    """In the evaluation, in words."""
    now: str
    p_value: float
    is_shift: bool
    """Whether it is an alarm."""


@dataclass(frozen=True)
class _Test:
    name: str
    before: str
    now: str
    statistic: Callable[[Floats], Floats]
    """Of memberships (dealt, request), 1 for live: the larger, the more the two differ."""


def shifts(
    before: Sequence[Asked], now: Sequence[Asked], alpha: float, seed: int = 0
) -> list[Shift]:
    """Compare a sample of live requests with those of the evaluation.

    Args:
        before: of the evaluation.
        now: live.
        alpha: how often one of the tests may alarm though nothing has changed.
        seed: of what is dealt.
    """
    rng = np.random.default_rng(seed)
    before, now = _part(before, rng), _part(now, rng)
    both = [*before, *now]
    live = np.zeros((1 + N_DEALT, len(both)))
    live[:, len(before) :] = 1.0
    live[1:] = rng.permuted(live[1:], axis=1)
    tests = list(_tests(before, now, both))
    found = []
    for test in tests:
        values = test.statistic(live)
        # Rounding must not tell equal statistics apart.
        p = float((values >= values[0] - 1e-9 * abs(values[0])).mean())
        found.append(Shift(test.name, test.before, test.now, p, p <= alpha / len(tests)))
    return found


def _part(sample: Sequence[Asked], rng: np.random.Generator) -> list[Asked]:
    if len(sample) <= MOST:
        return list(sample)
    return [sample[i] for i in np.sort(rng.choice(len(sample), MOST, replace=False)).tolist()]


def _tests(before: Sequence[Asked], now: Sequence[Asked], both: Sequence[Asked]) -> Iterator[_Test]:
    yield _Test(
        "words of questions", *_words(before, now), _distance([one.question for one in both])
    )
    for name, text in (("question", _question), ("answer", _answer)):
        sizes = [len(text(one)) for one in both]
        yield _Test(f"length of {name}s", _middle(before, text), _middle(now, text), _apart(sizes))
    unread = [float(one.value is None) for one in both]
    yield _Test("answers that cannot be read", _unread(before), _unread(now), _more(unread))
    answers = Counter(one.value for one in both if one.value is not None)
    if 1 < len(answers) <= _MOST_ANSWERS:
        yield _Test(
            "shares of answers",
            _commonest(before),
            _commonest(now),
            _chi_squared([one.value or "" for one in both]),
        )


def _middle(sample: Sequence[Asked], text: Callable[[Asked], str]) -> str:
    return f"median {median(len(text(one)) for one in sample):,.0f} characters"


def _unread(sample: Sequence[Asked]) -> str:
    return percent(sum(one.value is None for one in sample) / len(sample))


def _question(one: Asked) -> str:
    return one.question


def _answer(one: Asked) -> str:
    return one.answer


def _apart(sizes: Sequence[int]) -> Callable[[Floats], Floats]:
    """Return Kolmogorov's and Smirnov's largest distance of two distribution functions."""
    values = np.array(sizes)
    order = np.argsort(values, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(values[order])), len(values) - 1)
    of_all = np.arange(1, len(values) + 1)[ends]

    def statistic(live: Floats) -> Floats:
        n_live = live[0].sum()
        below = np.cumsum(live[:, order], axis=1)[:, ends]
        distance = below / n_live - (of_all - below) / (len(values) - n_live)
        return np.asarray(np.abs(distance).max(axis=1))

    return statistic


def _more(marks: Sequence[float]) -> Callable[[Floats], Floats]:
    """Return how many of the live requests are marked."""
    return lambda live: np.asarray(live @ np.array(marks))


def _chi_squared(names: Sequence[str]) -> Callable[[Floats], Floats]:
    """Return the chi-squared statistic of how often each name comes."""
    kinds, places = np.unique(names, return_inverse=True)
    of_kind = np.eye(len(kinds))[places]
    totals = of_kind.sum(axis=0)

    def statistic(live: Floats) -> Floats:
        expected = totals * live[0].mean()
        return np.asarray(((live @ of_kind - expected) ** 2 / totals).sum(axis=1))

    return statistic


def _distance(texts: Sequence[str]) -> Callable[[Floats], Floats]:
    """Return the distance of the mean texts, each a unit vector of hashed groups of letters."""
    from sklearn.feature_extraction.text import HashingVectorizer

    made = HashingVectorizer(analyzer="char_wb", ngram_range=(3, 4), n_features=_FEATURES)
    vectors = made.transform(texts).tocsr()
    alike = np.asarray((vectors @ vectors.T).todense())
    n = len(texts)

    def statistic(live: Floats) -> Floats:
        # With sums a of the live vectors and s of all: |a / l - (s - a) / (n - l)|², from their
        # products alone.
        n_live = live[0].sum()
        c, d = 1 / n_live + 1 / (n - n_live), 1 / (n - n_live)
        of_live = live @ alike
        squares = (of_live * live).sum(axis=1)
        return np.asarray(c**2 * squares - 2 * c * d * of_live.sum(axis=1) + d**2 * alike.sum())

    return statistic


def _words(before: Sequence[Asked], now: Sequence[Asked]) -> tuple[str, str]:
    """Name the words whose share of questions has fallen, and has risen, most."""
    shares = []
    for sample in (before, now):
        counts = Counter(word for one in sample for word in set(one.question.lower().split()))
        shares.append({word: n / len(sample) for word, n in counts.items()})
    old, new = shares
    change = {word: new.get(word, 0.0) - old.get(word, 0.0) for word in old.keys() | new.keys()}
    ordered = sorted(change, key=lambda word: (change[word], word))

    def said(words: Sequence[str], shares: dict[str, float]) -> str:
        return ", ".join(f"{word} {percent(shares.get(word, 0.0), 0)}" for word in words)

    moved = [*ordered[: _SHOWN - 2], *ordered[-(_SHOWN - 2) :]]
    return said(moved, old), said(moved, new)


def _commonest(sample: Sequence[Asked]) -> str:
    counts = Counter(one.value for one in sample if one.value is not None)
    return ", ".join(
        f"{name} {percent(n / len(sample), 0)}" for name, n in counts.most_common(_SHOWN)
    )
