"""Choose among the candidates of a field with a log-linear model.

p(candidate | document) is a softmax over all candidates of a field and null. The score of a
candidate adds the weights of the features of its first token, of its last token (spans only) and of
its own, so that tokens are scored once however many spans they open. All candidates whose value is
the answer are right, and training maximises their summed probability.

Training also sees noisy copies of the rows, in which whole slots of a document and half of all
words are unknown (structured dropout): evidence is spread, and an unseen layout, which has less of
it, still wins over null. Features that few layouts have are penalised more; candidates' own
features, which depend less on the layout, less.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
from scipy import sparse

from stratos.models.kinds.tagger.spans import Extraction, Options, options
from stratos.models.kinds.tagger.tagged_text import Document, Vocabulary
from stratos.tasks.readings import equal

_COPIES = 3
_DROP_ATTRIBUTE, _DROP_SLOT = 0.5, 0.3
_OWN_PENALTY, _NULL_PENALTY = 0.03, 0.1
_MOST_LAYOUTS = 40
"""Layouts that rarity is counted over."""
_MOST_STEPS = 60
NEVER = -1e9
"""Score of a null that no row shows."""


@dataclass(frozen=True)
class Ranker:
    """Weights of a field."""

    extraction: Extraction
    columns: np.ndarray
    """Numbers of the token features in use."""
    weights: np.ndarray
    """Of these for the first and the last token, shape (2, columns), float32."""
    n_features: int
    own: dict[str, float] = field(default_factory=dict)
    """Weights of candidates' own features."""
    null: float = NEVER

    @cached_property
    def _dense(self) -> np.ndarray:
        """Weights of all token features, shape (2, features)."""
        dense = np.zeros((2, self.n_features), np.float32)
        dense[:, self.columns] = self.weights
        return dense

    def distribution(
        self, document: Document, features: np.ndarray, base: Any = None
    ) -> dict[Any, float]:
        """Return the probability of each value, and of None for null.

        Args:
            document: to read.
            features: of its tokens, shape (tokens, features).
            base: value of the base field.
        """
        candidates, described = options(document, self.extraction, base)
        scores = np.array([self.null])
        if candidates:
            total = self._dense[0, features].sum(axis=1)[[c.first for c in candidates]]
            if self.extraction.reader == "text":
                total = total + self._dense[1, features].sum(axis=1)[[c.last for c in candidates]]
            own = [sum(self.own.get(name, 0.0) for name in row) for row in described]
            scores = np.append(total + own, self.null)
        mass = np.exp(scores - scores.max())
        mass /= mass.sum()
        values: dict[Any, float] = {}
        for candidate, p in zip(candidates, mass, strict=False):
            values[candidate.value] = values.get(candidate.value, 0.0) + float(p)
        if self.null > NEVER or not candidates:
            values[None] = values.get(None, 0.0) + float(mass[-1])
        return values


@dataclass(frozen=True)
class Problem:
    """Training data of a field: one line a candidate, and the rows that they belong to."""

    tokens: sparse.csr_matrix
    """Features of the tokens in use, shape (tokens, features)."""
    own: sparse.csr_matrix
    """Shape (candidates, own features)."""
    opening: np.ndarray
    """First and last token of each candidate; below, its row, and whether it is right."""
    closing: np.ndarray
    owner: np.ndarray
    right: np.ndarray
    null_right: np.ndarray
    """Whether null is right in each row."""
    weights: np.ndarray
    """Of each row."""
    is_text: bool


def loss(scores: np.ndarray, null: float, problem: Problem) -> tuple[float, np.ndarray, float]:
    """Return the summed loss, its gradient by the scores of candidates, and by that of null."""
    n, owner = len(problem.null_right), problem.owner
    peak = np.full(n, null)
    np.maximum.at(peak, owner, scores)
    mass, null_mass = np.exp(scores - peak[owner]), np.exp(null - peak)
    total = np.bincount(owner, mass, n) + null_mass
    right = np.bincount(owner, mass * problem.right, n) + null_mass * problem.null_right
    right = np.maximum(right, 1e-300)
    slope = mass * (1 / total[owner] - problem.right / right[owner]) * problem.weights[owner]
    null_slope = (null_mass * (1 / total - problem.null_right / right)) @ problem.weights
    return float((np.log(total) - np.log(right)) @ problem.weights), slope, float(null_slope)


def _solved(problem: Problem, penalty: np.ndarray) -> list[np.ndarray]:
    """Return weights of first tokens, last tokens, own features and null, by L-BFGS."""
    from scipy.optimize import minimize

    width, n_tokens = problem.tokens.shape[1], problem.tokens.shape[0]
    sizes = np.cumsum([width, width * problem.is_text, problem.own.shape[1]])
    token_columns, own_columns = problem.tokens.T.tocsr(), problem.own.T.tocsr()

    def of_tokens(tokens: np.ndarray, slope: np.ndarray) -> np.ndarray:
        summed: np.ndarray = token_columns @ np.bincount(tokens, slope, n_tokens).astype(np.float32)
        return summed

    def objective(weights: np.ndarray) -> tuple[float, np.ndarray]:
        first, last, own, null = np.split(weights.astype(np.float32), sizes)
        scores = ((problem.tokens @ first)[problem.opening] + problem.own @ own).astype(np.float64)
        if problem.is_text:
            scores = scores + (problem.tokens @ last)[problem.closing]
        value, slope, null_slope = loss(scores, float(null[0]), problem)
        parts = [of_tokens(problem.opening, slope)]
        parts += [of_tokens(problem.closing, slope)] if problem.is_text else []
        parts += [own_columns @ slope.astype(np.float32), np.array([null_slope])]
        gradient = np.concatenate(parts) / (1 + _COPIES) + penalty * weights
        return value / (1 + _COPIES) + float(weights @ (penalty * weights)) / 2, gradient

    start = np.zeros(int(sizes[-1]) + 1)
    best = minimize(objective, start, jac=True, method="L-BFGS-B", options={"maxiter": _MOST_STEPS})
    return np.split(best.x, sizes)


def _matrix(rows: Sequence[Any], n_columns: int) -> sparse.csr_matrix:
    """Return a 0/1 matrix from the column numbers of each row; column 0 stands for none."""
    lengths = np.array([len(row) for row in rows], dtype=np.int64)
    flat = np.concatenate([np.asarray(row, np.int64) for row in rows]) if len(rows) else lengths
    used = flat > 0
    owner = np.repeat(np.arange(len(rows)), lengths)[used]
    ones = np.ones(len(owner), dtype=np.float32)
    return sparse.csr_matrix((ones, (owner, flat[used])), shape=(len(rows), n_columns))


def _noisy(
    problem: Problem, token_slots: np.ndarray, attributes: np.ndarray, own_slots: np.ndarray
) -> Problem:
    """Add noisy copies of all rows.

    Args:
        problem: the rows.
        token_slots: slot of each token feature; 0 is what a token looks like.
        attributes: number of the attribute of each token feature.
        own_slots: slot of each own feature; 0 is what a span looks like.
    """
    random = np.random.default_rng(0)
    n_rows, n_tokens = len(problem.null_right), problem.tokens.shape[0]
    token_rows = np.zeros(n_tokens, dtype=np.int64)
    token_rows[problem.opening] = problem.owner
    token_rows[problem.closing] = problem.owner

    def stays(groups: np.ndarray, dropped: float) -> np.ndarray:
        """Return which groups of features each row has in a copy, shape (rows, groups)."""
        return random.random((n_rows, int(groups.max(initial=0)) + 1)) >= dropped

    def without(matrix: sparse.csr_matrix, keep: np.ndarray, cells: sparse.coo_matrix) -> Any:
        indices = (cells.row[keep], cells.col[keep])
        return sparse.csr_matrix((cells.data[keep], indices), matrix.shape)

    cells, own_cells = problem.tokens.tocoo(), problem.own.tocoo()
    rows, own_rows = token_rows[cells.row], problem.owner[own_cells.row]
    tokens, own = [problem.tokens], [problem.own]
    for _ in range(_COPIES):
        slots, own_in = stays(token_slots, _DROP_SLOT), stays(own_slots, _DROP_SLOT)
        own_in[:, 0] = slots[:, 0]
        keep = slots[rows, token_slots[cells.col]]
        keep &= stays(attributes, _DROP_ATTRIBUTE)[rows, attributes[cells.col]]
        tokens.append(without(problem.tokens, keep, cells))
        own.append(without(problem.own, own_in[own_rows, own_slots[own_cells.col]], own_cells))
    steps = np.arange(1 + _COPIES)[:, None]
    return replace(
        problem,
        tokens=sparse.vstack(tokens).tocsr(),
        own=sparse.vstack(own).tocsr(),
        opening=(problem.opening + steps * n_tokens).ravel(),
        closing=(problem.closing + steps * n_tokens).ravel(),
        owner=(problem.owner + steps * n_rows).ravel(),
        right=np.tile(problem.right, 1 + _COPIES),
        null_right=np.tile(problem.null_right, 1 + _COPIES),
        weights=np.tile(problem.weights, 1 + _COPIES),
    )


def _problem(
    extraction: Extraction,
    features: Sequence[np.ndarray],
    choices: Sequence[Options],
    answers: Sequence[Any],
    weights: np.ndarray,
    size: int,
) -> tuple[Problem, list[str], np.ndarray]:
    """Return data of the rows whose answer can be chosen, names of own features, and the rows."""
    tokens: list[np.ndarray] = []
    own: list[list[int]] = []
    opening: list[int] = []
    closing: list[int] = []
    owner: list[int] = []
    right: list[bool] = []
    rows: list[int] = []
    names: dict[str, int] = {}
    is_text = extraction.reader == "text"
    for row, (ids, choice, answer) in enumerate(zip(features, choices, answers, strict=True)):
        hits = [answer is not None and equal(c.value, answer) for c in choice.candidates]
        if not hits or (answer is not None and not any(hits)):
            continue
        lasts = [c.last if is_text else c.first for c in choice.candidates]
        spots = sorted({c.first for c in choice.candidates} | set(lasts))
        index = {token: len(tokens) + k for k, token in enumerate(spots)}
        tokens += list(ids[spots])
        own += [[names.setdefault(name, len(names) + 1) for name in r] for r in choice.features]
        opening += [index[c.first] for c in choice.candidates]
        closing += [index[last] for last in lasts]
        owner += [len(rows)] * len(hits)
        right += hits
        rows.append(row)
    problem = Problem(
        _matrix(tokens, size),
        _matrix(own, len(names) + 1),
        np.array(opening, np.int64),
        np.array(closing, np.int64),
        np.array(owner, np.int64),
        np.array(right, bool),
        np.array([answers[row] is None for row in rows], bool),
        weights[rows],
        is_text,
    )
    return problem, list(names), np.array(rows, np.int64)


def _n_layouts(problem: Problem, layouts: np.ndarray) -> np.ndarray:
    """Return in how many layouts each token feature stands; `layouts` is of each row."""
    of_token = np.zeros(problem.tokens.shape[0], dtype=np.int64)
    of_token[problem.opening] = layouts[problem.owner]
    of_token[problem.closing] = layouts[problem.owner]
    counts = np.zeros(problem.tokens.shape[1])
    for layout in np.unique(layouts):
        counts += np.asarray(problem.tokens[of_token == layout].sum(axis=0)).ravel() > 0
    return counts


def fit(
    extraction: Extraction,
    features: Sequence[np.ndarray],
    choices: Sequence[Options],
    answers: Sequence[Any],
    weights: np.ndarray,
    layouts: np.ndarray,
    vocabulary: Vocabulary,
) -> Ranker:
    """Train the ranker of a field.

    Args:
        extraction: how the field is read.
        features: of the tokens of each row, shape (tokens, features).
        choices: the candidates in each row.
        answers: the right value of each row, None for null.
        weights: how much each row counts.
        layouts: number of the layout of each row.
        vocabulary: that numbers the features.
    """
    problem, names, rows = _problem(
        extraction, features, choices, answers, weights, vocabulary.size
    )
    if not len(rows):
        nothing = np.zeros((2, 0), np.float32)
        return Ranker(extraction, np.zeros(0, np.int64), nothing, vocabulary.size, null=0.0)
    used = np.flatnonzero(np.asarray(problem.tokens.sum(axis=0)).ravel() >= 2)
    problem = replace(problem, tokens=problem.tokens[:, used].tocsr())
    layouts = layouts % _MOST_LAYOUTS
    n_layouts = np.maximum(_n_layouts(problem, layouts[rows]), 1)
    rarity = np.sqrt(np.clip(len(np.unique(layouts)) / n_layouts, 1, 20))
    # the shape of a whole span depends on the layout as its words do
    own_penalty = [1.0, *(1.0 if n.startswith("shape=") else _OWN_PENALTY for n in names)]
    penalty = [rarity, rarity if problem.is_text else rarity[:0], own_penalty, [_NULL_PENALTY]]
    slots = {"shape": 0}
    own_slots = [0, *(slots.setdefault(name.split("=")[0], len(slots)) for name in names)]
    slot, attribute = used // vocabulary.stride, used % vocabulary.stride
    noisy = _noisy(problem, slot, attribute, np.array(own_slots))
    first, last, own, null = _solved(noisy, np.concatenate(penalty))
    return Ranker(
        extraction,
        used,
        np.stack([first, last if problem.is_text else 0 * first]).astype(np.float32),
        vocabulary.size,
        {name: float(own[k]) for k, name in enumerate(names, 1) if own[k]},
        float(null[0]) if any(answer is None for answer in answers) else NEVER,
    )
