"""A student for text to JSON: it copies values from the text, or chooses among few."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from typing_extensions import override

from stratos.models.kinds.base import FILE, WEIGHTS, Prediction, Predictor
from stratos.models.kinds.features import Arrays, Head, Tfidf
from stratos.models.kinds.tagger import labels
from stratos.models.kinds.tagger.fields import Amount, Field, Form, joined
from stratos.models.kinds.tagger.labels import Chain, Labelling
from stratos.models.kinds.tagger.rank import Ranker
from stratos.models.kinds.tagger.tagged_text import N_LOCAL, Document, Vocabulary, read
from stratos.tasks.answers import written
from stratos.tasks.readings import Wordings

_UNREAD = 0.05
"""Probability of what stands for a field that no reader has a value of."""


class Method(Enum):
    """How a field is answered."""

    RANK = "ranked spans"
    """The likeliest of all values that the text holds."""
    FEW = "classifier"
    """The likeliest of the few values that rows show."""
    CHAIN = "token labels"
    """Spans of tokens that a chain labels."""
    CANNOT = "cannot"
    """Its values stand neither in the text nor are few."""


@dataclass(frozen=True)
class Few:
    """A classifier of few values."""

    values: tuple[str, ...]
    """As JSON texts."""
    head: Head

    def distribution(self, features: Any) -> dict[Any, float]:
        """Return the probability of each value; `features` has shape (1, features)."""
        mass = np.exp(self.head.log_probabilities(features)[0])
        return {value: float(p) for value, p in zip(self.values, mass, strict=True)}


@dataclass
class Readers:
    """What fields are read with; the names of `rankers` and `few` are those of fields."""

    vocabulary: Vocabulary
    spaced: bool
    """Whether tokens end at white space alone."""
    is_local: bool
    """Whether the chain sees a token's neighbours alone, not the layout."""
    rankers: dict[str, Ranker] = field(default_factory=dict)
    """Those of base fields come first."""
    tfidf: Tfidf | None = None
    few: dict[str, Few] = field(default_factory=dict)
    labelling: Labelling | None = None
    chain: Chain | None = None


@dataclass
class Draft:
    """Values of one text with their probabilities, by method and name of the scalar or list."""

    values: dict[tuple[Method, str], tuple[Any, float]] = field(default_factory=dict)
    path: float = 1.0
    """Probability of all labels of the chain together."""


def draft(
    readers: Readers,
    form: Form,
    document: Document,
    features: np.ndarray | None = None,
    terms: Any = None,
) -> Draft:
    """Answer every field with every reader that there is.

    Args:
        readers: trained.
        form: of answers.
        document: to read.
        features: of its tokens, if they are known.
        terms: TF-IDF of the text, shape (1, features), if a classifier is to answer.
    """
    made = Draft()
    if not len(document):
        return made
    by_name = {item.whole: item for item in form.fields}
    features = readers.vocabulary.features(document) if features is None else features
    bases: dict[str | None, Any] = {}
    for name, ranker in readers.rankers.items():
        values = ranker.distribution(document, features, bases.get(ranker.extraction.base))
        made.values[Method.RANK, name] = _likeliest(by_name[name], values)
        bases[name] = made.values[Method.RANK, name][0]
    for name, few in readers.few.items() if terms is not None else ():
        best = sorted(few.distribution(terms).items(), key=lambda pair: -pair[1])[0]
        made.values[Method.FEW, name] = (json.loads(best[0]), best[1])
    if readers.chain is not None and readers.labelling is not None:
        columns = N_LOCAL if readers.is_local else None
        path, certain, made.path = readers.chain.decode(features[:, :columns])
        for name, value, p in _labelled(readers.labelling, form, document, path, certain):
            made.values[Method.CHAIN, name] = (value, p)
    return made


def _likeliest(item: Field, distribution: Mapping[Any, float]) -> tuple[Any, float]:
    """Return the likeliest value that can stand in the field."""
    for value, p in sorted(distribution.items(), key=lambda pair: -pair[1]):
        if item.allows(value):
            return value, p
    return None, _UNREAD


def _labelled(
    labelling: Labelling, form: Form, document: Document, path: Sequence[str], certain: np.ndarray
) -> Iterator[tuple[str, Any, float]]:
    """Yield name, value and probability of each field that the chain reads."""
    segments = labels.segments(path)
    for name in form.names:
        keys = [f for f in form.fields if f.whole == name and f.name in labelling.extractions]
        groups = [s for s in segments if s.name in {f.name for f in keys}]
        p = min((float(certain[s.first : s.last + 1].min()) for s in groups), default=0.9)
        if keys and keys[0].is_list:
            yield name, labels.elements(document, labelling, keys, groups), p
        elif keys:
            value = None
            if groups:
                value = labels.scalar_value(document, labelling, name, groups, certain)
            yield (name, value, p) if keys[0].allows(value) else (name, None, _UNREAD)


def assembled(
    form: Form, methods: Mapping[str, Method], made: Draft
) -> tuple[dict[str, Any], float]:
    """Return the answer by the methods of the fields, and how likely it is before calibration."""
    p = made.path if Method.CHAIN in methods.values() else 1.0
    values = {}
    for name, method in methods.items():
        values[name], share = made.values.get((method, name), (None, _UNREAD))
        p *= 1.0 if method is Method.CHAIN else share  # the path has it
    answer, is_valid = form.built(values)
    return answer, p if is_valid else 0.0


@dataclass(frozen=True)
class Tagger(Predictor):
    """Answers a text with a JSON object, and how likely all of it is right."""

    format = "tagger"
    about = (
        "a tagger that writes values of the text, or of a list, into JSON; where a schema wants a "
        "value that it has not read, one of its rows stands, with a low probability"
    )
    pipeline = "token-classification"
    holds_words = True

    form: Form
    methods: dict[str, Method]
    """Of each scalar and list."""
    readers: Readers
    scale: tuple[float, float] = (1.0, 0.0)
    """Slope and shift of the log odds: Platt scaling."""
    amounts: tuple[Amount, ...] = ()
    """Fields that are read as a number and a unit."""
    scale_new: tuple[float, float] = (1.0, 0.0)
    """The same for a text of a wording that no row shows, which is never taken for surer."""
    wordings: Wordings = field(default_factory=Wordings)

    @override
    def _predict(self, texts: Sequence[str]) -> list[Prediction]:
        readers, predictions = self.readers, []
        terms = readers.tfidf.transform(texts) if readers.tfidf is not None and texts else None
        for k, text in enumerate(texts):
            row = terms[k : k + 1] if terms is not None else None
            made = draft(readers, self.form, read(text, spaced=readers.spaced), terms=row)
            answer, p = assembled(self.form, self.methods, made)
            whole = joined(answer, self.amounts)
            likely = calibrated(p, self.scale)
            if not self.wordings.knows(text, whole):
                likely = min(likely, calibrated(p, self.scale_new))
            predictions.append(Prediction(written(whole), likely))
        return predictions

    @property
    @override
    def n_params(self) -> int:
        return sum(array.size for array in self._described()[1].values())

    @override
    def save(self, folder: Path) -> None:
        from safetensors.numpy import save_file

        described, arrays = self._described()
        folder.mkdir(parents=True, exist_ok=True)
        save_file({name: np.ascontiguousarray(a) for name, a in arrays.items()}, folder / WEIGHTS)
        text = json.dumps({"format": self.format, **described}, ensure_ascii=False)
        (folder / FILE).write_text(text, encoding="utf-8")

    def _described(self) -> tuple[dict[str, Any], Arrays]:
        """Return the tagger as JSON in which names stand for arrays, and these."""
        arrays: Arrays = {}

        def plain(value: Any) -> Any:
            if isinstance(value, np.ndarray):
                arrays[f"array_{len(arrays)}"] = value
                return f"array_{len(arrays) - 1}"
            return value.state() if isinstance(value, Tfidf) else value.names

        return msgspec.to_builtins(self, enc_hook=plain), arrays

    @classmethod
    @override
    def load(cls, folder: Path) -> Tagger:
        from safetensors.numpy import load_file

        arrays = load_file(folder / WEIGHTS)

        def made(kind: type, value: Any) -> Any:
            if kind is np.ndarray:
                return arrays[value]
            if kind is Vocabulary:
                return Vocabulary(value)
            settings, own = value
            return Tfidf.of_state(settings, {n: arrays[a] for n, a in own.items()}, folder)

        described = json.loads((folder / FILE).read_text(encoding="utf-8"))
        return msgspec.convert(described, cls, dec_hook=made)


def log_odds(p: float) -> float:
    """Return log(p / (1 - p)), cut at both ends."""
    p = min(max(p, 1e-6), 1 - 1e-6)
    return float(np.log(p / (1 - p)))


def calibrated(p: float, scale: tuple[float, float]) -> float:
    """Return a probability after scaling its log odds."""
    return float(1 / (1 + np.exp(-(scale[0] * log_odds(p) + scale[1]))))


def fit_scale(
    raw: np.ndarray, right: np.ndarray, n_wordings: int | None = None
) -> tuple[float, float]:
    """Return slope and shift that suit answers best which were not learnt from (Platt 1999).

    Args:
        raw: probabilities, shape (rows,).
        right: whether each answer is right.
        n_wordings: how many the rows have, which are as many answers; a probability that few of
            them support says little, so that the slope starts from none. None counts rows.
    """
    from scipy.optimize import minimize

    x = np.array([log_odds(p) for p in raw])
    n_right = int(right.sum())  # Platt's targets: one more right and one more wrong answer
    target = np.where(right, (n_right + 1) / (n_right + 2), 1 / (len(right) - n_right + 2))

    def loss(weights: np.ndarray) -> float:
        scores = weights[0] * x + weights[1]
        misfit = (np.logaddexp(0, scores) - target * scores).sum()
        if n_wordings is not None:
            return float(misfit * n_wordings / len(raw) + 2 * weights[0] ** 2)
        return float(misfit + 0.01 * ((weights[0] - 1) ** 2 + weights[1] ** 2))

    best = minimize(loss, np.array([1.0, 0.0]), method="L-BFGS-B", bounds=[(0.02, 5), (-20, 20)])
    return float(best.x[0]), float(best.x[1])
