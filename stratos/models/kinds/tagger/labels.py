"""Answers as labels of tokens, the chain that learns them, and labels of tokens as answers.

A label is `O`, or a mark and the name of a field: `I-` inside a span. In lists, `B-` opens a
span and `S-` the first span of an element.

The chain is a linear-chain conditional random field over token features (Lafferty, McCallum,
Pereira 2001): p(labels | tokens) is proportional to
exp(sum of emissions[t, label_t] + moves[label_t-1, label_t]). Training maximises the log-likelihood
with an L2 penalty by L-BFGS. The forward and backward passes run over all sequences of one length
at once, in probabilities that are scaled at each step.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

import numpy as np
from scipy import sparse

from stratos.models.kinds.tagger.fields import Absent, Field
from stratos.models.kinds.tagger.spans import Extraction, day_order, readings, spans
from stratos.models.kinds.tagger.tagged_text import Document
from stratos.tasks.readings import STYLES

_COPIES, _DROP = 3, 0.5
"""Noisy copies of each sequence, and the share of their features that is dropped."""
_PENALTY, _MOST_STEPS, _FEWEST = 0.1, 80, 2
"""`_FEWEST` tokens have a feature that is used."""


@dataclass(frozen=True)
class Chain:
    """Weights of a chain."""

    labels: list[str]
    columns: np.ndarray
    """Numbers of the features in use, in ascending order."""
    emissions: np.ndarray
    """Shape (columns, labels)."""
    moves: np.ndarray
    """Shape (labels, labels): from the label before."""
    initial: np.ndarray
    """Shape (labels,)."""

    def decode(self, features: np.ndarray) -> tuple[list[str], np.ndarray, float]:
        """Return the likeliest labels, how likely each is by itself, and all of them together.

        Args:
            features: numbers of features, 0 for none, shape (tokens, slots).
        """
        spots = np.minimum(np.searchsorted(self.columns, features), len(self.columns) - 1)
        in_use = (self.columns[spots] == features) & (features > 0)
        scores = np.einsum("tk,tkl->tl", in_use, self.emissions[spots])
        scores[0] += self.initial
        path, best = viterbi(scores, self.moves)
        log_z, marginals, _ = expectations(scores[None], self.moves, np.ones(1))
        certain = marginals[0][np.arange(len(path)), path]
        return [self.labels[k] for k in path], certain, float(np.exp(min(best - log_z, 0.0)))


def viterbi(scores: np.ndarray, moves: np.ndarray) -> tuple[list[int], float]:
    """Return the best path of labels and its score; `scores` has shape (tokens, labels)."""
    total, back = scores[0], []
    for row in scores[1:]:
        options = total[:, None] + moves
        back.append(options.argmax(axis=0))
        total = options.max(axis=0) + row
    path = [int(total.argmax())]
    for pointers in reversed(back):
        path.append(int(pointers[path[-1]]))
    return path[::-1], float(total.max())


def expectations(
    block: np.ndarray, moves: np.ndarray, weights: np.ndarray
) -> tuple[float, np.ndarray, np.ndarray]:
    """Return the log partition function, the marginals and the expected moves.

    Args:
        block: scores of sequences of one length, shape (sequences, tokens, labels).
        moves: scores, shape (labels, labels).
        weights: of the sequences; they count in the first and the last that is returned.
    """
    steps, n_labels = range(block.shape[1]), block.shape[2]
    exp_moves = np.exp(moves)
    peaks = block.max(axis=2)
    mass = np.exp(block - peaks[:, :, None])
    alpha, scale = mass.copy(), np.empty(block.shape[:2])
    for t in steps:
        if t:
            alpha[:, t] *= alpha[:, t - 1] @ exp_moves
        scale[:, t] = alpha[:, t].sum(axis=1)
        alpha[:, t] /= scale[:, t, None]
    beta = np.ones_like(mass)
    for t in reversed(steps[:-1]):
        ahead = mass[:, t + 1] * beta[:, t + 1]
        beta[:, t] = ahead @ exp_moves.T / scale[:, t + 1, None]
    marginals = alpha * beta
    marginals /= marginals.sum(axis=2, keepdims=True)
    ahead = mass[:, 1:] * beta[:, 1:] / scale[:, 1:, None] * weights[:, None, None]
    pairs = alpha[:, :-1].reshape(-1, n_labels).T @ ahead.reshape(-1, n_labels)
    log_z = float(((np.log(scale) + peaks).sum(axis=1) * weights).sum())
    return log_z, marginals, exp_moves * pairs


def fit_chain(
    features: Sequence[np.ndarray], targets: Sequence[Sequence[str]], weights: np.ndarray
) -> Chain:
    """Train a chain; copies without half of the features spread the evidence.

    Args:
        features: of each sequence, shape (tokens, slots).
        targets: labels of its tokens.
        weights: how much each sequence counts.
    """
    from scipy.optimize import minimize

    random = np.random.default_rng(0)
    copies = [
        np.where(random.random(x.shape) < _DROP, 0, x) for _ in range(_COPIES) for x in features
    ]
    every = [
        *zip(
            [*features, *copies],
            [*targets] * (1 + _COPIES),
            np.tile(weights, 1 + _COPIES),
            strict=True,
        )
    ]
    every = sorted((s for s in every if len(s[0])), key=lambda s: len(s[0]))
    lengths = np.array([len(x) for x, _, _ in every])
    starts = np.cumsum([0, *lengths])
    labels = sorted({label for _, row, _ in every for label in row})
    n = len(labels)
    truth = np.array([labels.index(label) for _, row, _ in every for label in row])
    of_sequence = np.array([weight for _, _, weight in every])
    of_token = np.repeat(of_sequence, lengths)
    matrix, columns = _design(np.concatenate([x for x, _, _ in every]))
    follows = np.ones(len(truth), dtype=bool)
    follows[starts[:-1]] = False
    counts = np.zeros((n, n))
    np.add.at(counts, (truth[:-1][follows[1:]], truth[1:][follows[1:]]), of_token[1:][follows[1:]])
    right = np.zeros((len(truth), n))
    right[np.arange(len(truth)), truth] = 1
    transposed, size = matrix.T.tocsr(), len(columns) * n
    blocks = [list(same) for _, same in groupby(range(len(every)), key=lambda k: lengths[k])]

    def objective(values: np.ndarray) -> tuple[float, np.ndarray]:
        emissions, moves = values[:size].reshape(-1, n), values[size:-n].reshape(n, n)
        scores = matrix @ emissions
        scores[starts[:-1]] += values[-n:]
        value = -float(((scores * right).sum(axis=1) * of_token).sum() + (moves * counts).sum())
        slope, expected = np.empty_like(scores), -counts
        for block in blocks:
            rows = slice(starts[block[0]], starts[block[-1] + 1])
            part = scores[rows].reshape(len(block), -1, n)
            log_z, marginals, pairs = expectations(part, moves, of_sequence[block])
            value, expected = value + log_z, expected + pairs
            slope[rows] = (marginals.reshape(-1, n) - right[rows]) * of_token[rows, None]
        parts = [(transposed @ slope).ravel(), expected.ravel(), slope[starts[:-1]].sum(axis=0)]
        penalty = _PENALTY * (1 + _COPIES)
        return value + penalty * float(values @ values) / 2, np.concatenate(
            parts
        ) + penalty * values

    best = minimize(
        objective,
        np.zeros(size + n * n + n),
        jac=True,
        method="L-BFGS-B",
        options={"maxiter": _MOST_STEPS},
    ).x
    moves = best[size:-n].reshape(n, n)
    return Chain(labels, columns, best[:size].reshape(-1, n), moves, best[-n:])


def _design(tokens: np.ndarray) -> tuple[sparse.csr_matrix, np.ndarray]:
    """Return the 0/1 matrix of the features of all tokens, and the numbers of its columns."""
    flat, owner = tokens.ravel(), np.repeat(np.arange(len(tokens)), tokens.shape[1])
    ids, counts = np.unique(flat, return_counts=True)
    columns = ids[(counts >= _FEWEST) & (ids > 0)]
    columns = columns if len(columns) else np.ones(1, ids.dtype)
    spots = np.minimum(np.searchsorted(columns, flat), len(columns) - 1)
    in_use = columns[spots] == flat
    ones = np.ones(int(in_use.sum()), dtype=np.float32)
    cells = (owner[in_use], spots[in_use])
    return sparse.csr_matrix((ones, cells), (len(tokens), len(columns))), columns


_NEAR = 6
"""Tokens between the first spans of an element."""


@dataclass
class Segment:
    """A labelled span of a field; `opens` says that it begins an element of a list."""

    name: str
    first: int
    last: int
    opens: bool


@dataclass
class Labelling:
    """How the fields of a chain are read."""

    extractions: dict[str, Extraction]
    joined: list[str] = field(default_factory=list)
    """Fields whose values join spans that stand apart."""
    unstated: dict[str, Any] = field(default_factory=dict)
    """Values of keys of elements that the text does not state, such as a quantity of 1."""


class _Aligner:
    """Labels of one document, given field by field."""

    def __init__(self, document: Document, labelling: Labelling) -> None:
        self.document, self.extractions = document, labelling.extractions
        self.labels = ["O"] * len(document)
        self.cursor = 0

    def free(self, name: str, value: Any) -> list[tuple[int, int]]:
        """Return the spans of a value of which no token has a label."""
        every = spans(self.document, self.extractions[name], value)
        return [s for s in every if all(label == "O" for label in self.labels[s[0] : s[1] + 1])]

    def mark(self, name: str, span: tuple[int, int], opening: str = "I-") -> None:
        """Label a span."""
        for token in range(span[0], span[1] + 1):
            self.labels[token] = (opening if token == span[0] else "I-") + name

    def scalar(self, name: str, value: Any) -> None:
        """Label the first free span behind the last one, or before; else the words one by one."""
        span = min(self.free(name, value), key=lambda s: (s[0] < self.cursor, s[0]), default=None)
        if span is not None:
            self.mark(name, span)
            self.cursor = span[1] + 1
            return
        tokens: list[int] = []
        for word in str(value).split():
            start = tokens[-1] + 1 if tokens else 0
            places = range(start, len(self.document))
            is_free = (
                t for t in places if self.labels[t] == "O" and self.document.tokens[t] == word
            )
            if (token := next(is_free, None)) is None:
                return
            tokens.append(token)
        for token in tokens:
            self.mark(name, (token, token))

    def element(self, pairs: Sequence[tuple[str, Any]]) -> None:
        """Label the keys of an element near each other."""
        anchor, done = self.cursor, list[tuple[int, int]]()
        for name, value in sorted(pairs, key=lambda p: self.extractions[p[0]].reader != "text"):
            free = self.free(name, value)
            if done:
                near = [s for s in free if abs(s[0] - anchor) <= _NEAR]
                span = min(near, key=lambda s: (abs(s[0] - anchor), s[0]), default=None)
            else:
                span = min(free, key=lambda s: (s[0] < anchor, s[0]), default=None)
            if span is not None:
                self.mark(name, span, "B-")
                done.append(span)
                anchor = span[0]
        if done:
            first = min(done)[0]
            self.labels[first] = "S" + self.labels[first][1:]
            self.cursor = max(last for _, last in done) + 1


def align(
    document: Document, fields: Sequence[Field], answer: Mapping[str, Any], labelling: Labelling
) -> list[str]:
    """Return the labels of a document's tokens for an answer."""
    aligner = _Aligner(document, labelling)
    stated = [
        (f.name, value)
        for f in sorted(
            fields, key=lambda f: list(answer).index(f.path[0]) if f.path[0] in answer else 0
        )
        if not f.is_list and f.name in labelling.extractions
        if (value := f.value(answer)) is not None and not isinstance(value, bool)
    ]
    for name, value in stated:
        aligner.scalar(name, value)
    for pairs in _elements(fields, answer, labelling):
        aligner.element(pairs)
    for name, value in stated:  # further mentions
        for span in aligner.free(name, value) if len(str(value)) > 3 else ():
            if all(label == "O" for label in aligner.labels[span[0] : span[1] + 1]):
                aligner.mark(name, span)
    return aligner.labels


def _elements(
    fields: Sequence[Field], answer: Mapping[str, Any], labelling: Labelling
) -> list[list[tuple[str, Any]]]:
    """Return the elements of all lists, each as names and values of its fields."""
    rows = []
    for path in dict.fromkeys(f.path for f in fields if f.is_list):
        keys = [f for f in fields if f.path == path and f.name in labelling.extractions]
        for element in keys[0].elements(answer) if keys else ():
            values = [(f.name, f.inner(element)) for f in keys]
            rows.append([(name, value) for name, value in values if value is not None])
    return rows


def fit(
    documents: Sequence[Document],
    fields: Sequence[Field],
    answers: Sequence[Mapping[str, Any]],
    labelling: Labelling,
) -> list[list[str]]:
    """Return the labels of all rows; learn which fields join spans, and what is not stated."""
    rows = [align(d, fields, a, labelling) for d, a in zip(documents, answers, strict=True)]
    by_name = {f.name: f for f in fields}
    apart, unstated = Counter[str](), dict[str, Counter[Any]]()
    for document, labels, answer in zip(documents, rows, answers, strict=True):
        groups = segments(labels)
        for name, n in Counter(s.name for s in groups).items():
            words = " ".join(document.span(s.first, s.last) for s in groups if s.name == name)
            item = by_name[name]
            apart[name] += n > 1 and not item.is_list and words == item.value(answer)
        for pairs in _elements(fields, answer, labelling):
            for name, value in pairs:
                if not spans(document, labelling.extractions[name], value):
                    unstated.setdefault(name, Counter())[value] += 1
    labelling.joined = sorted(name for name, n in apart.items() if n >= 2)
    for name, counts in unstated.items():
        value, n = counts.most_common(1)[0]
        if n >= max(3, 0.8 * sum(counts.values())):
            labelling.unstated[name] = value
    return rows


def segments(labels: Sequence[str]) -> list[Segment]:
    """Return the spans of a sequence of labels; an `I-` without an opening opens one."""
    rows: list[Segment] = []
    for token, label in enumerate(labels):
        mark, name = label[0], label[2:]
        if mark == "I" and rows and rows[-1].name == name and rows[-1].last == token - 1:
            rows[-1].last = token
        elif mark != "O":
            rows.append(Segment(name, token, token, mark == "S"))
    return rows


def _value(document: Document, extraction: Extraction, first: int, last: int) -> Any:
    """Return a span as a value of its field; None if it has no reading."""
    if extraction.reader == "text":
        return STYLES[extraction.readings[0]](document.span(first, last))
    options = [r for t in range(first, last + 1) for r in readings(document, t, extraction.reader)]
    order = day_order(document) if extraction.reader == "date" else ""
    options.sort(key=lambda r: (r.way not in extraction.readings, r.way != order))
    return options[0].value if options else None


def scalar_value(
    document: Document,
    labelling: Labelling,
    name: str,
    groups: Sequence[Segment],
    certain: np.ndarray,
) -> Any:
    """Return a field's value: its spans joined, or the likeliest of them.

    Args:
        document: that was labelled.
        labelling: how fields are read.
        name: of the field.
        groups: its spans, at least one.
        certain: how likely the label of each token is.
    """
    extraction = labelling.extractions[name]
    if name in labelling.joined:
        words = " ".join(document.span(s.first, s.last) for s in groups)
        return STYLES[extraction.readings[0]](words)
    best = max(groups, key=lambda s: float(certain[s.first : s.last + 1].min()))
    return _value(document, extraction, best.first, best.last)


def elements(
    document: Document, labelling: Labelling, keys: Sequence[Field], groups: Sequence[Segment]
) -> list[Any]:
    """Return the elements of a list, in the order of the text.

    Args:
        document: that was labelled.
        labelling: how fields are read.
        keys: fields of the list.
        groups: spans of these.
    """
    rows: list[dict[str, Any]] = []
    for segment in groups:
        extraction = labelling.extractions[segment.name]
        value = _value(document, extraction, segment.first, segment.last)
        if value is None:
            continue
        if segment.opens or not rows or segment.name in rows[-1]:
            rows.append({})
        rows[-1][segment.name] = value
    made = []
    for row in rows:
        values = {f: row.get(f.name, labelling.unstated.get(f.name)) for f in keys}
        if all(f.allows(value) for f, value in values.items()):
            element = {
                f.key: v
                for f, v in values.items()
                if v is not None or f.key_absent is not Absent.MISSING
            }
            made.append(element if keys[0].key is not None else next(iter(values.values())))
    return made
