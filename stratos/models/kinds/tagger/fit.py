"""Fit a tagger: what reads each field is chosen by cross-validation, and the estimate is honest.

Rows of one wording, or layout, are held out together, as the next text may have a new one. The
accuracy is that of the chosen readers on rows that the choice has not seen (bootstrap
bias-corrected cross-validation, Tsamardinos, Greasidou, Borboudakis 2018).
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from stratos.core.intervals import wilson
from stratos.models.kinds.cross_validation import calibration_error
from stratos.models.kinds.features import Tfidf, fit_head
from stratos.models.kinds.tagger.fields import (
    ExtractionScore,
    Field,
    Form,
    amounts_of,
    extraction_scores,
    split,
)
from stratos.models.kinds.tagger.labels import Labelling, fit_chain
from stratos.models.kinds.tagger.labels import fit as fit_labels
from stratos.models.kinds.tagger.rank import Ranker
from stratos.models.kinds.tagger.rank import fit as fit_ranker
from stratos.models.kinds.tagger.spans import FEW, Extraction, Options, learn, learn_base, options
from stratos.models.kinds.tagger.tagged_text import N_LOCAL, Vocabulary, read
from stratos.models.kinds.tagger.tagger import (
    Draft,
    Few,
    Method,
    Readers,
    Tagger,
    assembled,
    calibrated,
    draft,
    fit_scale,
)
from stratos.tasks.answers import object_of, same
from stratos.tasks.readings import Wordings, folds_of

_N_FOLDS = 4
_FEWEST_ROWS = 10
_LEARNT_ROWS, _LEARNT_TOKENS = 600, 15_000
"""A fold learns from so many rows, or from more of short ones."""
_CHAIN_TOKENS = 60_000
"""Tokens that a chain learns from in a fold."""
_SHORT_TEXT = 40
"""Tokens of a text in which a chain is tried on scalars: in a long one, most are of no field."""
_READS = 0.2
"""Share of the values of a field that its reader has to explain."""
_CLEAR = 0.05
"""Lead in whole answers after one fold that ends the trial of the other readers."""
_STRENGTH = 30.0
_MARGIN = 0.5
"""Lead of ranking, over the root of the number of wordings: few of them tell little of others, and
ranking depends least on what it has seen."""
_SHARE_TESTED = 4
"""Wordings for each that a test holds: what is measured on so few varies as much as they do."""
_EVEN_ODDS = (0.0, 0.0)
"""Scale of answers to new wordings where nothing says how often these are right."""
_KNOWN_ROWS = 400
"""Rows of known layouts that are scored at most."""
_N_RESAMPLES = 200
_MOST_PARSED, _SAMPLE = 2_000, 80
"""Answers that `cannot_tag` parses, and texts that it reads."""
_PREFERENCES = (
    (Method.RANK, Method.FEW, Method.CHAIN),
    (Method.RANK, Method.FEW),
    (Method.CHAIN, Method.FEW),
    (Method.CHAIN,),
)
"""Sets of methods, of which each field takes the best: fields that share one agree better."""


@dataclass(frozen=True)
class FieldFit:
    """How one field is answered, and how well in cross-validation."""

    name: str
    method: Method
    score: ExtractionScore


@dataclass(frozen=True)
class TaggerFit:
    """A tagger, and what cross-validation shows of it."""

    tagger: Tagger
    """Fitted on all rows."""
    accuracy: float
    """Share of rows with the whole object right, without the optimism of the choice. In a fold,
    readers learn from 600 rows at most (more of short ones), so that more rows may do better."""
    low: float
    high: float
    """95% interval; whole layouts count as drawn, where they are held out."""
    fields: tuple[FieldFit, ...]
    calibration_error: float
    """Of probabilities that are scaled on other rows."""
    known: tuple[float, float, float]
    """Accuracy and its interval on rows whose layouts were learnt from other rows: the same where
    none are held out."""
    right: np.ndarray
    """Whether each row is answered right by readers that have not seen it, shape (rows,)."""
    holds_out_layouts: bool
    """Whether rows of a layout are held out together; else rows are, at random."""
    n_layouts: int
    n_rows: int
    cpu_seconds: float

    @property
    def expected(self) -> tuple[float, float, float]:
        """Accuracy on new wordings, with ends that hold the high end of known ones, too."""
        return self.accuracy, self.low, max(self.high, self.known[2])


def fit_tagger(
    texts: Sequence[str],
    answers: Sequence[str],
    *,
    row_weights: np.ndarray | None = None,
    seed: int = 0,
    tick: Callable[[], None] = lambda: None,
    schema: Mapping[str, Any] | None = None,
) -> TaggerFit:
    """Cross-validate the readers of each field, and fit the best ones on all rows.

    Args:
        texts: of the rows, at least ten.
        answers: JSON objects as texts.
        row_weights: how much each row counts in training, shape (rows,).
        seed: of folds and resamples.
        tick: called before each fit.
        schema: JSON Schema that every answer of the tagger matches.

    Raises:
        ValueError: there are too few rows, an answer is no JSON object, or none matches the schema.
    """
    began = time.process_time()
    weights = np.ones(len(texts)) if row_weights is None else np.asarray(row_weights, float)
    objects = _objects(answers)
    amounts = () if schema is not None else amounts_of(texts, objects)
    apart = [split(answer, amounts) for answer in objects]
    study = _Study(texts, apart, weights, seed, tick, schema)
    study.run()
    right_by_method = study.right_by_method()
    methods = study.chosen(right_by_method, np.arange(len(texts)))[0]
    pairs = [assembled(study.form, methods, made) for made in study.drafts]
    right = np.array([same(o, a) for o, (a, _) in zip(study.answers, pairs, strict=True)])
    raw = np.array([p for _, p in pairs])
    unseen = np.empty(len(right))
    for fold in np.unique(study.folds):
        in_fold = study.folds == fold
        scale = fit_scale(raw[~in_fold], right[~in_fold], study.n_wordings(~in_fold))
        unseen[in_fold] = [calibrated(p, scale) for p in raw[in_fold]]
    accuracy, low, high = study.estimate(right_by_method, right)
    known = accuracy, low, high
    scale = scale_new = fit_scale(raw, right, study.n_wordings(np.ones(len(right), bool)))
    if study.holds_out_layouts:
        known_raw, known_right = study.of_known_layouts(methods)
        interval = wilson(int(known_right.sum()), len(known_right))
        known = interval.mean, interval.low, interval.high
        scale = fit_scale(known_raw, known_right)
    elif len(study.wordings.centres):
        scale_new = _EVEN_ODDS
    readers = study.readers(np.arange(len(texts)), methods)
    tagger = Tagger(study.form, methods, readers, scale, amounts, scale_new, study.wordings)
    scores = extraction_scores(study.answers, [answer for answer, _ in pairs])
    return TaggerFit(
        tagger,
        accuracy,
        low,
        high,
        tuple(FieldFit(name, methods[name], scores[name]) for name in study.form.names),
        calibration_error(unseen, right),
        known,
        right,
        study.holds_out_layouts,
        study.n_layouts,
        len(texts),
        time.process_time() - began,
    )


def fit_again(
    tagger: Tagger,
    texts: Sequence[str],
    answers: Sequence[str],
    *,
    seed: int = 0,
    schema: Mapping[str, Any] | None = None,
) -> Tagger:
    """Fit a tagger on more rows, with the readers and the calibration that it was measured with.

    Args:
        tagger: as `fit_tagger` has chosen it.
        texts: of all rows.
        answers: JSON objects as texts.
        seed: as of `fit_tagger`.
        schema: as of `fit_tagger`.
    """
    apart = [split(answer, tagger.amounts) for answer in _objects(answers)]
    study = _Study(texts, apart, np.ones(len(texts)), seed, lambda: None, schema)
    methods = {}
    for name, able in study.able.items():
        chosen = tagger.methods.get(name)
        methods[name] = chosen if chosen in able else next(iter(able), Method.CANNOT)
    readers = study.readers(np.arange(len(texts)), methods)
    made = replace(tagger, form=study.form, methods=methods, readers=readers)
    return replace(made, wordings=study.wordings)


def cannot_tag(texts: Sequence[str], answers: Sequence[str]) -> str | None:
    """Return why a tagger is no candidate for rows, by a sample of them; None if it is one."""
    rows = np.random.default_rng(0).permutation(len(texts))[:_MOST_PARSED]
    try:
        objects = _objects([answers[k] for k in rows])
        amounts = amounts_of([texts[k] for k in rows], objects)
        objects = [split(answer, amounts) for answer in objects]
        form = Form.of_rows(objects)
    except ValueError as error:
        return f"{error}"
    if not form.fields:
        return "the answers have no fields"
    unread = []
    sample = [texts[k] for k in rows[:_SAMPLE]]
    shares = _Reading.of_rows(sample, objects[:_SAMPLE], form).shares
    for name in form.names:
        fields = [f for f in form.fields if f.whole == name]
        reads = all(f.types and shares.get(f.name, 0.0) >= 0.5 for f in fields)
        values = [field.value(answer) for answer in objects for field in fields[:1]]
        if not reads and not _are_few(values):
            example = next((value for value in values if value not in (None, "")), "")
            unread.append(f"{name} (such as {json.dumps(example, ensure_ascii=False)})")
    if not unread:
        return None
    return (
        f"values that stand neither in the text nor are few: {', '.join(unread)}. Where such a "
        "value is made of parts that stand in the text, give each part a field of its own"
    )


def _objects(answers: Sequence[str]) -> list[dict[str, Any]]:
    if len(answers) < _FEWEST_ROWS:
        raise ValueError(f"a tagger needs at least {_FEWEST_ROWS} rows, and has {len(answers)}")
    objects = [object_of(answer) for answer in answers]
    parsed = [answer for answer in objects if answer is not None]
    if len(parsed) < len(objects):
        raise ValueError("not every answer is a JSON object")
    return parsed


def _are_few(values: Sequence[Any]) -> bool:
    return len({json.dumps(v, sort_keys=True) for v in values}) <= min(FEW, len(values) / 5)


@dataclass(frozen=True)
class _Reading:
    """How leaves are read."""

    spaced: bool
    """Whether tokens end at white space alone."""
    extractions: dict[str, Extraction]
    """Of scalars in the order in which they are read, bases first; then of lists."""
    shares: dict[str, float]
    """Of the values that an extraction explains."""

    @classmethod
    def of_rows(
        cls, texts: Sequence[str], answers: Sequence[Mapping[str, Any]], form: Form
    ) -> _Reading:
        """Return how the values of rows are read best."""
        options = [cls._of_rows(texts, answers, form, spaced=spaced) for spaced in (True, False)]
        return max(options, key=lambda option: round(sum(option.shares.values()), 9))

    @classmethod
    def _of_rows(
        cls, texts: Sequence[str], answers: Sequence[Mapping[str, Any]], form: Form, *, spaced: bool
    ) -> _Reading:
        documents = [read(text, spaced=spaced) for text in texts]
        learnt = {}
        for item in form.fields:
            leaves = [
                (d, v) for d, a in zip(documents, answers, strict=True) for v in item.leaves(a)
            ]
            known = [(document, v) for document, v in leaves if not isinstance(v, bool)]
            learnt[item.name] = learn(item.name, known)
        columns = {f.name: [f.value(a) for a in answers] for f in form.fields if not f.is_list}
        related: dict[str, tuple[Extraction, float]] = {}
        # dates and numbers get a base: the field of the same reader that is filled most often
        for name in sorted(columns, key=lambda name: sum(v is None for v in columns[name])):
            extraction, share = learnt.pop(name)
            bases = [n for n, (e, _) in related.items() if e.reader == extraction.reader]
            if bases and extraction.reader in ("date", "number"):
                extraction = replace(extraction, base=bases[0])
            if bases and extraction.reader == "date":
                base_columns = {n: columns[n] for n in bases}
                extraction, more = learn_base(extraction, documents, columns[name], base_columns)
                share += more
            related[name] = (extraction, share)
        related |= learnt
        extractions = {n: e for n, (e, share) in related.items() if share > _READS}
        return cls(spaced, extractions, {name: share for name, (_, share) in related.items()})


class _Study:
    """Rows under cross-validation."""

    def __init__(
        self,
        texts: Sequence[str],
        answers: Sequence[Mapping[str, Any]],
        weights: np.ndarray,
        seed: int,
        tick: Callable[[], None],
        schema: Mapping[str, Any] | None,
    ) -> None:
        self.texts, self.answers, self.weights = list(texts), list(answers), weights
        self.seed, self.tick = seed, tick
        self.form = Form.of_rows(answers, schema)
        self.columns = {f.name: [f.value(a) for a in answers] for f in self.form.fields}
        sample = np.random.default_rng(seed).permutation(len(texts))[:1000]
        reading = _Reading.of_rows(
            [texts[k] for k in sample], [answers[k] for k in sample], self.form
        )
        self.spaced, self.extractions = reading.spaced, reading.extractions
        self.documents = [read(text, spaced=self.spaced) for text in texts]
        n_tokens = [len(document) for document in self.documents]
        self.mean_tokens = max(float(np.mean(n_tokens)), 1.0)
        self.is_short = bool(np.median(n_tokens) < _SHORT_TEXT)
        self.wordings, self.layouts = Wordings.among(texts, answers)
        self.folds, self.holds_out_layouts = folds_of(self.layouts, _N_FOLDS, seed)
        self.n_layouts = len(np.unique(self.layouts))
        least = 3 if len(texts) > 200 and not self.is_short else 2
        self.vocabulary = Vocabulary.fitted(self.documents, least)
        self.features = [self.vocabulary.features(document) for document in self.documents]
        self.able = {name: self._able(name) for name in self.form.names}
        self.tfidf: Tfidf | None = None
        self.terms: Any = None
        if any(Method.FEW in able for able in self.able.values()):
            self.tfidf = Tfidf().fitted(self.texts)  # of texts alone, so that folds can share it
            self.terms = self.tfidf.transform(self.texts)
        self._options: dict[tuple[str, int], Options] = {}
        self.drafts = [Draft() for _ in texts]

    def _able(self, name: str) -> list[Method]:
        """Return the methods that can be tried on a scalar or a list."""
        fields = [f for f in self.form.fields if f.whole == name]
        first = fields[0]
        extraction = self.extractions.get(first.name)
        able = []
        if extraction is not None and not first.is_list and first.types:
            able.append(Method.RANK)
        if _are_few(self.columns[first.name]):
            able.append(Method.FEW)
        if first.is_list:
            is_read = all(f.name in self.extractions and f.types for f in fields)
        else:
            is_read = self.is_short and Method.RANK in able
        if is_read and all(self.extractions[f.name].reader != "lexicon" for f in fields):
            able.append(Method.CHAIN)
        return able

    def run(self) -> None:
        """Answer each row with readers that have not seen it.

        After the first fold, ranking or the chain is dropped if the other is right far more often;
        not where it holds a few wordings, which say too little of others.
        """
        random = np.random.default_rng(self.seed)
        most = max(_LEARNT_ROWS, int(_LEARNT_TOKENS / self.mean_tokens))
        for fold in np.unique(self.folds):
            learnt, unseen = (
                np.flatnonzero(flags) for flags in (self.folds != fold, self.folds == fold)
            )
            readers = self.readers(np.sort(random.permutation(learnt)[:most]), None)
            for row in unseen:
                terms = self.terms[row : row + 1] if self.terms is not None else None
                document, features = self.documents[row], self.features[row]
                self.drafts[row] = draft(readers, self.form, document, features, terms)
            if fold == 0 and self.is_short and not self.holds_out_layouts:
                self._drop(unseen)

    def of_known_layouts(self, methods: Mapping[str, Method]) -> tuple[np.ndarray, np.ndarray]:
        """Return how likely each of a random quarter of the rows is, and whether it is right."""
        order = np.random.default_rng(self.seed).permutation(len(self.documents))
        n_held = min(_KNOWN_ROWS, max(1, len(order) // 4))
        tested, learnt = order[:n_held], order[n_held:]
        most = max(_LEARNT_ROWS, int(_LEARNT_TOKENS / self.mean_tokens))
        readers = self.readers(np.sort(learnt[:most]), methods)
        raw, right = [], []
        for row in tested:
            terms = self.terms[row : row + 1] if self.terms is not None else None
            made = draft(readers, self.form, self.documents[row], self.features[row], terms)
            answer, p = assembled(self.form, methods, made)
            raw.append(p)
            right.append(same(self.answers[row], answer))
        return np.array(raw), np.array(right)

    def n_wordings(self, rows: np.ndarray) -> int | None:
        """Return how many wordings rows have, where these are held out whole; else None."""
        return len(np.unique(self.layouts[rows])) if self.holds_out_layouts else None

    def _drop(self, rows: np.ndarray) -> None:
        right = self.right_by_method()
        share = {
            method: self.chosen(right, rows, [(method, Method.FEW)])[1][rows].mean()
            for method in (Method.RANK, Method.CHAIN)
        }
        worse = min(share, key=lambda method: share[method])
        if max(share.values()) - share[worse] > _CLEAR:
            for able in self.able.values():
                if worse in able and len(able) > 1:
                    able.remove(worse)

    def readers(self, rows: np.ndarray, methods: Mapping[str, Method] | None) -> Readers:
        """Train the readers of the chosen methods on rows, or those of all methods."""

        def uses(item: Field, method: Method) -> bool:
            return method in (self.able[item.whole] if methods is None else [methods[item.whole]])

        fields = self.form.fields
        readers = Readers(self.vocabulary, self.spaced, self.is_short)
        ranked = {f.name for f in fields if uses(f, Method.RANK)}
        ranked |= {self.extractions[name].base or name for name in ranked}
        for name in self.extractions:
            if name in ranked:
                self.tick()
                readers.rankers[name] = self._ranker(name, rows)
        for item in fields:
            if uses(item, Method.FEW) and item.whole not in readers.few and self.terms is not None:
                self.tick()
                readers.tfidf = self.tfidf
                readers.few[item.whole] = self._few(item, rows)
        chained = [f for f in fields if uses(f, Method.CHAIN)]
        if chained:
            self.tick()
            most = max(50, int(_CHAIN_TOKENS / self.mean_tokens))
            if methods is None and len(rows) > most:
                rows = np.random.default_rng(self.seed).permutation(rows)[:most]
            self._add_chain(readers, chained, rows)
        return readers

    def _ranker(self, name: str, rows: np.ndarray) -> Ranker:
        extraction, column = self.extractions[name], self.columns[name]
        bases = self.columns[extraction.base] if extraction.base else [None] * len(column)
        for row in map(int, rows):
            if (name, row) not in self._options:
                choice = options(self.documents[row], extraction, bases[row])
                self._options[name, row] = choice
        return fit_ranker(
            extraction,
            [self.features[k] for k in rows],
            [self._options[name, int(k)] for k in rows],
            [column[k] for k in rows],
            self.weights[rows],
            self.layouts[rows],
            self.vocabulary,
        )

    def _few(self, item: Field, rows: np.ndarray) -> Few:
        texts = [json.dumps(self.columns[item.name][k], ensure_ascii=False) for k in rows]
        values = tuple(sorted(set(texts)))
        numbers = np.array([values.index(text) for text in texts])
        head = fit_head(self.terms[rows], numbers, len(values), _STRENGTH, self.weights[rows])
        return Few(values, head)

    def _add_chain(self, readers: Readers, fields: Sequence[Field], rows: np.ndarray) -> None:
        readers.labelling = Labelling({f.name: self.extractions[f.name] for f in fields})
        documents, answers = [self.documents[k] for k in rows], [self.answers[k] for k in rows]
        targets = fit_labels(documents, fields, answers, readers.labelling)
        if not any(map(set, targets)):
            return  # only empty texts
        columns = N_LOCAL if self.is_short else None
        features = [self.features[k][:, :columns] for k in rows]
        readers.chain = fit_chain(features, targets, self.weights[rows])

    def right_by_method(self) -> dict[tuple[Method, str], np.ndarray]:
        """Return which rows each method has right, by method and name of a scalar or list."""
        right = {}
        for name in self.form.names:
            column = self.columns[next(f.name for f in self.form.fields if f.whole == name)]
            for method in self.able[name]:
                values = [made.values.get((method, name), (None, 0.0))[0] for made in self.drafts]
                # a list without elements is null in some rows
                pairs = (
                    (g if g != [] else None, v if v != [] else None)
                    for g, v in zip(column, values, strict=True)
                )
                right[method, name] = np.array([same(g, v) for g, v in pairs])
        return right

    def chosen(
        self,
        right: Mapping[tuple[Method, str], np.ndarray],
        rows: np.ndarray,
        preferences: Sequence[Sequence[Method]] = _PREFERENCES,
    ) -> tuple[dict[str, Method], np.ndarray]:
        """Return the methods with which most of some rows are right, and which of all rows are."""
        best: tuple[float, dict[str, Method], np.ndarray] | None = None
        margin = _MARGIN / np.sqrt(self.n_layouts) if self.holds_out_layouts else 0.0
        shares = {
            (method, name): float(flags[rows].mean()) + margin * (method is Method.RANK)
            for (method, name), flags in right.items()
        }
        for preferred in preferences:
            methods, whole = {}, np.ones(len(self.texts), bool)
            for name, able in self.able.items():
                options = [m for m in able if m in preferred] or able
                methods[name] = max(options, key=lambda m: shares[m, name], default=Method.CANNOT)
                whole = whole & right.get((methods[name], name), False)
            share = float(whole[rows].mean())
            if best is None or share > best[0] + margin:
                best = (share, methods, whole)
        assert best is not None
        return best[1], best[2]

    def estimate(
        self, by_method: Mapping[tuple[Method, str], np.ndarray], right: np.ndarray
    ) -> tuple[float, float, float]:
        """Return accuracy, low and high.

        Resamples draw layouts where these are held out, else rows, and choose methods again.
        """
        n = len(right)
        units = self.layouts if self.holds_out_layouts else np.arange(n)
        names, unit_of = np.unique(units, return_inverse=True)
        random, means = np.random.default_rng(self.seed), []
        rows_of = [np.flatnonzero(unit_of == k) for k in range(len(names))]
        for _ in range(_N_RESAMPLES if any(len(a) > 1 for a in self.able.values()) else 0):
            drawn = random.integers(0, len(names), len(names))
            left_out = np.setdiff1d(np.arange(len(names)), drawn)
            if len(left_out):
                whole = self.chosen(by_method, np.concatenate([rows_of[k] for k in drawn]))[1]
                means.append(whole[np.concatenate([rows_of[k] for k in left_out])].mean())
        accuracy = float(np.mean(means)) if means else float(right.mean())
        # the number of independent rows that would vary as much as layouts do
        n_units, sizes = len(names), np.bincount(unit_of)
        gaps = np.bincount(unit_of, right) - sizes * right.mean()
        variance = float((gaps**2).sum()) / n**2 * n_units / max(n_units - 1, 1)
        spread = float(right.mean() * (1 - right.mean()))
        n_rows = min(float(n), spread / variance) if variance > 0 else float(n_units)
        if self.holds_out_layouts and variance > 0:
            n_rows /= 1 + _SHARE_TESTED
        n_rows = max(1, round(n_rows))
        interval = wilson(accuracy * n_rows, n_rows)
        return accuracy, interval.low, interval.high
