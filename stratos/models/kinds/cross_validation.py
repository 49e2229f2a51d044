"""Which kind suits the rows: each is cross-validated on the same folds, and the choice is honest.

All kinds are mixtures of the same few blocks, so that each block is fitted once a fold, whatever
the number of kinds. The accuracy of the chosen one is estimated by bootstrap bias-corrected
cross-validation (Tsamardinos, Greasidou, Borboudakis 2018): the kind is chosen again on each
resample of the rows and scored on the rows that the resample left out, so that the optimism of a
choice among several is not reported as accuracy.

Of few rows the folds tell, too. Spread evenly, a label is as frequent in the rows that are learnt
as in those that are held out, which no row to come is asked for: that is too favourable. Drawn at
random, folds are fair to a student of four fifths of the rows, which is worse than one of all. What
is reported lies in the middle.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import sparse

from stratos.models.kinds.classifier import (
    Classifier,
    Familiarity,
    centroids_of,
    similarities_to,
)
from stratos.models.kinds.features import (
    Features,
    Head,
    Matrix,
    RowSpace,
    fit_head,
    joined,
    mix,
    mixing_weights,
)
from stratos.models.kinds.kind_choice import (
    ahead_by_prior,
    deviations,
    micro_f1,
    suspects,
    wilson_ends,
    without_optimism,
)
from stratos.models.kinds.student_kinds import LABELS
from stratos.tasks.dedup.near import Alike

_FIRST_STRENGTH, _STEP, _MOST_MOVES = 10.0, 10**0.5, 4
"""Where the search for the inverse strength of the L2 penalty of a head begins, the factor between
neighbours, and how often it moves on."""
_FEW_ROWS = 200
"""Up to how many rows folds are drawn at random, too."""
_N_FOLDS, _MOST_CROSSED, _N_HELD_OUT = 5, 4_000, 2_000
"""Above so many rows with a gold label, one fold of about so many is held out instead of all."""
_MOST_BINS, _ROWS_A_BIN = 15, 40
"""Bins of a calibration error, and rows that there are for each on average."""


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
    counts: np.ndarray
    """Of each held-out row twice the labels that are right, and the labels of answer and gold
    answer together, shape (rows, 2). Summed, their ratio is the micro-F1: where each row has one
    label and one answer, it is the accuracy."""
    unseen: np.ndarray
    """What is mixed of each held-out row: of one label a text log-probabilities, (rows, labels)."""

    @property
    def micro_f1(self) -> float:
        """F1 over all labels of all held-out rows."""
        return float(micro_f1(self.counts))


@dataclass(frozen=True)
class Choice:
    """The chosen kind, and what all reached."""

    kind: str
    accuracy: float
    """Of the chosen kind, without the optimism of the choice and of even folds."""
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
    micro_f1: tuple[float, float, float]
    """Of the chosen kind, without the optimism of the choice, and its 95% interval (bootstrap)."""


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
        self._own_answers = list(answers)
        self.labels, self._answers = self._read(answers)
        self._weights = row_weights
        self._blocks = {block.name: block for block in blocks}
        self._fixed: dict[str, Matrix] = {}
        self._views: dict[str, list[_View]] = {}
        self._similarities: dict[str, np.ndarray] = {}
        gold = np.ones(len(self._texts), bool) if is_gold is None else np.asarray(is_gold, bool)
        if not gold.any():
            raise ValueError("Without a row whose label is gold, nothing can be scored.")
        self._is_gold = gold
        self._folds = folds_of(self._texts, self._strata(), gold, seed)
        self._held = np.flatnonzero(self._folds >= 0)
        self._can_be_right = self._learnable()[self._held]
        single = 1 - float(self._can_be_right.mean())
        # Good's estimate (1953) of what is still unseen; rows that show each label once are chosen.
        self._unseen_share = single if single < 1 else 0.0
        self._scores: dict[str, KindScore] = {}
        self._tunes = False
        self.seconds = 0.0
        """By the clock: what its cross-validation took, which a second call has for nothing."""

    # --- what differs where a text has several labels --------------------------------------------

    def _read(self, answers: Sequence[str]) -> tuple[tuple[str, ...], np.ndarray]:
        """Return the labels, and of each row what is learnt: the number of its label."""
        labels = tuple(sorted(set(answers)))
        numbers = {label: k for k, label in enumerate(labels)}
        return labels, np.array([numbers[answer] for answer in answers])

    def _strata(self) -> np.ndarray:
        """Return a number of each row: rows with the same one are spread evenly over folds."""
        return self._answers

    def _learnable(self) -> np.ndarray:
        """Return whether each row can be answered right by a head that has not learnt it.

        A label whose rows are all of one fold is unknown where that fold is held out: it has one
        row, or all of them are near duplicates.
        """
        n_folds = self._folds.max() + 1
        counts = np.zeros((len(self.labels), n_folds + 1), int)  # last: never held out
        np.add.at(counts, (self._answers, self._folds), 1)
        elsewhere: np.ndarray = counts.sum(1)[self._answers] - counts[self._answers, self._folds]
        return elsewhere > 0

    def _fit_head(
        self,
        features: Matrix,
        rows: np.ndarray,
        strength: float,
        weights: np.ndarray | None,
        start: Head | None,
    ) -> Head:
        answers, n = self._answers[rows], len(self.labels)
        return fit_head(features, answers, n, strength, weights, start=start)

    def _scores_of(self, head: Head, features: Matrix) -> np.ndarray:
        """Return what is mixed of a head, shape (rows, labels)."""
        return head.log_probabilities(features)

    def _mix(self, parts: Sequence[np.ndarray], weights: np.ndarray) -> np.ndarray:
        return mix(parts, weights)

    def _weights_of(self, parts: Sequence[np.ndarray], rows: np.ndarray) -> np.ndarray:
        """Return the mixing weights under which these rows are most likely."""
        return mixing_weights(parts, self._answers[rows])

    def _losses(self, mixed: np.ndarray) -> np.ndarray:
        """Return the negative log-likelihood of each held-out row, nats."""
        return -mixed[np.arange(len(self._held)), self._answers[self._held]]

    def _judged(
        self, mixed: np.ndarray, rows: np.ndarray, rest: np.ndarray, of_others: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return how likely and whether each row is right, and the counts of its labels.

        Args:
            mixed: of the rows, shape (rows, labels).
            rows: numbers of the rows.
            rest: mixed scores of other rows, by which what is answered may be chosen.
            of_others: their numbers.
        """
        right = mixed.argmax(axis=1) == self._answers[rows]
        sure = np.exp(mixed.max(axis=1)) * (1 - self._unseen_share)
        return sure, right, np.stack([2 * right, np.full(len(right), 2)], 1)

    @property
    def _chance(self) -> float:
        """The probability of an answer of which nothing is known."""
        return (1 - self._unseen_share) / len(self.labels)

    def _student(
        self,
        kind: str,
        chosen: Study,
        blocks: Sequence[Features],
        heads: Sequence[Head],
        weights: np.ndarray,
        centroids: sparse.csr_matrix,
    ) -> Classifier:
        """Return a student of fitted parts; `chosen` has cross-validated its kind."""
        return Classifier(
            self.labels,
            tuple(blocks),
            tuple(heads),
            weights,
            centroids=centroids,
            familiarity=Familiarity.of(chosen._similar(kind)),
            unseen=self._unseen_share,
        )

    # ---------------------------------------------------------------------------------------------

    @property
    def n_rows(self) -> int:
        """Rows that there are."""
        return len(self._texts)

    @property
    def kinds(self) -> list[str]:
        """Names of the kinds whose blocks are there, the cheapest first.

        The one that takes minutes is among them after `tune`.
        """
        here = [kind for kind in LABELS.values() if set(kind.blocks) <= set(self._blocks)]
        return [kind.name for kind in here if self._tunes or not kind.takes_minutes]

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
        counts = np.stack([score.counts for score in scores])
        ahead = ahead_by_prior([score.kind for score in scores], micro_f1(counts))
        totals = micro_f1(counts) * len(self._held) + ahead
        best = int(totals.argmax())
        mean, f1 = without_optimism(right, counts, ahead, self._seed)
        mean = min(max(0.0, mean - self._by_even_folds(scores[best])), 1.0)
        n = self.n_independent()
        low, high = wilson_ends(mean, n)
        # Rows of several folds are worth fewer than they are.
        spread = np.sqrt(len(self._held) / n) * np.array(deviations(counts[best], self._seed))
        f1_low, f1_high = np.clip(f1 + spread, 0, 1).tolist()
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
            (f1, f1_low, f1_high),
        )

    def score(self, kind: str) -> KindScore:
        """Return the score of a kind; its mixing weights come from other rows, as its heads do."""
        if kind not in self._scores:
            parts, similar, n = self._unseen(kind), self._similar(kind), len(self._held)
            mixed, sure = np.zeros_like(parts[0]), np.zeros(n)
            right, counts = np.zeros(n, bool), np.zeros((n, 2), int)
            order = np.random.default_rng(self._seed).permutation(n)
            for new in np.array_split(order, _N_FOLDS):
                known = np.setdiff1d(order, new)
                weights = self._mixing_weights(parts, known)
                every = self._mix(parts, weights)
                mixed[new] = every[new]
                likely, right[new], counts[new] = self._judged(
                    every[new], self._held[new], every[known], self._held[known]
                )
                shares = Familiarity.of(similar[known]).shares(similar[new])
                sure[new] = self._chance + shares * (likely - self._chance)
            self._scores[kind] = KindScore(
                kind,
                float(right.mean()),
                float(self._losses(mixed).mean()),
                calibration_error(sure, right),
                right,
                counts,
                mixed,
            )
        return self._scores[kind]

    def suspects(self, kind: str) -> dict[int, str]:
        """Return the rows whose one label looks wrong to a kind, to the likelier label."""
        given = self._answers[self._held]
        wrong = suspects(self.score(kind).unseen, given)
        return {int(self._held[row]): self.labels[label] for row, label in wrong.items()}

    def fit(self, kind: str) -> Classifier:
        """Return the kind fitted on all rows, mixed and calibrated on held-out rows."""
        return self._assembled(kind, self)

    def fit_with(self, kind: str, texts: Sequence[str], answers: Sequence[str]) -> Classifier:
        """Return the kind fitted on these rows and more; strengths and mixture stay.

        Args:
            kind: one of `LABELS`.
            texts: of further rows, whose labels are gold.
            answers: their labels.
        """
        weights = self._all_weights()
        if weights is not None:
            weights = np.concatenate([weights, np.ones(len(texts))])
        grown = self._plain(
            [*self._texts, *texts],
            [*self._own_answers, *answers],
            tuple(self._blocks.values()),
            self._seed,
            self._tick,
            weights,
            np.concatenate([self._is_gold, np.ones(len(texts), bool)]),
        )
        every = np.arange(len(self._texts))
        for block in (self._blocks[name] for name in LABELS[kind].blocks):
            if not block.is_fitted:  # an encoder reads each text once
                features = self._features(block, every), block.transform(texts)
                grown._fixed[block.name] = np.vstack(features)
        return grown._assembled(kind, self)

    @property
    def _plain(self) -> type[Study]:
        """The study of more rows, all of which are learnt with a weight that is given."""
        return Study

    def _all_weights(self) -> np.ndarray | None:
        """Return the weights with which a student learns all rows."""
        return self._weights

    def _assembled(self, kind: str, chosen: Study) -> Classifier:
        """Return a kind fitted on all rows, with strengths and mixture of a study of it."""
        blocks, heads, totals, centroids = [], [], [], None
        weights = chosen._mixing_weights(chosen._unseen(kind))
        for name in LABELS[kind].blocks:
            every = np.arange(len(self._texts))
            strengths = [view.strength for view in chosen._study(name)]
            block, features, fitted = self._fit_views(name, every, strengths)
            if centroids is None:
                centroids = self.centroids(features, every)
            shares, weights = weights[: len(fitted)], weights[len(fitted) :]
            head, total = joined(fitted, shares)
            blocks.append(block.compact(self._texts))
            heads.append(head)
            totals.append(total)
        assert centroids is not None, "a kind has a block"
        return self._student(kind, chosen, blocks, heads, np.array(totals), centroids)

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
            tested = np.flatnonzero(self._folds == fold)
            right[np.searchsorted(self._held, tested)] = self._is_right(
                kind, weights, learnt, tested
            )
            sizes.append(len(learnt))
        return float(np.mean(sizes)), right

    def right_of_known(self, kind: str) -> np.ndarray:
        """Return whether a kind is right of rows whose near duplicates it may have learnt.

        Folds are drawn row by row, as if near duplicates were none; strengths and weights are those
        that were chosen.
        """
        return self._right_by(
            folds_of(self._texts, self._strata(), self._is_gold, self._seed, together=False), kind
        )

    def _by_even_folds(self, score: KindScore) -> float:
        """Return how much of an accuracy is owed to folds that have all labels alike.

        Half of what is lost where folds are drawn without regard to labels, nearly the same for
        each kind; 0 where rows are many, or the kind would take minutes again.
        """
        if self.n_rows > _FEW_ROWS or LABELS[score.kind].takes_minutes:
            return 0.0
        folds = folds_of(self._texts, self._strata(), self._is_gold, self._seed, evenly=False)
        return (score.accuracy - float(self._right_by(folds, score.kind).mean())) / 2

    def _right_by(self, folds: np.ndarray, kind: str) -> np.ndarray:
        """Return whether a kind is right of each row that folds hold out, fold by fold."""
        right, weights = [], self._mixing_weights(self._unseen(kind))
        for fold in np.unique(folds[folds >= 0]):
            learnt, tested = np.flatnonzero(folds != fold), np.flatnonzero(folds == fold)
            right.append(self._is_right(kind, weights, learnt, tested))
        return np.concatenate(right)

    def _is_right(
        self, kind: str, weights: np.ndarray, learnt: np.ndarray, tested: np.ndarray
    ) -> np.ndarray:
        """Return whether a kind that learns some rows, mixed by weights, is right of others."""
        parts = []
        for name in LABELS[kind].blocks:
            strengths = [view.strength for view in self._study(name)]
            block, _, heads = self._fit_views(name, learnt, strengths)
            views = block.views(self._features(block, tested))
            parts += [self._scores_of(h, v) for h, v in zip(heads, views, strict=True)]
        every = self._mix(self._unseen(kind), weights)
        return self._judged(self._mix(parts, weights), tested, every, self._held)[1]

    def n_independent(self) -> float:
        """Return how many independent rows the held-out ones are worth.

        Models of different folds learn from mostly the same rows, so that their errors go together
        (the corrected variance of Nadeau and Bengio 2003).
        """
        n_folds = len(np.unique(self._folds[self._held]))
        per_fold = len(self._held) / n_folds
        return len(self._held) / (1 + n_folds * per_fold / max(1.0, self.n_rows - per_fold))

    def _unseen(self, kind: str) -> list[np.ndarray]:
        return [view.unseen for name in LABELS[kind].blocks for view in self._study(name)]

    def _similar(self, kind: str) -> np.ndarray:
        """Return how like the rows of other folds each held-out row is, by the kind's own block."""
        name = LABELS[kind].blocks[0]
        self._study(name)
        return self._similarities[name]

    def centroids(self, features: Matrix, rows: np.ndarray) -> sparse.csr_matrix:
        """Return those of the labels of some rows (their numbers), whose features these are."""
        groups, group_of = np.unique(self._strata(), return_inverse=True)
        return centroids_of(features, group_of[rows], len(groups))

    def _mixing_weights(
        self, parts: Sequence[np.ndarray], rows: np.ndarray | None = None
    ) -> np.ndarray:
        """Return the weights that suit the held-out rows, or some of them."""
        some = np.flatnonzero(self._can_be_right)
        some = some if rows is None else np.intersect1d(some, rows)
        return self._weights_of([part[some] for part in parts], self._held[some])

    def _study(self, name: str) -> list[_View]:
        """Cross-validate the heads of a block's views, once."""
        if name not in self._views:
            folds, similar = [], np.zeros(len(self._held))
            for fold in np.unique(self._folds[self._held]):
                learnt = np.flatnonzero(self._folds != fold)
                tested = np.flatnonzero(self._folds == fold)
                block = self._fitted(name, learnt)
                known, new = self._features(block, learnt), self._features(block, tested)
                centroids = self.centroids(known, learnt)
                similar[np.searchsorted(self._held, tested)] = similarities_to(centroids, new)
                if span := RowSpace.of(known):
                    known, new = span.coordinates, span.transform(new)
                folds.append((learnt, tested, block.views(known), block.views(new)))
            self._similarities[name] = similar
            n_views = len(folds[0][2])
            self._views[name] = [
                self._best_strength([(a, b, known[k], new[k]) for a, b, known, new in folds])
                for k in range(n_views)
            ]
        return self._views[name]

    def _best_strength(self, folds: list[tuple[np.ndarray, np.ndarray, Matrix, Matrix]]) -> _View:
        """Climb from strength to strength while the likelihood of held-out rows grows.

        Of many rows, those of the first fold tell: a head takes long there.

        Args:
            folds: numbers of the rows learnt from and held out, and their features.
        """
        heads: list[Head | None] = [None] * len(folds)
        n_telling = len(folds) if self.n_rows <= _MOST_CROSSED else 1
        telling = np.searchsorted(self._held, np.concatenate([f[1] for f in folds[:n_telling]]))
        telling = np.sort(telling[self._can_be_right[telling]])

        def test(numbers: Iterable[int], strength: float, unseen: np.ndarray) -> None:
            for k in numbers:
                learnt, tested, known, new = folds[k]
                head = heads[k] = self._fit(known, learnt, strength, heads[k])
                unseen[np.searchsorted(self._held, tested)] = self._scores_of(head, new)

        def at(strength: float) -> tuple[float, _View]:
            unseen = np.zeros((len(self._held), len(self.labels)), np.float32)
            test(range(n_telling), strength, unseen)
            losses = self._losses(self._mix([unseen], self._mixing_weights([unseen], telling)))
            return float(losses[telling].sum()), _View(strength, unseen)

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
        test(range(n_telling, len(folds)), best[1].strength, best[1].unseen)
        return best[1]

    def _fit(
        self, features: Matrix, rows: np.ndarray, strength: float, start: Head | None = None
    ) -> Head:
        self._tick()
        weights = None if self._weights is None else self._weights[rows]
        return self._fit_head(features, rows, strength, weights, start)

    def _fit_views(
        self, name: str, rows: np.ndarray, strengths: Sequence[float]
    ) -> tuple[Features, Matrix, list[Head]]:
        """Return a block fitted on rows, their features, and a head for each of its views."""
        block = self._fitted(name, rows)
        features = self._features(block, rows)
        if span := RowSpace.of(features):
            [strength] = strengths
            return block, features, [span.head(self._fit(span.coordinates, rows, strength))]
        views = zip(block.views(features), strengths, strict=True)
        return block, features, [self._fit(view, rows, strength) for view, strength in views]

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
    texts: Sequence[str],
    answers: np.ndarray,
    is_gold: np.ndarray,
    seed: int,
    *,
    together: bool = True,
    evenly: bool = True,
) -> np.ndarray:
    """Return the fold of each row, -1 where it is only learnt from.

    The rows of a label are spread evenly over folds; near duplicates are of one fold, as they are
    of one split.

    Args:
        texts: of the rows.
        answers: the number of each row's label.
        is_gold: whether each row may be held out.
        seed: of the folds.
        together: whether near duplicates are of one fold; else each row is by itself.
        evenly: whether rows are spread by their label; else at random.
    """
    random = np.random.default_rng(seed)
    folds = np.full(len(answers), -1)
    n_gold = int(is_gold.sum())
    n_folds = max(_N_FOLDS, n_gold // _N_HELD_OUT)
    offset = 0
    strata = answers if evenly else np.zeros_like(answers)
    for label in np.unique(strata[is_gold]):
        rows = random.permutation(np.flatnonzero((strata == label) & is_gold))
        folds[rows] = (np.arange(len(rows)) + offset) % n_folds
        offset += len(rows)
    if together:
        grouped = _with_groups(texts, answers, np.flatnonzero(is_gold), folds, n_folds, evenly)
        if len(np.unique(grouped[is_gold])) == min(n_folds, n_gold):  # else nearly all are alike
            folds = grouped
    if n_gold > _MOST_CROSSED:
        folds[folds > 0] = -1
    return folds


def _with_groups(
    texts: Sequence[str],
    answers: np.ndarray,
    gold: np.ndarray,
    folds: np.ndarray,
    n_folds: int,
    evenly: bool,
) -> np.ndarray:
    """Return folds in which near duplicates are together.

    Each group goes where its labels are rarest so far, the largest group first. One with much of a
    label stays apart: it is how short texts are worded, and without it the label is not learnt.

    Args:
        texts: of all rows.
        answers: the number of each row's label.
        gold: the rows to group.
        folds: of each row alone.
        n_folds: how many there are.
        evenly: whether labels are spread over folds; else a group goes where its first row is.
    """
    alike, together = Alike(), folds.copy()
    for row in gold:
        alike.add(texts[int(row)], answer=int(answers[row]))
    groups = alike.keys(alike.edited(alike.groups()))
    _, group_of, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    labels, label_of = np.unique(answers[gold], return_inverse=True)
    n_of_label = np.bincount(label_of)
    filled, n_filled = np.zeros((len(labels), n_folds)), np.zeros(n_folds)
    of_groups = np.split(np.argsort(group_of, kind="stable"), np.cumsum(sizes)[:-1])
    for group in np.argsort(-sizes, kind="stable"):
        members = of_groups[group]
        most = max(2.0, _MOST_OF_LABEL * n_of_label[label_of[members]].mean())
        if len(members) > most:
            continue
        if evenly:
            fold = int((filled[label_of[members]].sum(axis=0) + _EVEN * n_filled).argmin())
        else:
            fold = int(folds[gold[members[0]]])
        together[gold[members]] = fold
        filled[:, fold] += np.bincount(label_of[members], minlength=len(labels))
        n_filled[fold] += len(members)
    return together


_MOST_OF_LABEL, _EVEN = 0.2, 1e-3
"""Share of a label's rows that a group of near duplicates may have, and how much the size of a fold
counts beside its rows of the same labels."""


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
