"""The TF-IDF baseline with logistic regression."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

MOST_ANSWERS = 200
"""Different answers above which a classifier is not tried."""
_ROWS_PER_ANSWER = 2
"""Training rows that there have to be of an answer, on average."""
_STRENGTHS = (1.0, 10.0, 100.0)
"""Inverse strengths of regularisation among which cross-validation chooses."""
_N_FOLDS = 3
_MOST_COMPARED = 1_000
"""Training rows on which the strengths are compared; more of them hardly change the choice."""
_TOLERANCE, _MOST_STEPS = 1e-3, 100
"""Where a fit ends: a baseline needs labels, not the last digits of their probabilities."""


def is_short(answers: Sequence[str]) -> bool:
    """Return whether the answers of training rows are a set that a classifier can learn."""
    n = len(set(answers))
    return 2 <= n <= min(MOST_ANSWERS, len(answers) // _ROWS_PER_ANSWER)


def classify(
    texts: Sequence[str],
    answers: Sequence[str],
    asked: Sequence[str],
    tick: Callable[[], None] = lambda: None,
) -> list[str]:
    """Return the answer to each text that a classifier of the training rows gives.

    Features are words and pairs of words, and runs of two to four letters, weighed by TF-IDF. The
    strength of regularisation is chosen by cross-validation on training rows.

    It fits on one thread. The matrices are small: threads of BLAS would wait for each other most of
    the time, and use several times the CPU seconds.

    Args:
        texts: training questions.
        answers: their answers, `is_short`.
        asked: texts to answer.
        tick: called before each fit.
    """
    from threadpoolctl import threadpool_limits

    with threadpool_limits(limits=1):
        strength = _strength(texts[:_MOST_COMPARED], answers[:_MOST_COMPARED], tick)
        tick()
        features = _features()
        model = _model(strength).fit(features.fit_transform(texts), answers)
        return [str(answer) for answer in model.predict(features.transform(asked))]


def _strength(texts: Sequence[str], answers: Sequence[str], tick: Callable[[], None]) -> float:
    """Return the strength that answers most rows right which it did not learn.

    Rows of an answer with fewer rows than folds are left out: some fold would have none to learn.
    """
    from sklearn.model_selection import StratifiedKFold

    n_rows = Counter(answers)
    rows = [k for k, answer in enumerate(answers) if n_rows[answer] >= _N_FOLDS]
    texts, answers = [texts[k] for k in rows], [answers[k] for k in rows]
    if len(set(answers)) < 2:
        return _STRENGTHS[1]
    n_right = dict.fromkeys(_STRENGTHS, 0)
    for learnt, held in StratifiedKFold(_N_FOLDS, shuffle=True, random_state=0).split(
        texts, answers
    ):
        features = _features()
        known = features.fit_transform([texts[k] for k in learnt])
        new = features.transform([texts[k] for k in held])
        for strength in _STRENGTHS:
            tick()
            model = _model(strength).fit(known, [answers[k] for k in learnt])
            right = zip(model.predict(new), held, strict=True)
            n_right[strength] += sum(answer == answers[k] for answer, k in right)
    return max(_STRENGTHS, key=lambda one: n_right[one])


def _features() -> Any:
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.pipeline import FeatureUnion

    return FeatureUnion(
        [
            ("words", TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, token_pattern=r"\w+")),
            ("letters", TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 4), sublinear_tf=True)),
        ]
    )


def _model(strength: float) -> Any:
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(C=strength, tol=_TOLERANCE, max_iter=_MOST_STEPS)
