import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy import sparse
from scipy.special import expit
from sklearn.linear_model import LogisticRegression

from stratos.core.errors import ForeignFileError
from stratos.models.kinds import load_predictor
from stratos.models.kinds.features import StaticTable, Tfidf
from stratos.models.kinds.kind_choice import micro_f1
from stratos.models.kinds.set_classifier import Decision, SetClassifier, SetStudy, added, fit_heads
from stratos.tasks.label_sets import labels_of, written

Rows = Callable[..., tuple[list[str], list[str]]]


def _numbers(n: int = 80) -> tuple[np.ndarray, np.ndarray]:
    features = np.random.default_rng(0).normal(size=(n, 6)).astype(np.float32)
    return features, features[:, :3] + 0.5 * features[:, 3:] > 0.3


@pytest.mark.parametrize("as_sparse", [False, True])
def test_heads_are_the_logistic_regressions_of_scikit_learn(as_sparse: bool) -> None:
    features, targets = _numbers()
    rows = sparse.csr_matrix(features) if as_sparse else features
    head = fit_heads(rows, targets, 1.0)
    for k in range(3):
        twin = LogisticRegression(C=1.0, tol=1e-6).fit(features, targets[:, k])
        expected = twin.decision_function(features)
        assert head.logits(rows)[:, k] == pytest.approx(expected, abs=0.03)


def test_rows_of_weight_0_do_not_count_and_constant_labels_are_kept() -> None:
    features, targets = _numbers()
    targets = np.column_stack([targets, np.zeros(80, bool), np.ones(80, bool)])
    both, twice = np.vstack([features, features]), np.vstack([targets, ~targets])
    head = fit_heads(both, twice, 1.0, np.repeat([1.0, 0.0], 80))
    assert head.weights == pytest.approx(fit_heads(features, targets, 1.0).weights, abs=0.02)
    assert (head.logits(features)[:, 3] < -3).all() and (head.logits(features)[:, 4] > 3).all()


def test_the_threshold_is_chosen_for_f1_and_the_answer_calibrated() -> None:
    random = np.random.default_rng(0)
    logits = random.normal(-2, 1.5, (2_000, 5))
    targets = random.random((2_000, 5)) < expit(logits)
    decision = Decision.fitted(logits, targets, is_never_empty=False)

    def f1(threshold: float) -> float:
        sets = logits >= threshold
        return 2 * (sets & targets).sum() / (sets.sum() + targets.sum())

    best = max(map(f1, np.linspace(-3, 3, 121)))
    assert 0.985 * best <= f1(decision.threshold) <= best + 1e-3
    assert f1(decision.threshold) > f1(0) + 0.02
    sets = decision.sets(logits)
    sure, right = decision.confidence(logits, sets), (sets == targets).all(axis=1)
    assert sure.mean() == pytest.approx(right.mean(), abs=0.01)
    assert sure[sure > 0.4].mean() == pytest.approx(right[sure > 0.4].mean(), abs=0.06)


def test_where_every_row_has_a_label_every_answer_has() -> None:
    logits = np.full((3, 2), -9.0)
    assert Decision(0.0, is_never_empty=True).sets(logits).sum() == 3
    assert Decision(0.0, is_never_empty=False).sets(logits).sum() == 0


def _pairs(rows: Rows, n: int, seed: int) -> tuple[list[str], list[str]]:
    """Return texts of two sentences each, with the labels of both; some have none."""
    texts, labels = rows(2 * n, seed)
    sets = [list(pair) for pair in zip(labels[::2], labels[1::2], strict=True)]
    joined = [f"{a} {b}" for a, b in zip(texts[::2], texts[1::2], strict=True)]
    empty = ["please help with my the", "about the is late"]
    return joined + empty * (n // 8), [*map(written, sets), *["[]"] * (2 * (n // 8))]


@pytest.fixture
def study(rows: Rows, table: StaticTable) -> SetStudy:
    texts, answers = _pairs(rows, 80, 0)
    return SetStudy(texts, answers, (Tfidf(), table))


def test_a_study_reaches_on_new_rows_what_it_promises(study: SetStudy, rows: Rows) -> None:
    choice = study.choose(["linear"])
    student = study.fit(choice.kind)
    texts, answers = _pairs(rows, 80, 1)
    found = student.predict(texts)
    counts = []
    for prediction, answer in zip(found, answers, strict=True):
        given, gold = (set(labels_of(text) or ()) for text in (prediction.text, answer))
        counts.append((2 * len(given & gold), len(given) + len(gold)))
    mean, low, high = choice.micro_f1
    assert low <= mean <= high and mean > 0.85
    assert micro_f1(np.array(counts)) == pytest.approx(mean, abs=0.08)
    right = np.mean([one.text == answer for one, answer in zip(found, answers, strict=True)])
    assert right > choice.accuracy - 0.15  # new rows have more words in common with these


def test_the_probability_of_an_answer_leaves_room_for_others(study: SetStudy) -> None:
    for found in study.fit("linear").predict(["my card the chip", "help with late iban loan"]):
        assert 0 <= found.probability <= 1
        assert found.probability + sum(p for _, p in found.next_best) <= 1 + 1e-6
        assert found.text not in dict(found.next_best)
        assert all(labels_of(text) is not None for text, _ in found.next_best)


def test_a_text_unlike_all_rows_is_not_sure_of_its_labels(study: SetStudy) -> None:
    [stranger] = study.fit("linear").predict(["zxq vvk"])
    assert stranger.probability < 0.02
    assert stranger.probability + sum(p for _, p in stranger.next_best) < 0.02


def test_a_saved_student_answers_as_before(study: SetStudy, tmp_path: Path) -> None:
    student = study.fit("static")
    student.save(tmp_path)
    loaded = load_predictor(tmp_path)
    assert isinstance(loaded, SetClassifier) and loaded.decision == student.decision
    texts = ["my chip and the iban", "please", ""]
    for before, after in zip(student.predict(texts), loaded.predict(texts), strict=True):
        assert after.text == before.text
        assert after.probability == pytest.approx(before.probability, abs=1e-5)
    assert student.predict([]) == []


@pytest.mark.parametrize("decision", [{}, {"threshold": float("nan"), "is_never_empty": True}])
def test_a_damaged_decision_is_refused(
    study: SetStudy, tmp_path: Path, decision: dict[str, object]
) -> None:
    study.fit("linear").save(tmp_path)
    path = tmp_path / "student.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "decision": decision}))
    with pytest.raises(ForeignFileError):
        load_predictor(tmp_path)


def test_more_rows_may_bring_more_labels(study: SetStudy) -> None:
    student = study.fit_with("linear", ["parcel lost", "lost parcel and card"] * 5, [
        '["parcel"]', '["card", "parcel"]'
    ] * 5)  # fmt: skip
    assert student.labels == ("card", "loan", "parcel", "wire")
    assert "parcel" in (labels_of(student.predict(["parcel lost"])[0].text) or ())


def test_rows_that_are_not_gold_are_learnt_and_never_scored(rows: Rows) -> None:
    texts, answers = _pairs(rows, 30, 0)
    n = len(texts)
    is_gold = np.arange(n) % 2 == 0
    study = SetStudy(texts, answers, (Tfidf(),), row_weights=np.full(n, 0.5), is_gold=is_gold)
    assert study.choose().n_rows == is_gold.sum()


def test_mixed_log_odds_are_their_weighted_sum() -> None:
    parts = [np.ones((1, 2), np.float32), np.full((1, 2), 2, np.float32)]
    assert added(parts, np.array([1.0, 0.5])).tolist() == [[2.0, 2.0]]
