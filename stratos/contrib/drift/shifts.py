"""Whether two samples of requests with answers are of one distribution.

Each statistic is compared with its values when the samples' labels are dealt anew at random. If
nothing has changed, all ways to deal them are equally likely, so that a p-value of at most p comes
with a probability of at most p, whatever the texts are like (Phipson and Smyth 2010: the dealt
labels and the real ones are counted together). k tests at α/k each alarm falsely with at most α. A
request that comes again is no new draw, and test items are distinct. So each question counts once
on either side. Turns of one conversation are no independent draws: conversations are dealt, each
with all of its turns.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import ceil, comb
from operator import attrgetter
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stratos.core.errors import StratosError
from stratos.core.formats import counted, percent
from stratos.tasks.base import Turn

Floats = np.ndarray[Any, np.dtype[np.float64]]

N_DEALT = 1999
"""Fewest random deals of the labels; with the real one the least p-value is 1/2,000."""
MOST_DEALT = 199_999
"""Most random deals, for a small α."""
_ROOM = 4
"""How far below its threshold the least p-value lies, where `MOST_DEALT` allows it."""
_AT_ONCE = 2000
"""Deals of one chunk, the real one included: 32 MB of 2,000 requests."""
MOST = 1000
"""Requests of a sample that are compared; of more a random part."""
_FEATURES = 2**12
_MOST_ANSWERS = 50
"""Different answers up to which their shares are compared."""
_SHOWN = 5


@dataclass(frozen=True)
class Response:
    """A request with its answer."""

    question: str
    answer: str
    value: str | None
    """What the task reads out of the answer; None where it reads nothing."""
    conversation: str = ""
    """Which it is a turn of; "" of what is by itself."""
    id: str = ""
    """By which it is the same as another; "" where that is the question."""

    @staticmethod
    def of_turn(turn: Turn) -> Response:
        """Return the response that a turn is."""
        return Response(turn.request, turn.answer, turn.kind, turn.conversation, turn.id)


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
    before: Sequence[Response], now: Sequence[Response], alpha: float, seed: int = 0
) -> list[Shift]:
    """Compare a sample of live requests with those of the evaluation.

    Args:
        before: of the evaluation.
        now: live.
        alpha: how often one of the tests may alarm though nothing has changed.
        seed: of what is dealt.

    Raises:
        StratosError: no deal of these samples can come to an alarm at so small an α.
    """
    rng = np.random.default_rng(seed)
    before, now = _part(distinct(before), rng), _part(distinct(now), rng)
    tests = list(_tests(before, now, [*before, *now]))
    units_before, units_now = _units(before), _units(now)
    n_before, n_now = units_before.max() + 1, units_now.max() + 1
    unit_of_request = np.append(units_before, n_before + units_now)
    n_dealt = _n_dealt(alpha, len(tests), int(n_before), int(n_now))
    first, n_as_far = np.empty(len(tests)), np.zeros(len(tests))
    for live_units in _dealt(int(n_before), int(n_now), n_dealt, rng):
        live = live_units[:, unit_of_request]
        values = np.array([test.statistic(live) for test in tests])
        if not n_as_far.any():
            first = values[:, 0]  # the real labels are as far apart as themselves
        # Rounding must not tell equal statistics apart.
        n_as_far += (values >= (first - 1e-9 * abs(first))[:, None]).sum(axis=1)
    threshold = alpha / len(tests) * (1 + 1e-9)
    return [
        Shift(test.name, test.before, test.now, p, p <= threshold)
        for test, p in zip(tests, (n_as_far / (1 + n_dealt)).tolist(), strict=True)
    ]


def distinct(sample: Sequence[Response]) -> list[Response]:
    """Return the first response to each question."""
    first: dict[str, Response] = {}
    for response in sample:
        first.setdefault(response.id or response.question, response)
    return list(first.values())


def _units(sample: Sequence[Response]) -> NDArray[np.int64]:
    """Return the number of each request's conversation, in their order."""
    numbers: dict[str, int] = {}
    names = (response.conversation or f" {k}" for k, response in enumerate(sample))
    return np.array([numbers.setdefault(name, len(numbers)) for name in names], np.int64)


def n_units(sample: Sequence[Response]) -> int:
    """Return how many conversations a sample has."""
    return len(set(_units(sample).tolist()))


def _n_dealt(alpha: float, n_tests: int, n_before: int, n_now: int) -> int:
    """Return how many random deals show p-values of at most α over the number of tests.

    Raises:
        StratosError: `MOST_DEALT` cannot, or so few requests cannot be dealt in so many ways.
    """
    n_ways = comb(n_before + n_now, n_now)
    least = n_tests / min(1 + MOST_DEALT, n_ways)
    if alpha < least * (1 - 1e-9):
        items = counted(n_before, "test item", spec=",")
        why = (
            f"{items} and {counted(n_now, 'live request', spec=',')} can be dealt in "
            f"{n_ways:,} ways only"
            if n_ways <= MOST_DEALT
            else f"{MOST_DEALT:,} random exchanges are made at most"
        )
        advice = (
            f"type --alpha {_rounded_up(least):g}, or more"
            if least < 1
            else "compare with a run that was evaluated on more items"
        )
        raise StratosError(
            f"--alpha {alpha:g} can never alarm: {why}, and {n_tests} tests share it. "
            f"{advice[0].upper()}{advice[1:]}."
        )
    return min(MOST_DEALT, max(N_DEALT, ceil(_ROOM * n_tests / alpha) - 1))


def _rounded_up(share: float) -> float:
    """Return the next share of two digits."""
    unit = 10.0 ** (np.floor(np.log10(share)) - 1)
    return float(ceil(share / unit - 1e-9) * unit)


def _dealt(n_before: int, n_now: int, n: int, rng: np.random.Generator) -> Iterator[Floats]:
    """Yield memberships (dealt, request) in chunks: the real ones first, then n random ones."""
    real = np.append(np.zeros(n_before), np.ones(n_now))
    for start in range(0, 1 + n, _AT_ONCE):
        live = np.tile(real, (min(_AT_ONCE, 1 + n - start), 1))
        is_random = slice(0 if start else 1, None)
        live[is_random] = rng.permuted(live[is_random], axis=1)
        yield live


def _part(sample: Sequence[Response], rng: np.random.Generator) -> list[Response]:
    """Return a sample, of a large one about `MOST` requests, of random conversations."""
    if len(sample) <= MOST:
        return list(sample)
    units = _units(sample)
    n_all = n_units(sample)
    n_kept = max(1, MOST * n_all // len(sample))
    is_drawn = np.isin(units, rng.choice(n_all, n_kept, replace=False))
    return [sample[i] for i in np.flatnonzero(is_drawn).tolist()]


def _tests(
    before: Sequence[Response],
    now: Sequence[Response],
    both: Sequence[Response],
) -> Iterator[_Test]:
    yield _Test(
        "words of questions", *_words(before, now), _distance([answer.question for answer in both])
    )
    for name, text in (("question", attrgetter("question")), ("answer", attrgetter("answer"))):
        sizes = [len(text(answer)) for answer in both]
        yield _Test(f"length of {name}s", _middle(before, text), _middle(now, text), _apart(sizes))
    unread = [float(answer.value is None) for answer in both]
    yield _Test("answers that cannot be read", _unread(before), _unread(now), _more(unread))
    answers = Counter(answer.value for answer in both if answer.value is not None)
    if 1 < len(answers) <= _MOST_ANSWERS:
        yield _Test(
            "shares of answers",
            _commonest(before),
            _commonest(now),
            _chi_squared([answer.value or "" for answer in both]),
        )


def _middle(sample: Sequence[Response], text: Callable[[Response], str]) -> str:
    return f"median {median(len(text(answer)) for answer in sample):,.0f} characters"


def _unread(sample: Sequence[Response]) -> str:
    return percent(sum(answer.value is None for answer in sample) / len(sample))


def _apart(sizes: Sequence[int]) -> Callable[[Floats], Floats]:
    """Return Kolmogorov's and Smirnov's largest distance of two distribution functions."""
    values = np.array(sizes)
    order = np.argsort(values, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(values[order])), len(values) - 1)
    of_all = np.arange(1, len(values) + 1)[ends]

    def statistic(live: Floats) -> Floats:
        n_live = live.sum(axis=1, keepdims=True)
        below = np.cumsum(live[:, order], axis=1)[:, ends]
        distance = below / n_live - (of_all - below) / (len(values) - n_live)
        return np.asarray(np.abs(distance).max(axis=1))

    return statistic


def _more(marks: Sequence[float]) -> Callable[[Floats], Floats]:
    """Return the share of the live requests that are marked, beside that of the others."""
    n, n_marked = len(marks), sum(marks)

    def statistic(live: Floats) -> Floats:
        n_live, of_live = live.sum(axis=1), live @ np.array(marks)
        return np.asarray(of_live / n_live - (n_marked - of_live) / (n - n_live))

    return statistic


def _chi_squared(names: Sequence[str]) -> Callable[[Floats], Floats]:
    """Return the chi-squared statistic of how often each name comes."""
    kinds, places = np.unique(names, return_inverse=True)
    of_kind = np.eye(len(kinds))[places]
    totals = of_kind.sum(axis=0)

    def statistic(live: Floats) -> Floats:
        share = live.mean(axis=1, keepdims=True)
        apart = (live @ of_kind - totals * share) ** 2 / totals
        return np.asarray(apart.sum(axis=1) / (share * (1 - share))[:, 0])

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
        n_live = live.sum(axis=1)
        c, d = 1 / n_live + 1 / (n - n_live), 1 / (n - n_live)
        of_live = live @ alike
        squares = (of_live * live).sum(axis=1)
        return np.asarray(c**2 * squares - 2 * c * d * of_live.sum(axis=1) + d**2 * alike.sum())

    return statistic


def _words(before: Sequence[Response], now: Sequence[Response]) -> tuple[str, str]:
    """Name the words whose share of questions has fallen, and has risen, most."""
    shares = []
    for sample in (before, now):
        counts = Counter(word for answer in sample for word in set(answer.question.lower().split()))
        shares.append({word: n / len(sample) for word, n in counts.items()})
    old, new = shares
    change = {word: new.get(word, 0.0) - old.get(word, 0.0) for word in old.keys() | new.keys()}
    ordered = sorted(change, key=lambda word: (change[word], word))

    def listed(words: Sequence[str], shares: dict[str, float]) -> str:
        return ", ".join(f"{word} {percent(shares.get(word, 0.0), 0)}" for word in words)

    moved = [*ordered[: _SHOWN - 2], *ordered[-(_SHOWN - 2) :]]
    return listed(moved, old), listed(moved, new)


def _commonest(sample: Sequence[Response]) -> str:
    counts = Counter(answer.value for answer in sample if answer.value is not None)
    return ", ".join(
        f"{name} {percent(n / len(sample), 0)}" for name, n in counts.most_common(_SHOWN)
    )
