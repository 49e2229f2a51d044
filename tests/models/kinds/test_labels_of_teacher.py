"""Gold rows beside a teacher's: what the teacher confuses is corrected, and nothing leaks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from stratos.models.kinds.features import Features
from stratos.models.kinds.learnt_rows import Correction, TaughtStudy, TeacherRows, Way

LABELS = ("cash", "card", "refund", "transfer")
N_GOLD, N_TAUGHT, N_TEST = 80, 400, 400


class Points(Features):
    """Vectors of their own for each text, as an encoder would give them."""

    name = "static"

    def __init__(self, seed: int) -> None:
        random = np.random.default_rng(seed)
        n = N_GOLD + N_TAUGHT + N_TEST
        self.right = random.integers(0, len(LABELS), n)
        centres = random.normal(size=(len(LABELS), 12))
        rows = centres[self.right] + 1.1 * random.normal(size=(n, 12))
        self.rows = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)

    def transform(self, texts: Any) -> np.ndarray:
        return self.rows[[int(text) for text in texts]]

    def state(self) -> Any:
        return {}, {}

    @classmethod
    def of_state(cls, settings: Any, arrays: Any, folder: Any) -> Any:
        raise NotImplementedError


def rows_of(points: Points, share_wrong: float, seed: int = 0) -> tuple[list[str], TeacherRows]:
    """Return the gold labels, and rows of a teacher that calls this share of card cash."""
    random = np.random.default_rng(seed)
    given = points.right[N_GOLD : N_GOLD + N_TAUGHT].copy()
    given[(given == 1) & (random.random(N_TAUGHT) < share_wrong)] = 0
    texts = tuple(str(k) for k in range(N_GOLD, N_GOLD + N_TAUGHT))
    teacher = TeacherRows(texts, tuple(LABELS[k] for k in given), (1.0,) * N_TAUGHT)
    return [LABELS[k] for k in points.right[:N_GOLD]], teacher


TEXTS = [str(k) for k in range(N_GOLD)]
TESTED = [str(k) for k in range(N_GOLD + N_TAUGHT, N_GOLD + N_TAUGHT + N_TEST)]


def test_a_confused_pair_is_corrected() -> None:
    points = Points(2)
    gold, teacher = rows_of(points, share_wrong=0.7)
    found = Correction(TEXTS, gold, teacher, [points])
    assert found.chosen.vote is not None, "corrected labels are better than those as they are"
    right = np.array([LABELS[k] for k in points.right[N_GOLD : N_GOLD + N_TAUGHT]])
    likely = np.array(found.labels)[found.probabilities(0.5).argmax(axis=1)]
    assert (likely == right).mean() > (np.array(teacher.labels) == right).mean() + 0.05


def test_a_teacher_that_guesses_weighs_next_to_nothing() -> None:
    points = Points(1)
    gold, teacher = rows_of(points, 0.0)
    shuffled = tuple(np.random.default_rng(0).permutation(teacher.labels).tolist())
    found = Correction(
        TEXTS, gold, TeacherRows(teacher.texts, shuffled, teacher.agreement), [points]
    )
    as_they_are = [one for one in found.tried if one.way.vote is None]
    assert min(as_they_are, key=lambda one: one.nll).way.weight <= 0.03


def test_corrected_labels_of_a_fold_know_nothing_of_the_rows_it_holds_out() -> None:
    points = Points(2)
    gold, teacher = rows_of(points, 0.5)
    before = Correction(TEXTS, gold, teacher, [points])
    held = before.folds == 0
    other = [LABELS[(LABELS.index(g) + 1) % 4] if h else g for g, h in zip(gold, held, strict=True)]
    after = Correction(TEXTS, other, teacher, [points])
    after.folds = before.folds  # which the labels of rows have spread

    def best(one: Correction, fold: int | None) -> np.ndarray:
        one.__dict__ |= {"_scale": 1.0, "_base": Way(0.03)}  # two numbers that all rows choose
        return one.targets(Way(1.0, 0.5), fold)

    assert np.allclose(best(before, 0), best(after, 0), atol=1e-5)
    assert not np.allclose(best(before, None), best(after, None), atol=1e-2)


def test_the_accuracy_of_cross_validation_is_that_of_new_rows() -> None:
    points = Points(3)
    gold, teacher = rows_of(points, 0.6)
    study = TaughtStudy(TEXTS, gold, teacher, [points])
    # The kinds of a study have TF-IDF, too; here its one block alone is looked at.
    [view] = study._study("static")
    right = np.array([study.labels.index(label) for label in gold])
    crossed = (view.unseen.argmax(axis=1) == right[study._folds[:N_GOLD] >= 0]).mean()
    head = study.correction.head()
    answers = head.log_probabilities(points.transform(TESTED)).argmax(axis=1)
    tested = np.array([study.correction.labels.index(LABELS[k]) for k in points.right])[-N_TEST:]
    assert crossed == pytest.approx((answers == tested).mean(), abs=0.08)


def test_few_gold_rows_decide_nothing() -> None:
    points = Points(4)
    gold, teacher = rows_of(points, 0.0)
    found = Correction(TEXTS[:8], gold[:8], teacher, [points])
    assert (found.chosen, found.tried) == (Way(1.0), ())


def test_answers_that_disagree_count_less() -> None:
    points = Points(5)
    gold, teacher = rows_of(points, 0.0)
    torn = TeacherRows(teacher.texts, teacher.labels, (0.0,) * N_TAUGHT)
    found = Correction(TEXTS, gold, torn, [points])
    assert found.targets(Way(1.0), None).sum() == 0
