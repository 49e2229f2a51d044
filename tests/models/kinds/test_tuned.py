import numpy as np
import pytest

from stratos.models.kinds import cross_validation
from stratos.models.kinds.base import load_predictor
from stratos.models.kinds.cross_validation import Study
from stratos.models.kinds.encoder import Encoder, TunedEncoder
from stratos.models.kinds.features import Tfidf
from stratos.models.pretrained.bert import is_bert


@pytest.fixture
def block(tiny_encoder) -> TunedEncoder:
    return TunedEncoder(Encoder(tiny_encoder))


def test_beside_the_tuned_layers_the_encoder_is_as_it_was(block, rows):
    texts, labels = rows(40)
    tuned = block.fitted(texts, np.unique(labels, return_inverse=True)[1].tolist())
    before = block.encoder.transform(["my card", "loan"])
    *frozen, learnt = tuned.views(tuned.transform(["my card", "loan"]))
    assert np.hstack(frozen) == pytest.approx(before, abs=1e-5)
    assert not np.allclose(learnt, frozen[0], atol=1e-4)
    assert np.linalg.norm(learnt, axis=1) == pytest.approx([1, 1], abs=1e-5)


def test_layers_that_were_not_trained_say_what_the_last_layer_says(block):
    texts = ["my card", "please help me about the late loan rate"]
    last, _, learnt = block.views(block.transform(texts))
    assert learnt == pytest.approx(last, abs=1e-5)


def test_the_same_rows_give_the_same_student_and_leave_the_encoder_as_it_was(block, rows):
    texts, labels = rows(30)
    numbers = np.unique(labels, return_inverse=True)[1].tolist()
    before = block.encoder.transform(texts)
    first = block.fitted(texts, numbers).transform(["my loan"])
    again = TunedEncoder(block.encoder).fitted(texts, numbers).transform(["my loan"])
    assert np.array_equal(first, again)
    assert np.array_equal(block.encoder.transform(texts), before)


def test_it_is_saved_and_read_with_its_tuned_layers(block, rows, tmp_path):
    texts, labels = rows(40)
    study = Study(texts, labels, [Tfidf(), block])
    study.tune()
    assert study.choose().scores[-1].kind == "tuned"
    student = study.fit("tuned")
    student.save(tmp_path / "student")
    again = load_predictor(tmp_path / "student")
    assert again.is_slow and again.uses_torch is not is_bert(block.encoder.folder)
    assert again.n_params == student.n_params
    for a, b in zip(again.predict(texts[:4]), student.predict(texts[:4]), strict=True):
        assert (a.text, a.probability) == (b.text, pytest.approx(b.probability, abs=1e-5))


def test_no_training_sees_the_rows_that_its_fold_holds_out(block, rows, monkeypatch):
    texts, labels = rows(40)
    learnt = []
    fitted = TunedEncoder.fitted
    monkeypatch.setattr(
        TunedEncoder, "fitted", lambda self, t, a: learnt.append(set(t)) or fitted(self, t, a)
    )
    study = Study(texts, labels, [Tfidf(), block])
    assert "tuned" not in study.kinds
    study.tune()
    study.score("tuned")
    assert len(learnt) == cross_validation._N_FOLDS
    for fold, some in enumerate(learnt):
        unseen = {texts[k] for k in np.flatnonzero(study._folds == fold)}
        assert unseen and not unseen & some


def test_its_time_is_known_before_it_starts(block, rows):
    texts, _ = rows(100)
    assert block.can_tune
    assert 0 < block.cpu_seconds(texts, 1) < block.cpu_seconds(texts, 6)
