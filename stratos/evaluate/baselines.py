"""Free baselines: random guess, most frequent answer, nearest row, TF-IDF classifier.

None of these needs a language model, and none costs anything. They learn from the labelled rows of
the task's file, those of its validation among them, and from the corpus: from all that a student
could learn from, whichever the run trains.
"""

from __future__ import annotations

import json
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from stratos.evaluate.metrics import by_slice, confusion, field_shares, mean, objects_of
from stratos.models.kinds.student_kinds import MOST_ROWS
from stratos.records import Interval, ModelScore, Replay, SliceScore
from stratos.synthesize.admission import labelled_rows
from stratos.tasks.answers import Path as FieldPath
from stratos.tasks.answers import as_key, fields_of, nested, written
from stratos.tasks.base import Item, Score, Task, Walks
from stratos.tasks.label_sets import labels_of
from stratos.tasks.label_sets import written as set_written

FITTING = "fitting the free baselines"
"""What a stage says while it does that."""


@dataclass(frozen=True)
class Baseline:
    """One baseline on some items."""

    score: ModelScore
    scores: tuple[Score, ...]
    """In the order of the items."""


def free_baselines(
    task: Task,
    train: Sequence[Item],
    items: Sequence[Item],
    tick: Callable[[], None] = lambda: None,
) -> list[Baseline]:
    """Score what needs no model: the most frequent answer, the nearest row, a classifier.

    Where all answers are JSON objects, the classifier is taken of each field by itself, and so is
    the most frequent value, unless one whole object is right more often on the training items. A
    field with too many values for the classifier takes the nearest row's.

    Args:
        task: reads and compares the answers.
        train: labelled items to learn from.
        items: to answer.
        tick: called before each step that takes a while.
    """
    if not train or not items:
        return []
    tick()
    baselines = untrained(task, train, items)
    answers = _one_spelling([item.answer for item in train], task.normal)
    [*_, (_, _, nearest)] = baselines
    linear: list[str] | None
    if task.has_several_labels:
        linear = _one_vs_rest(train, answers, items, tick)
    else:
        linear = _linear(train, answers, items, nearest, tick)
    if linear is not None:
        baselines.append(("linear", "TF-IDF with logistic regression", linear))
    return [_baseline(role, name, task, items, texts) for role, name, texts in baselines]


def untrained(
    task: Task, train: Sequence[Item], items: Sequence[Item]
) -> list[tuple[str, str, list[str]]]:
    """Return what learns nothing: the role, the name and the answers of each baseline.

    Args:
        task: reads and compares the answers.
        train: labelled items, at least one.
        items: to answer.
    """
    answers = _one_spelling([item.answer for item in train], task.normal)
    baselines = [("majority", "the most frequent answer", [_majority(task, answers)] * len(items))]
    if (usual := task.in_situation(train, items)) is not None:
        baselines.append(("situation", "the most frequent answer in the same situation", usual))
    return [*baselines, ("lookup", "the nearest training item", task.lookup(train, items))]


def replayed(task: Task, train: Sequence[Item], walks: Walks) -> dict[str, Replay]:
    """Return how far the baselines come in whole conversations that differ from turn to turn."""
    answering: dict[str, Callable[[Sequence[Item]], Sequence[str]]] = {
        "situation": lambda items: task.in_situation(train, items) or [""] * len(items),
        "lookup": partial(task.lookup, train),
    }
    return {role: walks.replay(answer) for role, answer in answering.items()}


def _linear(
    train: Sequence[Item],
    answers: Sequence[str],
    items: Sequence[Item],
    nearest: list[str],
    tick: Callable[[], None],
) -> list[str] | None:
    """Return the classifier's answers; None where there is nothing that it could learn."""
    learnt = 0
    near = objects_of(nearest)

    def answer(path: FieldPath, values: Sequence[str], n: int) -> list[str]:
        nonlocal learnt
        if is_short(values):
            learnt += 1
            texts = [item.question for item in train[:MOST_ROWS]]
            return classify(texts, values[:MOST_ROWS], [item.question for item in items], tick)
        if near is None:
            return nearest
        return [_spelled(fields_of(neighbour).get(path)) for neighbour in near]

    made = _each_field(answers, len(items), answer)
    return made if learnt else None


def _one_vs_rest(
    train: Sequence[Item],
    answers: Sequence[str],
    items: Sequence[Item],
    tick: Callable[[], None],
) -> list[str]:
    """Return sets of labels: a logistic regression for each, on TF-IDF of words and their pairs.

    Rows with and without a label weigh the same together. Otherwise a rare label hardly reaches a
    probability of one half, and the baseline would be too easy to beat.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.multiclass import OneVsRestClassifier
    from sklearn.preprocessing import MultiLabelBinarizer

    tick()
    texts = [item.question for item in train[:MOST_ROWS]]
    binarizer = MultiLabelBinarizer()
    targets = binarizer.fit_transform([labels_of(answer) or () for answer in answers[:MOST_ROWS]])
    features = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, token_pattern=r"\w+")
    with warnings.catch_warnings():  # of a label that all rows have
        warnings.filterwarnings("ignore", message="Label .* is present in all training examples")
        each = LogisticRegression(C=_STRENGTHS[1], class_weight="balanced", solver="liblinear")
        model = OneVsRestClassifier(each).fit(features.fit_transform(texts), targets)
    given = model.predict(features.transform([item.question for item in items]))
    return [set_written(labels) for labels in binarizer.inverse_transform(given)]


def _majority(task: Task, answers: Sequence[str]) -> str:
    """Return the answer that is right most often on the training items, whole or by field.

    No constant is right more often than the most frequent answer. Where no answer is frequent, the
    most frequent value of each field is as good, and says more.
    """
    [(whole, n_whole)] = Counter(answers).most_common(1)
    [by_field] = _each_field(answers, 1, _most_frequent)
    form = task.normal(by_field)
    n_by_field = sum(task.normal(answer) == form for answer in answers)
    return whole if n_whole > max(1, n_by_field) else by_field


def _most_frequent(path: FieldPath, values: Sequence[str], n: int) -> list[str]:
    [(value, _)] = Counter(values).most_common(1)
    return [value] * n


def _each_field(
    answers: Sequence[str], n: int, answer: Callable[[FieldPath, Sequence[str], int], list[str]]
) -> list[str]:
    """Return `n` answers, made field by field where the training answers are JSON objects.

    Args:
        answers: of the training items.
        n: how many are wanted.
        answer: takes a field (none where answers are no objects), its value in each training item,
            and `n`.
    """
    objects = objects_of(answers)
    if objects is None:
        return answer((), answers, n)
    rows = [fields_of(text) for text in objects]
    # The fields of the most frequent form: every answer gets all of them.
    [(paths, _)] = Counter(tuple(row) for row in rows).most_common(1)
    made: list[dict[FieldPath, Any]] = [{} for _ in range(n)]
    for path in paths:
        values = _one_spelling(
            [_spelled(row.get(path)) for row in rows], lambda value: as_key(json.loads(value))
        )
        for fields, value in zip(made, answer(path, values, n), strict=True):
            fields[path] = json.loads(value)
    return [written(nested(fields)) for fields in made]


def _one_spelling(answers: Sequence[str], normal: Callable[[str], str]) -> list[str]:
    """Return answers, those that count as equal in the spelling that most of them have."""
    forms = {answer: normal(answer) for answer in set(answers)}
    most: dict[str, str] = {}
    for answer, _ in Counter(answers).most_common():
        most.setdefault(forms[answer], answer)
    return [most[forms[answer]] for answer in answers]


def _spelled(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, sort_keys=True)


def _baseline(
    role: str, name: str, task: Task, items: Sequence[Item], texts: Sequence[str]
) -> Baseline:
    scores = tuple(task.score(text, item) for text, item in zip(texts, items, strict=True))
    score = ModelScore(
        role,
        name,
        by_slice(items, scores, task.groups_of(items)),
        fields=field_shares(task, items, texts),
        labels=confusion(items, texts),
    )
    return Baseline(score, scores)


def chance(task: Task, items: Sequence[Item]) -> ModelScore:
    """Return what a random guess is expected to score.

    The task says how often a guess at an item is right (`Task.chance`). Among the item's choices,
    each is as likely. An expectation has no sampling error, so its interval is a point.
    """
    expected = [float(task.chance(item)) for item in items]
    rows = by_slice(items, [Score(exact=share, f1=share, parsed=True) for share in expected])
    return ModelScore(
        role="chance",
        name="random guess",
        slices=tuple(replace(row, exact=_exactly(row), choice=_choice(row, items)) for row in rows),
    )


def labelled_items(task: Task, corpus_path: Path, validation: Sequence[Item]) -> list[Item]:
    """Return all that can be learnt from: the task's own rows but the test's, and the corpus.

    Of a file with more than `MOST_ROWS`, a random part is taken.

    Args:
        task: with its rows.
        corpus_path: what the student has learnt.
        validation: rows of its file that no stage holds back.
    """
    from stratos.models.kinds.learnt_rows import training_items  # imports scipy

    if not task.has_rows:
        return training_items(corpus_path)
    rows = labelled_rows(task)
    seen = {item.id for item in rows}
    synthetic = [item for item in training_items(corpus_path) if item.id not in seen]
    return [*rows, *synthetic, *validation][:MOST_ROWS]


def _exactly(row: SliceScore) -> Interval:
    return Interval(row.exact.mean, row.exact.mean, row.exact.mean, "expectation of a random guess")


def _choice(row: SliceScore, items: Sequence[Item]) -> float | None:
    choices = [
        len(item.choices) for item in items if item.choices and row.slice in (item.slice, "all")
    ]
    return mean([1 / n for n in choices]) if choices else None


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
    questions: Sequence[str],
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
        questions: texts to answer.
        tick: called before each fit.
    """
    from threadpoolctl import threadpool_limits

    with threadpool_limits(limits=1):
        strength = _strength(texts[:_MOST_COMPARED], answers[:_MOST_COMPARED], tick)
        tick()
        features = _features()
        model = _model(strength).fit(features.fit_transform(texts), answers)
        return [str(answer) for answer in model.predict(features.transform(questions))]


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
    for learnt, validation in StratifiedKFold(_N_FOLDS, shuffle=True, random_state=0).split(
        texts, answers
    ):
        features = _features()
        known = features.fit_transform([texts[k] for k in learnt])
        new = features.transform([texts[k] for k in validation])
        for strength in _STRENGTHS:
            tick()
            model = _model(strength).fit(known, [answers[k] for k in learnt])
            right = zip(model.predict(new), validation, strict=True)
            n_right[strength] += sum(answer == answers[k] for answer, k in right)
    return max(_STRENGTHS, key=lambda strength: n_right[strength])


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
