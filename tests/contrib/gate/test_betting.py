"""The sequential test: how often it is wrong, how soon it is sure, and against adding up."""

from __future__ import annotations

import math
import random
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from stratos.contrib.gate.betting import _LEAST_BET, BettingTest, Counts, _bets, log_capital


def test_the_capital_is_that_of_betting_item_by_item() -> None:
    rng = random.Random(0)
    items = [(rng.random() < 0.7, rng.random() < 0.6) for _ in range(300)]
    counts, delta = Counts(), 0.03
    capital = {True: [1.0] * len(_bets()), False: [1.0] * len(_bets())}
    for reference, candidate in items:
        counts = counts.plus(reference, candidate)
        difference = reference - candidate - delta
        for is_worse, sign in ((True, 1), (False, -1)):
            capital[is_worse] = [
                one * (1 + sign * bet / (1 + sign * delta) * difference)
                for one, bet in zip(capital[is_worse], _bets(), strict=True)
            ]
    for is_worse, parts in capital.items():
        assert log_capital(counts, delta, is_worse=is_worse) == pytest.approx(
            math.log(sum(parts) / len(parts))
        )


def test_a_fair_game_leaves_the_capital_where_it_is_on_average() -> None:
    """Over all ways in which six items may come, at a difference of exactly delta."""
    delta = 0.1
    chances = {(True, False): 0.3, (False, True): 0.2, (True, True): 0.5}
    for is_worse in (True, False):
        mean = 0.0
        for way in product(chances, repeat=6):
            counts = Counts()
            for one in way:
                counts = counts.plus(*one)
            chance = math.prod(chances[one] for one in way)
            mean += chance * math.exp(log_capital(counts, delta, is_worse=is_worse))
        assert mean == pytest.approx(1.0)


@pytest.mark.parametrize("alike", [0.3, 0.9])
@pytest.mark.parametrize("is_worse", [True, False])
def test_false_verdicts_are_as_rare_as_is_said_wherever_it_stops(
    alike: float, is_worse: bool
) -> None:
    """At a difference of exactly delta either verdict is wrong; looked at after every item."""
    delta, alpha, n_runs, n_items = 0.05, 0.1, 2000, 400
    rng, sign = np.random.default_rng(1), 1 if is_worse else -1
    lost = (1 - alike + delta) / 2
    drawn = rng.choice([1, -1, 0], size=(n_runs, n_items), p=[lost, 1 - alike - lost, alike])
    total = np.zeros((n_runs, n_items))
    for bet in _bets():
        total += np.exp(np.cumsum(np.log1p(sign * bet / (1 + sign * delta) * (drawn - delta)), 1))
    capital = np.log(total / len(_bets()))
    for run in range(3):
        counts = Counts(*((drawn[run] == one).sum().item() for one in (1, -1, 0)))
        found = log_capital(counts, delta, is_worse=is_worse)
        assert found == pytest.approx(capital[run, -1])
    wrong = (capital.max(axis=1) >= math.log(1 / alpha)).mean()
    assert wrong <= alpha + 2.5 * math.sqrt(alpha * (1 - alpha) / n_runs)


def test_a_large_loss_is_seen_early_and_equal_students_pass() -> None:
    test = BettingTest(0.02, 0.05)
    counts, n = Counts(), 0
    while test.outcome(counts) == "cannot tell":
        n += 1
        counts = counts.plus(True, n % 3 > 0)  # a third of the items lost
    assert test.outcome(counts) == "worse" and n < 40
    n = test.n_if_alike()
    assert test.outcome(Counts(alike=n)) == "no worse"
    assert test.outcome(Counts(alike=n - 1)) == "cannot tell"
    assert n < 2 * math.log(20) / 0.02


def test_few_items_pass_nobody_who_is_worse_and_say_how_many_would_tell() -> None:
    """75 items and a student 10 points worse: it passed in 83 of 100 while open was a pass."""
    rng, test, outcomes = np.random.default_rng(3), BettingTest(0.02, 0.05), list[str]()
    for _ in range(300):
        counts = Counts(*rng.multinomial(75, [0.15, 0.05, 0.8]).tolist())
        outcomes.append(test.outcome(counts))
        if outcomes[-1] == "cannot tell" and (needed := test.n_needed(counts)) is not None:
            assert needed > 75
            assert test.outcome(counts.scaled(needed)) != "cannot tell"
    assert outcomes.count("no worse") == 0 and outcomes.count("cannot tell") > 200
    assert test.n_needed(Counts(2, 0, 98)) is None, "it is worse by just delta"
    expected = test.n_needed(Counts(15, 5, 80))
    assert expected is not None
    told = [
        test.outcome(Counts(*rng.multinomial(2 * expected, [0.15, 0.05, 0.8]).tolist()))
        for _ in range(300)
    ]
    assert told.count("worse") > 250, "twice as many as are said are mostly enough"


def test_bets_leave_no_item_with_less_than_nothing() -> None:
    assert max(_bets()) < 1 and min(_bets()) == pytest.approx(_LEAST_BET)
    for delta in (0.0, 0.5, 0.99):
        assert math.isfinite(log_capital(Counts(50, 50, 50), delta, is_worse=True))
        assert math.isfinite(log_capital(Counts(50, 50, 50), delta, is_worse=False))


def test_the_docs_say_how_many_items_that_are_alike_are_enough() -> None:
    text = (Path(__file__).parents[3] / "docs" / "contrib" / "gate.md").read_text()
    n = BettingTest(0.02, 0.05).n_if_alike()
    assert f"{n} items\nthat both answer alike" in text
    assert f"over {len(_bets())} sizes of the bet" in text
