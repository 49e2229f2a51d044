"""Which kind suits the rows: each is cross-validated on the same folds, and the choice is honest.

All kinds are mixtures of the same few blocks, so that each block is fitted once a fold, whatever
the number of kinds. The accuracy of the chosen one is estimated by bootstrap bias-corrected
cross-validation (Tsamardinos, Greasidou, Borboudakis 2018): the kind is chosen again on each
resample of the rows and scored on the rows that the resample left out, so that the optimism of a
choice among several is not reported as accuracy.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from stratos.models.kinds.classifier import (
    Classifier,
    Head,
    fit_head,
    joined,
    mix,
    mixing_weights,
)
from stratos.models.kinds.features import Features, Matrix
from stratos.models.kinds.row_space import RowSpace
from stratos.models.kinds.suits import TUNED
from stratos.tasks.near_duplicates import Alike

KINDS: dict[str, tuple[str, ...]] = {
    "linear": ("tfidf",),
    "static": ("static", "tfidf"),
    "encoder": ("encoder", "tfidf"),
    TUNED: ("tuned", "tfidf"),
}
"""Blocks of each kind, the cheapest kind first. TF-IDF stands beside vectors in each: where it says
nothing its weight in the mixture falls to 0."""
_FIRST_STRENGTH, _STEP, _MOST_MOVES = 10.0, 10**0.5, 4
"""Where the search for the inverse strength of the L2 penalty of a head begins, the factor between
neighbours, and how often it moves on."""
_N_FOLDS, _MOST_CROSSED, _N_HELD_OUT = 5, 4_000, 2_000
"""Above so many rows with a gold label, one fold of about so many is held out instead of all."""
_PRIOR_GAIN = {"linear": 0.0, "static": 0.02, "encoder": 0.06, TUNED: 0.06}
_PRIOR_ROWS = 150
"""How far each kind is ahead of `linear` before a row of the task has been read, and how many rows
that knowledge is worth where half of the answers are right. On 50 rows the accuracies of kinds
differ by chance more than by nature: to choose by them alone lost 2.4 points to the best kind on
training rows of public sets, with such a prior 0.4. From 1,000 rows on it decides near-ties only.
"""
_MOST_BINS, _ROWS_A_BIN = 15, 40
"""Bins of a calibration error, and rows that there are for each on average."""
_N_RESAMPLES = 200
"""Resamples of the bias-corrected estimate."""


@dataclass(frozen=True)
class KindScore:
    """What cross-validation found of one kind."""

    kind: str
    accuracy: float
    """Share of rows that a model answers right which has not seen them."""
    nll: float
    """Their mean negative log-likelihood in nats, after calibration on other rows."""
    calibration_error: float
    """Expected calibration error (15 bins of equal width)."""
    right: np.ndarray
    """Whether each held-out row was answered right, shape (rows,)."""


@dataclass(frozen=True)
class Choice:
    """The chosen kind, and what all reached."""

    kind: str
    accuracy: float
    """Of the chosen kind, without the optimism of the choice."""
    low: float
    high: float
    """95% interval of it."""
    scores: tuple[KindScore, ...]
    behind: tuple[float, ...]
    """By how much the accuracy of each of the scores is behind that of the chosen one, in shares,
    with what is known of kinds before a row is read."""
    n_rows: int
    """Rows that were held out and scored."""
    n_independent: float
    """How many independent rows these are worth, which intervals count."""
    cpu_seconds: float


@dataclass(frozen=True)
class _View:
    """A group of features under cross-validation."""

    strength: float
    unseen: np.ndarray
    """Log-probabilities of held-out rows by heads that have not seen them, (rows, labels)."""


class Study:
    """Rows and blocks under cross-validation.

    Args:
        texts: of the rows. A row with soft labels is given once a label, weighted by probability.
        answers: their labels.
        blocks: that kinds may use; a kind that lacks a block is left out.
        seed: of folds and resamples.
        tick: called before each fit.
        row_weights: how much each row counts in training, shape (rows,); 1 where None.
        is_gold: whether each label is trusted, shape (rows,); all are where None. Only these rows
            are held out and scored.
    """

    def __init__(
        self,
        texts: Sequence[str],
        answers: Sequence[str],
        blocks: Sequence[Features],
        seed: int = 0,
        tick: Callable[[], None] = lambda: None,
        row_weights: np.ndarray | None = None,
        is_gold: np.ndarray | None = None,
    ) -> None:
        self._texts, self._seed, self._tick = list(texts), seed, tick
        self.labels = tuple(sorted(set(answers)))
        numbers = {label: k for k, label in enumerate(self.labels)}
        self._answers = np.array([numbers[answer] for answer in answers])
        self._weights = row_weights
        self._blocks = {block.name: block for block in blocks}
        self._fixed: dict[str, Matrix] = {}
        self._views: dict[str, list[_View]] = {}
        gold = np.ones(len(self._texts), bool) if is_gold is None else np.asarray(is_gold, bool)
        if not gold.any():
            raise ValueError("Without a row whose label is gold, nothing can be scored.")
        self._is_gold = gold
        self._folds = folds_of(self._texts, self._answers, gold, seed)
        self._held = np.flatnonzero(self._folds >= 0)
        # A label with one row is unknown where that row is held out: no head could be right.
        counts = np.bincount(self._answers, minlength=len(self.labels))
        self._can_be_right = counts[self._answers[self._held]] > 1
        single = 1 - float(self._can_be_right.mean())
        # Good's estimate (1953) of what is still unseen; rows that show each label once are chosen.
        self._unseen_share = single if single < 1 else 0.0
        self._scores: dict[str, KindScore] = {}
        self._tunes = False

    @property
    def n_rows(self) -> int:
        """Rows that there are."""
        return len(self._texts)

    @property
    def kinds(self) -> list[str]:
        """Names of the kinds whose blocks are there, the cheapest first.

        The one that takes minutes is among them after `tune`.
        """
        here = [kind for kind, blocks in KINDS.items() if set(blocks) <= set(self._blocks)]
        return [kind for kind in here if kind != TUNED or self._tunes]

    @property
    def n_trainings(self) -> float:
        """Trainings on all rows that cross-validating and fitting a kind takes as long as."""
        return 1 + sum(float((self._folds != k).mean()) for k in np.unique(self._folds[self._held]))

    def tune(self) -> None:
        """Let the tuned kind be chosen, too."""
        self._tunes = True

    def choose(self, kinds: Sequence[str] | None = None) -> Choice:
        """Cross-validate kinds and choose by accuracy and prior knowledge; ties: the cheaper.

        Args:
            kinds: to choose among; all whose blocks are there where None.
        """
        began = time.process_time()
        scores = [self.score(kind) for kind in self.kinds if kinds is None or kind in kinds]
        right = np.stack([score.right for score in scores])
        ahead = _ahead([score.kind for score in scores], right)
        totals = right.sum(axis=1) + ahead
        best = int(totals.argmax())
        mean = _without_optimism(right, ahead, self._seed)
        n = self._n_independent()
        low, high = _wilson(mean, n)
        return Choice(
            scores[best].kind,
            mean,
            low,
            high,
            tuple(scores),
            tuple(((totals[best] - totals) / len(self._held)).tolist()),
            len(self._held),
            n,
            time.process_time() - began,
        )

    def score(self, kind: str) -> KindScore:
        """Return the score of a kind; its mixing weights come from other rows, as its heads do."""
        if kind not in self._scores:
            parts, answers = self._unseen(kind), self._answers[self._held]
            mixed = np.zeros_like(parts[0])
            order = np.random.default_rng(self._seed).permutation(len(answers))
            for held in np.array_split(order, _N_FOLDS):
                weights = self._mixing_weights(parts, np.setdiff1d(order, held))
                mixed[held] = mix([part[held] for part in parts], weights)
            right = mixed.argmax(axis=1) == answers
            self._scores[kind] = KindScore(
                kind,
                float(right.mean()),
                float(-mixed[np.arange(len(answers)), answers].mean()),
                calibration_error(np.exp(mixed.max(axis=1)) * (1 - self._unseen_share), right),
                right,
            )
        return self._scores[kind]

    def fit(self, kind: str) -> Classifier:
        """Return the kind fitted on all rows, mixed and calibrated on held-out rows."""
        strengths = {name: [v.strength for v in self._study(name)] for name in KINDS[kind]}
        return self._assembled(kind, strengths, self._mixing_weights(self._unseen(kind)))

    def fit_with(self, kind: str, texts: Sequence[str], answers: Sequence[str]) -> Classifier:
        """Return the kind fitted on these rows and more; strengths and mixture stay.

        Args:
            kind: one of `KINDS`.
            texts: of further rows, whose labels are gold.
            answers: their labels.
        """
        weights = self._all_weights()
        if weights is not None:
            weights = np.concatenate([weights, np.ones(len(texts))])
        labels = [self.labels[k] for k in self._answers]
        grown = Study(
            [*self._texts, *texts],
            [*labels, *answers],
            tuple(self._blocks.values()),
            self._seed,
            self._tick,
            weights,
            np.concatenate([self._is_gold, np.ones(len(texts), bool)]),
        )
        strengths = {name: [v.strength for v in self._study(name)] for name in KINDS[kind]}
        return grown._assembled(kind, strengths, self._mixing_weights(self._unseen(kind)))

    def _all_weights(self) -> np.ndarray | None:
        """Return the weights with which a student learns all rows."""
        return self._weights

    def _assembled(
        self, kind: str, strengths: Mapping[str, Sequence[float]], weights: np.ndarray
    ) -> Classifier:
        blocks, heads, totals = [], [], []
        for name in KINDS[kind]:
            every = np.arange(len(self._texts))
            block, fitted = self._fit_views(name, every, strengths[name])
            shares, weights = weights[: len(fitted)], weights[len(fitted) :]
            head, total = joined(fitted, shares)
            blocks.append(block)
            heads.append(head)
            totals.append(total)
        return Classifier(
            self.labels, tuple(blocks), tuple(heads), np.array(totals), self._unseen_share
        )

    def right_of_share(self, kind: str, share: float) -> tuple[float, np.ndarray]:
        """Return what a kind would reach with a part of the rows, by the same folds.

        Args:
            kind: with the strengths and weights that all rows chose.
            share: of the training rows of each fold.

        Returns:
            How many rows it learns from on average, and whether each held-out row is right.
        """
        random, sizes = np.random.default_rng(self._seed), []
        right = np.zeros(len(self._held), bool)
        weights = self._mixing_weights(self._unseen(kind))
        for fold in np.unique(self._folds[self._held]):
            learnt = np.flatnonzero(self._folds != fold)
            learnt = np.sort(random.permutation(learnt)[: max(1, round(share * len(learnt)))])
            held = np.flatnonzero(self._folds == fold)
            parts = []
            for name in KINDS[kind]:
                strengths = [view.strength for view in self._study(name)]
                block, heads = self._fit_views(name, learnt, strengths)
                views = block.views(self._features(block, held))
                parts += [h.log_probabilities(v) for h, v in zip(heads, views, strict=True)]
            is_right = mix(parts, weights).argmax(axis=1) == self._answers[held]
            right[np.searchsorted(self._held, held)] = is_right
            sizes.append(len(learnt))
        return float(np.mean(sizes)), right

    def _n_independent(self) -> float:
        """Return how many independent rows the held-out ones are worth.

        Models of different folds learn from mostly the same rows, so that their errors go together
        (the corrected variance of Nadeau and Bengio 2003).
        """
        n_folds = len(np.unique(self._folds[self._held]))
        held = len(self._held) / n_folds
        return len(self._held) / (1 + n_folds * held / max(1.0, self.n_rows - held))

    def _unseen(self, kind: str) -> list[np.ndarray]:
        return [view.unseen for name in KINDS[kind] for view in self._study(name)]

    def _mixing_weights(
        self, parts: Sequence[np.ndarray], rows: np.ndarray | None = None
    ) -> np.ndarray:
        """Return the weights that suit the held-out rows, or some of them."""
        some = np.flatnonzero(self._can_be_right)
        some = some if rows is None else np.intersect1d(some, rows)
        return mixing_weights([part[some] for part in parts], self._answers[self._held[some]])

    def _study(self, name: str) -> list[_View]:
        """Cross-validate the heads of a block's views, once."""
        if name not in self._views:
            folds = []
            for fold in np.unique(self._folds[self._held]):
                learnt = np.flatnonzero(self._folds != fold)
                held = np.flatnonzero(self._folds == fold)
                block = self._fitted(name, learnt)
                known, new = self._features(block, learnt), self._features(block, held)
                if span := RowSpace.of(known):
                    known, new = span.coordinates, span.transform(new)
                folds.append((learnt, held, block.views(known), block.views(new)))
            n_views = len(folds[0][2])
            self._views[name] = [
                self._best_strength([(a, b, known[k], new[k]) for a, b, known, new in folds])
                for k in range(n_views)
            ]
        return self._views[name]

    def _best_strength(self, folds: list[tuple[np.ndarray, np.ndarray, Matrix, Matrix]]) -> _View:
        """Climb from strength to strength while the likelihood of held-out rows grows.

        Args:
            folds: numbers of the rows learnt from and held out, and their features.
        """
        heads: list[Head | None] = [None] * len(folds)
        answers = self._answers[self._held]

        def at(strength: float) -> tuple[float, _View]:
            unseen = np.zeros((len(self._held), len(self.labels)), np.float32)
            for k, (learnt, held, known, new) in enumerate(folds):
                head = heads[k] = self._fit(known, learnt, strength, heads[k])
                unseen[np.searchsorted(self._held, held)] = head.log_probabilities(new)
            mixed = mix([unseen], self._mixing_weights([unseen]))
            losses = -mixed[np.arange(len(answers)), answers]
            loss = float(losses[self._can_be_right].sum())
            return loss, _View(strength, unseen)

        best = at(_FIRST_STRENGTH)
        for step in (1 / _STEP, _STEP):
            moved = False
            for _ in range(_MOST_MOVES):
                tried = at(best[1].strength * step)
                if tried[0] >= best[0]:
                    break
                best, moved = tried, True
            if moved:
                break
        return best[1]

    def _fit(
        self, features: Matrix, rows: np.ndarray, strength: float, start: Head | None = None
    ) -> Head:
        self._tick()
        weights = None if self._weights is None else self._weights[rows]
        return fit_head(
            features, self._answers[rows], len(self.labels), strength, weights, start=start
        )

    def _fit_views(
        self, name: str, rows: np.ndarray, strengths: Sequence[float]
    ) -> tuple[Features, list[Head]]:
        """Return a block fitted on rows, and a head for each of its views."""
        block = self._fitted(name, rows)
        features = self._features(block, rows)
        if span := RowSpace.of(features):
            [strength] = strengths
            return block, [span.head(self._fit(span.coordinates, rows, strength))]
        views = zip(block.views(features), strengths, strict=True)
        return block, [self._fit(view, rows, strength) for view, strength in views]

    def _fitted(self, name: str, rows: np.ndarray) -> Features:
        block = self._blocks[name]
        if not block.is_fitted:
            return block
        self._tick()
        if block.learns_labels:  # of what a teacher says, heads are to learn, and no layer
            rows = rows[self._is_gold[rows]]
        return block.fitted([self._texts[k] for k in rows], self._answers[rows].tolist())

    def _features(self, block: Features, rows: np.ndarray) -> Matrix:
        if block.is_fitted:
            return block.transform([self._texts[k] for k in rows])
        if block.name not in self._fixed:
            self._fixed[block.name] = block.transform(self._texts)
        return self._fixed[block.name][rows]


def folds_of(
    texts: Sequence[str], answers: np.ndarray, is_gold: np.ndarray, seed: int
) -> np.ndarray:
    """Return the fold of each row, -1 where it is only learnt from.

    The rows of a label are spread evenly over folds; near duplicates are of one fold, as they are
    of one split.
    """
    random = np.random.default_rng(seed)
    folds = np.full(len(answers), -1)
    n_gold = int(is_gold.sum())
    n_folds = max(_N_FOLDS, n_gold // _N_HELD_OUT)
    offset = 0
    for label in np.unique(answers[is_gold]):
        rows = random.permutation(np.flatnonzero((answers == label) & is_gold))
        folds[rows] = (np.arange(len(rows)) + offset) % n_folds
        offset += len(rows)
    alike = Alike()
    for text in texts:
        alike.add(text)
    apart, first = folds.copy(), dict[int, int]()
    for row, group in enumerate(alike.keys().tolist()):
        if is_gold[row]:
            folds[row] = first.setdefault(group, folds[row])
    if len(np.unique(folds[is_gold])) < min(n_folds, n_gold):
        folds = apart  # nearly all rows are alike, and some fold would be empty
    if n_gold > _MOST_CROSSED:
        folds[folds > 0] = -1
    return folds


def _ahead(kinds: Sequence[str], right: np.ndarray) -> np.ndarray:
    """Return the right answers that the prior gives each kind, shape (kinds,).

    They are fewer where an answer tells more: where nearly all are right, or none.
    """
    best = float(right.mean(axis=1).max())
    gains = np.array([_PRIOR_GAIN[kind] for kind in kinds])
    return gains * _PRIOR_ROWS * 4 * best * (1 - best)


def _without_optimism(right: np.ndarray, ahead: np.ndarray, seed: int) -> float:
    """Return the accuracy of a choice, by choosing again on resamples.

    Args:
        right: whether each kind is right on each row, shape (kinds, rows).
        ahead: right answers that the prior gives each kind.
        seed: of the resamples.
    """
    random = np.random.default_rng(seed)
    n = right.shape[1]
    means = []
    for _ in range(_N_RESAMPLES):
        drawn = random.integers(0, n, n)
        out = np.setdiff1d(np.arange(n), drawn)
        chosen = (right[:, drawn].sum(axis=1) + ahead).argmax()
        if len(out):
            means.append(right[chosen, out].mean())
    if not means:  # of one row
        return float(right[(right.sum(axis=1) + ahead).argmax()].mean())
    return float(np.mean(means))


def _wilson(mean: float, n: float) -> tuple[float, float]:
    """Return the 95% interval of a share of n rows (Wilson 1927)."""
    z2 = 1.96**2
    middle = (mean + z2 / (2 * n)) / (1 + z2 / n)
    half = float(np.sqrt(z2 * (mean * (1 - mean) / n + z2 / (4 * n * n)))) / (1 + z2 / n)
    return max(0.0, middle - half), min(1.0, middle + half)


def calibration_error(
    confidence: np.ndarray, right: np.ndarray, n_bins: int | None = None
) -> float:
    """Return the expected calibration error: mean gap of confidence and accuracy over bins.

    Args:
        confidence: probability of each answer, shape (rows,).
        right: whether it is right.
        n_bins: of equal width; None takes 15, or fewer of few rows, whose noise would count.
    """
    if n_bins is None:
        n_bins = max(1, min(_MOST_BINS, len(right) // _ROWS_A_BIN))
    bins = np.minimum((confidence * n_bins).astype(int), n_bins - 1)
    return float(
        sum(
            abs(confidence[bins == b].mean() - right[bins == b].mean()) * (bins == b).mean()
            for b in np.unique(bins)
        )
    )
