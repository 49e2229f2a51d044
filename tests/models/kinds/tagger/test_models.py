"""The two models against brute force, and their gradients against differences."""

import itertools

import numpy as np
import pytest
from scipy.optimize import check_grad
from scipy.sparse import csr_matrix

from stratos.models.kinds.tagger import chain, rank


def test_the_chain_agrees_with_a_sum_over_all_paths():
    source = np.random.default_rng(0)
    scores, moves = source.normal(size=(4, 3)), source.normal(size=(3, 3))
    paths = {
        path: sum(scores[t, y] for t, y in enumerate(path))
        + sum(moves[a, b] for a, b in itertools.pairwise(path))
        for path in itertools.product(range(3), repeat=4)
    }
    log_z, marginals, pairs = chain.expectations(scores[None], moves, np.ones(1))
    assert log_z == pytest.approx(np.logaddexp.reduce(list(paths.values())))
    mass = {path: np.exp(score - log_z) for path, score in paths.items()}
    assert marginals[0, 2, 1] == pytest.approx(sum(p for path, p in mass.items() if path[2] == 1))
    expected = sum(p * list(itertools.pairwise(path)).count((0, 1)) for path, p in mass.items())
    assert pairs[0, 1] == pytest.approx(expected)
    path, best = chain.viterbi(scores, moves)
    assert tuple(path) == max(paths, key=paths.__getitem__)
    assert best == pytest.approx(max(paths.values()))


def test_the_chain_learns_what_its_weighted_rows_say():
    features = [np.array([[1], [2]]), np.array([[1], [2]])]
    targets = [["A", "O"], ["O", "A"]]
    for weights, expected in (([9.0, 1.0], "AO"), ([1.0, 9.0], "OA")):
        labels, certain, p = chain.fit(features, targets, np.array(weights)).decode(features[0])
        assert "".join(labels) == expected
        assert 0 < p <= 1
        assert certain.shape == (2,)


def test_the_gradient_of_the_ranker_is_that_of_its_loss():
    source = np.random.default_rng(0)
    owner = np.array([0, 0, 0, 1, 1])
    right = np.array([True, False, True, False, False])
    none, weights = csr_matrix((5, 1)), np.array([1.0, 2.5])
    null_right = np.array([False, True])
    problem = rank.Problem(none, none, owner, owner, owner, right, null_right, weights, False)
    error = check_grad(
        lambda w: rank.loss(w[:5], w[5], problem)[0],
        lambda w: np.append(*rank.loss(w[:5], w[5], problem)[1:]),
        source.normal(size=6),
    )
    assert error < 1e-5
