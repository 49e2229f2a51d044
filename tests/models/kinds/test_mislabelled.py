"""Rows that look mislabelled: those that are, and none where a model tells too little."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pytest

from stratos.models.kinds.cross_validation import Study
from stratos.models.kinds.features import Tfidf
from stratos.models.kinds.kind_choice import suspects

REAL = Path(__file__).parents[3].parent / "shared" / "real" / "banking77" / "train.jsonl"
N_LABELS = 4


def answered(n: int, share_wrong: float, sure: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return log-probabilities of a model that is right, labels, and which of these are wrong."""
    rng = np.random.default_rng(0)
    right = rng.integers(0, N_LABELS, n)
    is_wrong = rng.random(n) < share_wrong
    given = np.where(is_wrong, (right + rng.integers(1, N_LABELS, n)) % N_LABELS, right)
    shares = np.full((n, N_LABELS), (1 - sure) / (N_LABELS - 1))
    shares[np.arange(n), right] = sure
    return np.log(shares), given, is_wrong


def test_rows_whose_label_is_next_to_impossible_are_suspects_with_the_likelier_label() -> None:
    unseen, given, is_wrong = answered(400, 0.05, 0.98)
    found = suspects(unseen, given)
    assert set(found) == set(np.flatnonzero(is_wrong)) and len(found) > 10
    assert all(likely == unseen[row].argmax() for row, likely in found.items())


@pytest.mark.parametrize(("share_wrong", "sure"), [(0.0, 0.98), (0.05, 0.6), (0.004, 0.98)])
def test_nothing_is_said_where_it_would_be_noise(share_wrong: float, sure: float) -> None:
    unseen, given, _ = answered(400, share_wrong, sure)
    assert suspects(unseen, given) == {}


@pytest.mark.slow
@pytest.mark.parametrize("share", [0.05, 1.0])
def test_of_real_rows_with_flipped_labels_most_suspects_are_flipped(share: float) -> None:
    """A linear model on a thousand rows of 77 labels, of which it gets a quarter wrong."""
    if not REAL.is_file():
        pytest.skip("the rows are not here")
    rng = random.Random(0)
    rows = rng.sample([json.loads(line) for line in REAL.open(encoding="utf-8")], 1_000)
    texts, labels = ([row[key] for row in rows] for key in ("text", "label"))
    names = sorted(set(labels))
    flipped = set(rng.sample(range(1_000), int(1_000 * share)))
    given = [rng.choice(names) if k in flipped else label for k, label in enumerate(labels)]
    found = Study(texts, given, [Tfidf()]).suspects("linear")
    if share == 1:
        assert not found
    else:
        assert len(flipped & set(found)) >= max(0.5 * len(found), 0.5 * len(flipped))
