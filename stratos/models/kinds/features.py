"""What a text is turned into before a head reads it: TF-IDF, token vectors, and the heads on it.

Each is a block of features with one row a text. A view of it, such as a layer of an encoder, has
rows of length 1 (or 0 for a text without any), so that all views have the same scale. A block is
fitted once, and is saved as arrays and JSON.
"""

from __future__ import annotations

import abc
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, TypeAlias

import numpy as np
from scipy import sparse
from scipy.linalg import cholesky, solve_triangular
from scipy.optimize import minimize
from typing_extensions import override

from stratos.models.kinds.base import log_softmax

Matrix: TypeAlias = np.ndarray | sparse.csr_matrix
"""Shape (texts, features), float32."""
Arrays = dict[str, np.ndarray]
STORED = np.float16
"""How a student's file has the weights of its heads, most of its numbers."""


class Features(abc.ABC):
    """One block of features."""

    name: ClassVar[str]
    """That of the kind of student which has it, or "tfidf"."""
    about: ClassVar[str]
    """What it is, as a model card says it."""
    learns_labels: ClassVar[bool] = False
    """Whether it learns from the labels of the texts, too, which takes minutes."""

    is_slow: ClassVar[bool] = False
    """Whether an answer takes milliseconds, so that it has a thread of its own."""

    @property
    def is_fitted(self) -> bool:
        """Whether it learns from the training texts, so that each fold needs one of its own."""
        return type(self).fitted is not Features.fitted

    @property
    def uses_torch(self) -> bool:
        """Whether it needs PyTorch to answer."""
        return False

    @property
    def n_params(self) -> int:
        """Numbers of its own, without those of the head."""
        return sum(array.size for array in self.state()[1].values())

    @property
    def n_bytes(self) -> int:
        """Bytes of its own weights on disk, without those of the head."""
        return sum(array.nbytes for array in self.state()[1].values())

    @property
    def vocabulary(self) -> tuple[int, int] | None:
        """Its tokens and those of what it was cut from; None where nothing was cut."""
        return None

    def fitted(self, texts: Sequence[str], answers: Sequence[int] = ()) -> Features:
        """Return the block that has learnt from `texts`; itself where it learns nothing.

        Args:
            texts: of the rows.
            answers: the number of each row's label, for a block that learns from labels, too.
        """
        return self

    def compact(self, texts: Sequence[str]) -> Features:
        """Return the block as it is saved and served: as small as it can be.

        Args:
            texts: of the rows that were learnt.
        """
        return self

    @abc.abstractmethod
    def transform(self, texts: Sequence[str]) -> Matrix:
        """Return the features of texts, shape (texts, features)."""

    def views(self, features: Matrix) -> list[Matrix]:
        """Return the groups of columns that get a head each, so that each has its own strength."""
        return [features]

    @abc.abstractmethod
    def state(self) -> tuple[dict[str, Any], Arrays]:
        """Return its settings, for JSON, and its arrays."""

    def save(self, folder: Path) -> None:  # noqa: B027
        """Write what is neither (the weights of an encoder) into the student's folder."""

    @classmethod
    @abc.abstractmethod
    def of_state(cls, settings: dict[str, Any], arrays: Arrays, folder: Path) -> Features:
        """Return what `state` and `save` wrote."""


class Tfidf(Features):
    """Words, pairs of words, and runs of two to five letters, weighed by TF-IDF."""

    name = "tfidf"
    about = "TF-IDF of words, pairs of words and runs of two to five letters"
    _LETTERS_IN_FEW: ClassVar[int] = 500
    """Training texts below which a run of letters counts that stands in one of them alone."""

    def __init__(self, union: Any = None) -> None:
        self._parts = union

    @override
    def fitted(self, texts: Sequence[str], answers: Sequence[int] = ()) -> Tfidf:
        few = len(texts) < self._LETTERS_IN_FEW
        parts = (_words(), _letters(min_df=1 if few else 2))
        return Tfidf(tuple(_fitted_part(part, texts) for part in parts))

    @cached_property
    def _counters(self) -> list[tuple[Callable[[str], list[str]], dict[str, int]]]:
        """Return what each part makes of a text, and the columns of its terms."""
        for part in self._parts:
            part._validate_vocabulary()  # one that was read has none of its own yet
        return [(part.build_analyzer(), part.vocabulary_) for part in self._parts]

    @cached_property
    def _idf(self) -> np.ndarray:
        return np.concatenate([part.idf_ for part in self._parts])

    @override
    def transform(self, texts: Sequence[str]) -> Matrix:
        """Return what the parts do side by side; of one text their checks would take most."""
        columns: list[int] = []
        counts: list[int] = []
        ends, starts = [0], np.cumsum([0, *(len(known) for _, known in self._counters)])
        for text in texts:
            for start, (analyze, known) in zip(starts.tolist(), self._counters, strict=False):
                n_of = Counter(map(known.get, analyze(text)))
                n_of.pop(None, None)
                columns += [start + term for term in n_of]
                counts += n_of.values()
            ends.append(len(columns))
        shape = len(texts), int(starts[-1])
        places = np.array(columns, np.int32), np.array(ends, np.int32)
        rows = sparse.csr_matrix((np.array(counts, np.float32), *places), shape)
        rows.sort_indices()
        n_parts = len(self._parts)
        row_of = np.repeat(np.arange(len(texts)), np.diff(rows.indptr))
        part_of = n_parts * row_of + np.searchsorted(starts[1:], rows.indices, "right")
        weights = (np.log(rows.data) + 1) * self._idf[rows.indices]
        lengths = np.sqrt(np.bincount(part_of, weights**2, minlength=n_parts * len(texts)))
        rows.data = (weights / lengths[part_of]).astype(np.float32)
        rows.data *= np.float32(1 / np.sqrt(n_parts))  # each part has length 1
        return rows

    @override
    def state(self) -> tuple[dict[str, Any], Arrays]:
        settings = [sorted(part.vocabulary_, key=part.vocabulary_.get) for part in self._parts]
        idf = {f"idf_{k}": part.idf_.astype(np.float32) for k, part in enumerate(self._parts)}
        return {"vocabularies": settings}, idf

    @classmethod
    @override
    def of_state(cls, settings: dict[str, Any], arrays: Arrays, folder: Path) -> Tfidf:
        parts = (_words(), _letters())
        for k, (part, terms) in enumerate(zip(parts, settings["vocabularies"], strict=True)):
            part.vocabulary = {term: column for column, term in enumerate(terms)}
            part.idf_ = arrays[f"idf_{k}"]
        return cls(parts)


def _fitted_part(part: Any, texts: Sequence[str]) -> Any:
    """Fit a part of TF-IDF; of texts without a word or letter it knows one that none has."""
    try:
        return part.fit(texts)
    except ValueError:  # no term is left
        part.set_params(min_df=1)
    try:
        return part.fit(texts)
    except ValueError:
        return part.fit(["nothing"])


def _words() -> Any:
    from sklearn.feature_extraction.text import TfidfVectorizer

    return TfidfVectorizer(
        ngram_range=(1, 2), sublinear_tf=True, token_pattern=r"\w+", dtype=np.float32
    )


def _letters(min_df: int = 1) -> Any:
    from sklearn.feature_extraction.text import TfidfVectorizer

    return TfidfVectorizer(
        analyzer="char_wb", ngram_range=(2, 5), sublinear_tf=True, min_df=min_df, dtype=np.float32
    )


_MOST_OF_8_BITS = 127


class StaticTable(Features):
    """The mean of the token vectors of a text, from a table that was trained on other texts.

    Args:
        table: shape (tokens, features).
        tokenizer: of the package `tokenizers`.
        scales: what the whole numbers of each row are multiplied by, shape (tokens,); None where
            the table has the vectors themselves.
        share: of the tokens that no row has, which stay in what is served; None: all tokens stay.
    """

    name = "static"
    about = "the mean of the token vectors of a fixed table"

    def __init__(
        self,
        table: np.ndarray,
        tokenizer: Any,
        scales: np.ndarray | None = None,
        share: float | None = None,
        n_uncut: int | None = None,
    ) -> None:
        self._table, self._tokenizer, self._scales = table, tokenizer, scales
        self._share, self._n_uncut = share, n_uncut
        tokenizer.no_padding()
        tokenizer.no_truncation()

    @classmethod
    def of_files(cls, weights: Path, tokenizer: Path, share: float | None = None) -> StaticTable:
        """Return the table of a safetensors file with one matrix, and its tokenizer's JSON."""
        from safetensors.numpy import load_file
        from tokenizers import Tokenizer

        from stratos.core.foreign import reading

        with reading(f"The table of token vectors in {weights}"):
            [table] = load_file(weights).values()
            read = Tokenizer.from_file(str(tokenizer))
            if len(table) < read.get_vocab_size() or not np.isfinite(table).all():
                raise ValueError(
                    f"it has {len(table):,} vectors for {read.get_vocab_size():,} tokens, or one "
                    "of them is no number"
                )
        return cls(table, read, share=share)

    @property
    @override
    def is_fitted(self) -> bool:
        return self._share is not None

    @override
    def fitted(self, texts: Sequence[str], answers: Sequence[int] = ()) -> StaticTable:
        """Return the table with the tokens of `texts` where a share of the others is given.

        So rows that are held out are read as those that are served: in tokens that others have.
        """
        if self._share is None:
            return self
        from stratos.models.pretrained.vocabulary import task_vocabulary

        source = self._tokenizer.to_str()
        vocabulary = task_vocabulary(source, texts, len(self._table), share=self._share)
        tokenizer = type(self._tokenizer).from_str(vocabulary.tokenizer)
        return StaticTable(self._table[vocabulary.ids], tokenizer, n_uncut=len(self._table))

    @override
    def transform(self, texts: Sequence[str]) -> Matrix:
        rows = np.zeros((len(texts), self._table.shape[1]), np.float32)
        encoded = self._tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
        for row, tokens in zip(rows, encoded, strict=True):
            if tokens.ids:
                row[:] = self._sum(tokens.ids) / len(tokens.ids)
        return of_length_1(rows)

    def _sum(self, ids: Sequence[int]) -> np.ndarray:
        vectors = self._table[ids]
        if self._scales is None:
            total: np.ndarray = vectors.sum(axis=0, dtype=np.float32)
        else:
            total = self._scales[ids] @ vectors.astype(np.float32)
        return total

    @override
    def compact(self, texts: Sequence[str]) -> StaticTable:
        """Return the table in 8 bits."""
        rows = self._table.astype(np.float32)
        scales = np.abs(rows).max(axis=1) / _MOST_OF_8_BITS
        scales[scales == 0] = 1
        whole = np.round(rows / scales[:, None]).astype(np.int8)
        return StaticTable(whole, self._tokenizer, scales, n_uncut=self._n_uncut)

    @property
    @override
    def vocabulary(self) -> tuple[int, int] | None:
        return None if self._n_uncut is None else (len(self._table), self._n_uncut)

    @property
    @override
    def n_params(self) -> int:
        return self._table.size

    @override
    def state(self) -> tuple[dict[str, Any], Arrays]:
        scales = {} if self._scales is None else {"scales": self._scales}
        settings = {"tokenizer": self._tokenizer.to_str(), "n_uncut": self._n_uncut}
        return settings, {"table": self._table, **scales}

    @classmethod
    @override
    def of_state(cls, settings: dict[str, Any], arrays: Arrays, folder: Path) -> StaticTable:
        from tokenizers import Tokenizer

        read = Tokenizer.from_str(settings["tokenizer"])
        return cls(arrays["table"], read, arrays.get("scales"), n_uncut=settings["n_uncut"])


def of_length_1(rows: np.ndarray) -> np.ndarray:
    """Return rows at length 1; one of zeros stays."""
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-9)


_MOST_ROWS = 3_000
"""Above it the square of the rows costs more than it saves."""
_RIDGE = 1e-5
"""Rows that stand twice would make the Gram matrix singular."""


@dataclass(frozen=True)
class RowSpace:
    """Coordinates in the span of training rows."""

    rows: sparse.csr_matrix
    """Shape (rows, features)."""
    coordinates: np.ndarray
    """Of the same rows, shape (rows, rows), lower triangular, float32."""

    @classmethod
    def of(cls, rows: Matrix) -> RowSpace | None:
        """Return the span of sparse rows; None of dense or of too many rows."""
        if not sparse.issparse(rows) or rows.shape[0] > min(_MOST_ROWS, rows.shape[1]):
            return None
        wide = sparse.csr_matrix(rows)
        exact = wide.astype(np.float64)
        gram = (exact @ exact.T).toarray()
        gram[np.diag_indices_from(gram)] += _RIDGE
        return cls(wide, cholesky(gram, lower=True).astype(np.float32))

    def transform(self, rows: sparse.csr_matrix) -> np.ndarray:
        """Return the coordinates of other rows, shape (other rows, rows)."""
        products = (self.rows @ rows.T).toarray()
        solved: np.ndarray = solve_triangular(self.coordinates, products, lower=True)
        return solved.T.astype(np.float32)

    def head(self, head: Head) -> Head:
        """Return the head on features of one on coordinates."""
        shares = solve_triangular(self.coordinates, head.weights, lower=True, trans="T")
        return Head(np.asarray(self.rows.T @ shares, np.float32), head.bias)


_FLOOR = np.log(1e-6)
"""Log-probability of a label that a head never saw."""
_TOLERANCE, _MOST_STEPS = 1e-4, 300
"""Of the gradient of the mean loss. With many labels that is small from the start: at 1e-3 a head
of 77 labels stops before it has learnt."""
_CHANGE = 5e-3
"""Largest change of a weight in a pass over the rows, as a share of the largest weight, at which a
head on many sparse rows is done. L-BFGS takes three to five times as long for 77 labels there."""
_LEAST_WEIGHT = 1e-3
"""Of a head whose guesses on unseen rows are worse than none: the likeliest label stays the answer,
with the probability of chance."""
_PRIOR = 3.0
"""Nats that rows have to bring for a sum of the weights that is 1 off."""


@dataclass(frozen=True)
class Head:
    """A logistic regression."""

    weights: np.ndarray
    """Shape (features, labels), float32."""
    bias: np.ndarray
    """Shape (labels,)."""

    def logits(self, features: Matrix) -> np.ndarray:
        """Return shape (texts, labels)."""
        logits: np.ndarray = features @ self.weights + self.bias
        return logits

    def log_probabilities(self, features: Matrix) -> np.ndarray:
        """Return shape (texts, labels), nats; of each text one label is right."""
        return log_softmax(self.logits(features))


def fit_head(
    features: Matrix,
    labels: np.ndarray,
    n_labels: int,
    strength: float,
    row_weights: np.ndarray | None = None,
    start: Head | None = None,
) -> Head:
    """Fit a logistic regression; labels without rows get a probability near 0.

    Args:
        features: shape (rows, features).
        labels: numbers below `n_labels`, shape (rows,).
        n_labels: labels that there are.
        strength: inverse strength of the L2 penalty.
        row_weights: how much each row counts, shape (rows,); 1 where None.
        start: a head of the same rows with another strength, to begin from.
    """
    from sklearn.linear_model import LogisticRegression
    from threadpoolctl import threadpool_limits

    weights = np.zeros((features.shape[1], n_labels), np.float32)
    bias = np.full(n_labels, _FLOOR, np.float32)
    present = np.unique(labels)
    if len(present) == 1:
        bias[present] = 0
        return Head(weights, bias)
    solver = {"solver": "lbfgs", "tol": _TOLERANCE}
    if sparse.issparse(features) and features.shape[0] > _MOST_ROWS:
        solver = {"solver": "sag", "tol": _CHANGE, "random_state": 0}
    with threadpool_limits(limits=1):  # of small matrices, threads wait for each other
        model = LogisticRegression(
            C=strength, max_iter=_MOST_STEPS, warm_start=start is not None, **solver
        )
        if start is not None:
            rows, first = start.weights[:, present].T, start.bias[present]
            two = len(present) == 2  # of two labels scikit-learn has the difference
            model.coef_, model.intercept_ = (
                np.diff(a, axis=0) if two else a for a in (rows, first)
            )
        with warnings.catch_warnings():  # of many labels with few rows each, which is no mistake
            warnings.filterwarnings("ignore", message="The number of unique classes")
            model.fit(features, labels, sample_weight=row_weights)
    rows, first = model.coef_.astype(np.float32), model.intercept_.astype(np.float32)
    if len(present) == 2:  # one row of weights, for the second label
        rows, first = np.stack([-rows[0] / 2, rows[0] / 2]), np.array([-first[0] / 2, first[0] / 2])
    weights[:, present] = rows.T
    bias[present] = first
    return Head(weights, bias)


def joined(heads: Sequence[Head], weights: np.ndarray) -> tuple[Head, float]:
    """Return the mixture of the heads of a block's views as a head of the block, and its weight.

    Its weights are rounded as they are stored.

    Args:
        heads: of each view.
        weights: of each head in the mixture of all blocks.
    """
    total = float(weights.sum())
    shares = weights / total if total else weights
    rows = np.vstack([share * head.weights for share, head in zip(shares, heads, strict=True)])
    bias = np.sum([share * head.bias for share, head in zip(shares, heads, strict=True)], axis=0)
    return Head(rows.astype(STORED).astype(np.float32), bias.astype(np.float32)), total


def mix(log_probabilities: Sequence[np.ndarray], weights: np.ndarray) -> np.ndarray:
    """Return the mixed log-probabilities, shape (texts, labels).

    Args:
        log_probabilities: of each head, shape (texts, labels).
        weights: of each head.
    """
    total = sum(weight * part for weight, part in zip(weights, log_probabilities, strict=True))
    return log_softmax(np.asarray(total))


def mixing_weights(log_probabilities: Sequence[np.ndarray], labels: np.ndarray) -> np.ndarray:
    """Return the positive weights under which unseen rows have the highest likelihood.

    Before a row is read, their sum is taken to be about 1: of 50 rows it would be anything.

    Args:
        log_probabilities: of each head on rows that it has not seen, shape (rows, labels).
        labels: of these rows; without any, all heads weigh the same.
    """
    start = np.full(len(log_probabilities), 1 / len(log_probabilities))
    if not len(labels):
        return start
    parts = np.stack(log_probabilities)  # (heads, rows, labels)
    rows = np.arange(len(labels))
    right = parts[:, rows, labels]  # (heads, rows)

    def loss(weights: np.ndarray) -> tuple[float, np.ndarray]:
        mixed = log_softmax(np.tensordot(weights, parts, 1))
        expected = (np.exp(mixed)[None] * parts).sum(axis=2)
        beyond, prior = weights.sum() - 1, _PRIOR / len(rows)
        value = -mixed[rows, labels].mean() + prior * beyond**2
        return float(value), (expected - right).mean(axis=1) + 2 * prior * beyond

    bounds = [(_LEAST_WEIGHT, 20.0)] * len(parts)
    return np.asarray(minimize(loss, start, jac=True, bounds=bounds, method="L-BFGS-B").x)
