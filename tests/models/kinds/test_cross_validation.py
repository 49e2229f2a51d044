from random import Random

import numpy as np
import pytest

from stratos.config import StudentConfig
from stratos.models.kinds import cross_validation as choices
from stratos.models.kinds.classifier import Familiarity
from stratos.models.kinds.cross_validation import Study, calibration_error, folds_of
from stratos.models.kinds.features import Tfidf
from stratos.models.kinds.learnt_rows import Rows
from stratos.probe.kind_probes import _probed, learning_curve

WORDS_OF_NO_LABEL = [f"word{k}" for k in range(25)]


def test_the_kind_that_knows_the_words_wins_with_few_rows(rows, table):
    texts, labels = rows(24)
    choice = Study(texts, labels, [Tfidf(), table]).choose()
    assert choice.kind == "static"
    assert choice.low <= choice.accuracy <= choice.high
    assert choice.n_rows == 24


def test_of_kinds_that_are_equally_good_the_cheaper_is_chosen(rows, table):
    texts, labels = rows(300)
    choice = Study(texts, labels, [Tfidf(), table]).choose()
    assert [score.accuracy for score in choice.scores] == [1.0, 1.0]
    assert choice.kind == "linear"


def test_only_the_kinds_that_were_named_are_scored(rows, table):
    texts, labels = rows()
    choice = Study(texts, labels, [Tfidf(), table]).choose(kinds=["static"])
    assert [score.kind for score in choice.scores] == ["static"]


@pytest.mark.parametrize("n", [60, 300])
def test_a_kind_reaches_the_same_whatever_is_tried_beside_it(n, rows, table):
    texts, labels = rows(n)
    labels = ["card" if k % 9 == 0 else label for k, label in enumerate(labels)]
    alone = Study(texts, labels, [Tfidf()]).choose()
    beside = Study(texts, labels, [Tfidf(), table]).choose()
    by_kind = {score.kind: score.accuracy for score in beside.scores}
    assert alone.scores[0].accuracy == by_kind["linear"] < 1
    if n > choices._FEW_ROWS:
        assert alone.accuracy == by_kind["linear"]
    else:  # random folds tell, too
        assert alone.accuracy < by_kind["linear"]


def test_few_rows_are_not_favoured_by_folds_with_equally_many_of_each_label(rows):
    """The mean over draws is nearer to what new rows show than with even folds, and not below."""
    raw, reported, reached = [], [], []
    for seed in range(12):
        texts, labels = _weak_rows(1040, seed)
        study = Study(texts[:40], labels[:40], [Tfidf()], seed=seed)
        choice = study.choose()
        raw.append(choice.scores[0].accuracy)
        reported.append(choice.accuracy)
        answers = study.fit("linear").predict(texts[40:])
        pairs = zip(answers, labels[40:], strict=True)
        reached.append(np.mean([answer.text == label for answer, label in pairs]))
    assert np.mean(reached) - 0.02 < np.mean(reported) < np.mean(raw) - 0.01


def _weak_rows(n: int, seed: int) -> tuple[list[str], list[str]]:
    """Return texts of eight of forty words, five of which are a little more frequent with each."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 4, n)
    texts = []
    for label in labels:
        weights = np.ones(40)
        weights[5 * label : 5 * label + 5] = 4.0
        texts.append(" ".join(f"w{k}" for k in rng.choice(40, 8, p=weights / weights.sum())))
    return texts, [f"label{label}" for label in labels]


def test_folds_at_random_keep_what_is_alike_together_and_know_no_label():
    rng = Random(0)
    texts = [f.format(f"a{rng.random()}", f"b{rng.random()}") for f in FRAMES for _ in range(20)]
    answers, gold = np.repeat([0, 1] * 6, 20), np.ones(240, bool)
    drawn = [folds_of(texts, answers, gold, seed, evenly=False) for seed in range(2)]
    for folds in drawn:
        of_frame = folds.reshape(12, 20)
        assert (of_frame == of_frame[:, :1]).all()
    assert (drawn[0] != drawn[1]).any()
    apart = folds_of(texts, answers, gold, 0, together=False, evenly=False)
    shares = [answers[apart == fold].mean() for fold in range(5)]
    assert len({*np.bincount(apart)}) == 1 and len({*shares}) > 1


@pytest.mark.parametrize("kind", ["linear", "static"])
def test_the_bytes_of_a_kind_are_foretold(kind, rows, table, tmp_path):
    texts, labels = rows(200)
    texts = [f"{text} {WORDS_OF_NO_LABEL[k % 25]}" for k, text in enumerate(texts)]
    study = Study(texts, labels, [Tfidf(), table])
    blocks = {block.name: block.fitted(texts).compact(texts) for block in (Tfidf(), table)}
    own = Rows(tuple(texts), tuple(labels))
    probed = _probed(StudentConfig(kind, kind), study, study.choose(), blocks, own, 1.0)
    study.fit(kind).save(tmp_path)
    n_bytes = sum(path.stat().st_size for path in tmp_path.glob("*.safetensors"))
    # The rest is a header of about a kilobyte.
    assert n_bytes <= probed.n_bytes < n_bytes + 2000


FRAMES = (
    *("cancel {} {} right now please my friend", "where is {} {} today or tomorrow then"),
    *("please show me {} {} very soon again", "stop the {} {} from charging me twice"),
    *("is my {} {} still valid this week", "how does a {} {} work out there"),
    *("who has sent {} {} to that address", "we would like {} {} for our house"),
    *("never bring us {} {} on a sunday", "can they swap {} {} before next month"),
    *("what does one {} {} cost with tax", "both {} {} have come without their box"),
)


@pytest.mark.parametrize("n_frames, are_together", [(12, True), (4, False)])
def test_rows_of_a_template_are_of_one_fold_unless_it_has_much_of_its_label(n_frames, are_together):
    rng = Random(0)
    frames = FRAMES[:n_frames]
    texts = [f.format(f"a{rng.random()}", f"b{rng.random()}") for f in frames for _ in range(20)]
    labels = [label for label in "xy" * (n_frames // 2) for _ in range(20)]
    folds = Study(texts, labels, [Tfidf()])._folds.reshape(n_frames, 20)
    assert (folds == folds[:, :1]).all() == are_together
    assert len(np.unique(folds)) == 5


def test_rows_whose_near_duplicates_are_learnt_are_right_more_often():
    rng = Random(0)
    frames = [[rng.choice(WORDS_OF_NO_LABEL) for _ in range(9)] for _ in range(30)]
    texts = [" ".join([*frame[:k], "other", *frame[k + 1 :]]) for frame in frames for k in range(5)]
    labels = [label for label in "xyz" * 10 for _ in range(5)]
    study = Study(texts, labels, [Tfidf()])
    known = study.right_of_known("linear")
    assert len(known) == len(texts)
    assert study.score("linear").accuracy < 0.6 < 0.9 < known.mean()


def test_without_a_table_only_the_linear_kind_is_there(rows):
    texts, labels = rows()
    assert Study(texts, labels, [Tfidf()]).kinds == ["linear"]


def test_noise_is_not_better_than_chance(rows, table):
    texts, _ = rows(120)
    labels = np.random.default_rng(0).choice(["a", "b"], 120)
    choice = Study(texts, list(labels), [Tfidf(), table]).choose()
    assert choice.low < 0.5


def test_rows_that_are_not_gold_are_learnt_from_and_never_scored(rows, table):
    texts, labels = rows(60)
    wrong = ["card"] * 60
    is_gold = np.repeat([True, False], 60)
    weights = np.repeat([1.0, 0.001], 60)
    study = Study(
        texts + texts, labels + wrong, [Tfidf(), table], row_weights=weights, is_gold=is_gold
    )
    choice = study.choose()
    assert choice.n_rows == 60
    assert choice.accuracy > 0.9
    misled = Study(texts + texts, labels + wrong, [Tfidf(), table], is_gold=is_gold).choose()
    assert misled.accuracy < choice.accuracy


def test_a_student_of_more_rows_reads_each_text_once(rows, table, monkeypatch):
    texts, labels = rows(60)
    study = Study(texts[:40], labels[:40], [Tfidf(), table])
    study.choose()
    read, transform = [], table.transform
    monkeypatch.setattr(table, "transform", lambda some: read.extend(some) or transform(some))
    grown = study.fit_with("static", texts[40:], labels[40:])
    assert read == texts[40:]
    assert [grown.labels[k] for k in grown.probabilities(texts).argmax(axis=1)] == labels


def test_labels_whose_rows_are_near_duplicates_do_not_make_the_others_unsure(rows):
    texts, labels = rows(90)
    for k in range(8):
        words = Random(k).sample(WORDS_OF_NO_LABEL, 18)
        texts += [" ".join([*words, end]) for end in ("now", "soon", "later")]
        labels += [f"rare {k}"] * 3
    study = Study(texts, labels, [Tfidf()])
    # No other fold has rows of these labels: their errors say nothing of the heads.
    assert study.fit("linear").weights[0] > 0.9


def test_without_a_gold_row_nothing_can_be_scored(rows, table):
    texts, labels = rows(20)
    with pytest.raises(ValueError, match="gold"):
        Study(texts, labels, [Tfidf()], is_gold=np.zeros(20, bool))


def test_of_many_rows_one_fold_is_held_out(rows, table, monkeypatch):
    monkeypatch.setattr(choices, "_MOST_CROSSED", 100)
    monkeypatch.setattr(choices, "_N_HELD_OUT", 50)
    texts, labels = rows(400)
    study = Study(texts, labels, [Tfidf(), table])
    choice = study.choose()
    assert choice.n_rows == pytest.approx(50, abs=5)
    assert study.fit(choice.kind).predict(["loan please"])[0].text == "loan"


def test_two_labels_and_a_label_with_one_row(rows, table):
    texts, labels = rows(40)
    two = ["yes" if label == "card" else "no" for label in labels]
    assert Study(texts, two, [Tfidf(), table]).choose().accuracy > 0.9
    rare = [*labels[:-1], "rare"]
    study = Study(texts, rare, [Tfidf(), table])
    assert "rare" in study.fit(study.choose().kind).labels


def test_labels_with_one_row_each_do_not_make_the_others_a_guess(rows, table):
    texts, labels = rows(20)
    single = [f"{text} {k}" for k, text in enumerate(texts[:15])]
    names = [f"rare {k}" for k in range(15)]
    study = Study(texts + single, labels + names, [Tfidf(), table])
    study.choose()
    fitted = study.fit("static")
    assert fitted.weights.sum() > 0.1
    assert Study(["a", "b"], ["a", "b"], [Tfidf()]).fit("linear").weights == [1.0]


def test_every_fit_ticks(rows, table):
    texts, labels = rows(30)
    ticks = []
    study = Study(texts, labels, [table, Tfidf()], tick=lambda: ticks.append(1))
    study.choose()
    assert len(ticks) >= 2 * 5


def test_the_learning_curve_of_a_kind_that_still_learns_promises_a_gain(rows):
    texts, labels = rows(48)
    random = np.random.default_rng(0)
    study = Study([f"{t} {random.integers(9)}" for t in texts], labels, [Tfidf()])
    curve = learning_curve(study, "linear")
    sizes, accuracies = zip(*curve.points, strict=True)
    assert list(sizes) == sorted(sizes)
    assert accuracies[0] < accuracies[-1]
    assert curve.n_doubled == 96
    assert 0 <= curve.gain_low <= curve.gain_high <= 1 - accuracies[-1] + 0.05


def test_the_learning_curve_of_labels_at_random_may_bring_nothing(rows):
    texts, labels = rows(200)
    rng = Random(0)
    curve = learning_curve(Study(texts, [rng.choice("ab") for _ in labels], [Tfidf()]), "linear")
    assert curve.gain_low == 0


def test_the_learning_curve_of_a_perfect_kind_promises_next_to_nothing(rows, table):
    texts, labels = rows(200)
    assert learning_curve(Study(texts, labels, [Tfidf(), table]), "static").gain_high < 0.02


def test_what_is_unlike_the_rows_is_measured_by_rows_of_other_folds(rows):
    texts, labels = rows(60)
    texts[7] = "zxq vvk"
    study = Study(texts, labels, [Tfidf()])
    similar = study._similar("linear")
    assert similar.argmin() == 7 and similar[7] < 0.1 < similar.mean()
    learnt = [k for k in range(60) if study._folds[k] != study._folds[3]]
    block = Tfidf().fitted([texts[k] for k in learnt])
    features = block.transform(texts).toarray()
    unit = features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-9)
    means = [np.mean([features[k] for k in learnt if labels[k] == la], 0) for la in study.labels]
    expected = max(float(unit[3] @ mean) / np.linalg.norm(mean) for mean in means)
    assert similar[3] == pytest.approx(expected, abs=1e-5)


def test_the_calibration_error_counts_the_lowered_probabilities(rows, monkeypatch):
    texts, labels = rows(60)
    as_it_is = Study(texts, labels, [Tfidf()]).score("linear").calibration_error
    nothing_is_like = Familiarity(2.0, 3.0)
    monkeypatch.setattr(Familiarity, "of", classmethod(lambda cls, similar: nothing_is_like))
    lowered = Study(texts, labels, [Tfidf()]).score("linear")
    assert lowered.calibration_error == pytest.approx(lowered.accuracy - 1 / 3, abs=0.01)
    assert as_it_is < lowered.calibration_error / 2


def test_calibration_error_of_a_sure_kind_that_is_right_half_of_the_time():
    assert calibration_error(np.ones(10), np.arange(10) % 2 == 0) == pytest.approx(0.5)


def test_the_interval_is_wider_than_that_of_independent_rows(rows, table):
    texts, labels = rows(60)
    labels = ["card" if k % 3 == 0 else label for k, label in enumerate(labels)]
    choice = Study(texts, labels, [Tfidf(), table]).choose()
    independent = 2 * 1.96 * (choice.accuracy * (1 - choice.accuracy) / 60) ** 0.5
    assert 1.2 < (choice.high - choice.low) / independent < 1.6


def test_probabilities_know_that_texts_have_labels_which_no_row_shows(rows):
    texts, labels = rows(40)
    names = [*labels[:30], *(f"rare {k}" for k in range(10))]
    student = Study(texts, names, [Tfidf()]).fit("linear")
    assert student.unseen == pytest.approx(10 / 40)
    assert student.probabilities(texts[:3]).sum(axis=1) == pytest.approx([0.75] * 3)
