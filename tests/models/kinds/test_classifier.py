import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from omegaconf import OmegaConf
from safetensors.numpy import load_file, save_file
from scipy import sparse
from sklearn.linear_model import LogisticRegression

from stratos.core.errors import ForeignFileError
from stratos.core.extensions import shipped_choices
from stratos.models.kinds.base import WEIGHTS, load_predictor
from stratos.models.kinds.classifier import Familiarity, block_class
from stratos.models.kinds.cross_validation import Study
from stratos.models.kinds.encoder import Encoder
from stratos.models.kinds.features import (
    Head,
    RowSpace,
    StaticTable,
    Tfidf,
    fit_head,
    joined,
    mix,
    mixing_weights,
)
from stratos.models.kinds.student_kinds import LABELS

DOCS = Path(__file__).parents[3] / "docs"


def _numbers(n_labels: int, n: int = 60):
    random = np.random.default_rng(0)
    features = random.normal(size=(n, 5)).astype(np.float32)
    return features, (features[:, :n_labels].argmax(axis=1))


def test_every_kind_of_labels_has_its_block_and_is_among_the_candidates():
    for kind in LABELS.values():
        assert [block_class(name).name for name in kind.blocks] == list(kind.blocks)
        assert all(block_class(name).about for name in kind.blocks)
    auto = OmegaConf.load(shipped_choices("student")["auto"]).defaults
    assert {f"{kind}@candidates.{kind}" for kind in LABELS} <= set(auto)


@pytest.mark.parametrize("n_labels", [2, 4])
def test_a_head_is_the_logistic_regression_of_scikit_learn(n_labels):
    features, labels = _numbers(n_labels)
    head = fit_head(features, labels, n_labels, 1.0)
    twin = LogisticRegression(C=1.0, tol=1e-6).fit(features, labels)
    expected = twin.predict_log_proba(features)
    assert head.log_probabilities(features) == pytest.approx(expected, abs=0.05)


@pytest.mark.parametrize("n_labels", [2, 4])
def test_a_head_that_begins_from_another_strength_ends_where_it_would_without(n_labels):
    features, labels = _numbers(n_labels)
    first = fit_head(features, labels, n_labels, 1.0)
    warm = fit_head(features, labels, n_labels, 10.0, start=first)
    cold = fit_head(features, labels, n_labels, 10.0)
    assert warm.log_probabilities(features) == pytest.approx(
        cold.log_probabilities(features), abs=0.05
    )


def test_many_labels_are_learnt_to_the_end():
    random = np.random.default_rng(1)
    centres = random.normal(size=(80, 40))
    labels = np.repeat(np.arange(80), 8)
    rows = centres[labels] + random.normal(size=(640, 40))
    rows = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    head = fit_head(rows, labels, 80, 10.0)
    assert (head.log_probabilities(rows).argmax(axis=1) == labels).mean() > 0.97


@pytest.mark.parametrize("n_labels", [2, 12])
def test_a_head_on_many_sparse_rows_ends_where_newton_s_method_does(n_labels):
    random = np.random.default_rng(6)
    labels = random.integers(0, n_labels, 3_300)
    words = random.integers(0, 400, (3_300, 12))
    words[:, :2] = labels[:, None] * 3 + random.integers(0, 3, (3_300, 2))  # what tells the label
    words[random.random(3_300) < 0.3, :2] = 0
    index = np.repeat(np.arange(3_300), 12)
    rows = sparse.csr_matrix((np.full(index.size, 0.3, np.float32), (index, words.ravel())))
    learnt, new = rows[:3_100], rows[3_100:]
    first = fit_head(learnt, labels[:3_100], n_labels, 3.0)
    head = fit_head(learnt, labels[:3_100], n_labels, 10.0, start=first)
    twin = LogisticRegression(C=10.0, solver="newton-cg", tol=1e-6)
    twin.fit(learnt, labels[:3_100])
    of_right = np.arange(200), labels[3_100:]
    log_p, expected = head.log_probabilities(new), twin.predict_log_proba(new)
    assert log_p[of_right].mean() == pytest.approx(expected[of_right].mean(), abs=0.02)
    assert (log_p.argmax(1) == expected.argmax(1)).mean() > 0.97
    again = fit_head(learnt, labels[:3_100], n_labels, 10.0, start=first)
    assert np.array_equal(again.weights, head.weights)


def test_a_label_without_rows_is_never_the_answer():
    features, labels = _numbers(3)
    head = fit_head(features, labels, 4, 1.0)
    assert head.log_probabilities(features)[:, 3].max() < -5


def test_rows_of_weight_0_do_not_count():
    features, labels = _numbers(2)
    wrong = 1 - labels
    both = np.vstack([features, features])
    weights = np.repeat([1.0, 0.0], len(labels))
    head = fit_head(both, np.concatenate([labels, wrong]), 2, 1.0, weights)
    alone = fit_head(features, labels, 2, 1.0)
    assert head.weights == pytest.approx(alone.weights, abs=0.02)


def test_the_joined_head_of_views_answers_as_their_mixture():
    random = np.random.default_rng(2)
    heads = [Head(random.normal(size=(4, 3)), random.normal(size=3)) for _ in range(2)]
    views = [random.normal(size=(6, 4)) for _ in range(2)]
    weights = np.array([0.7, 1.6])
    head, total = joined(heads, weights)
    parts = [h.log_probabilities(v) for h, v in zip(heads, views, strict=True)]
    one = mix([head.log_probabilities(np.hstack(views))], np.array([total]))
    assert one == pytest.approx(mix(parts, weights), abs=5e-3), "rounded as it is stored"


def test_views_that_all_weigh_0_join_to_a_head_of_weight_0():
    head, total = joined([Head(np.ones((2, 2)), np.ones(2))], np.array([0.0]))
    assert total == 0
    assert np.isfinite(head.weights).all()


def test_mixing_weights_ignore_noise_and_shrink_what_is_too_sure():
    random = np.random.default_rng(3)
    labels = random.integers(0, 3, 400)
    guesses = np.where(random.random(400) < 0.8, labels, random.integers(0, 3, 400))
    sure = np.log(np.where(np.eye(3)[guesses] > 0, 0.998, 0.001))
    noise = random.normal(size=(400, 3))
    weights = mixing_weights([sure, noise - np.logaddexp.reduce(noise, 1)[:, None]], labels)
    assert weights[1] < 0.2
    confidence = np.exp(mix([sure], weights[:1]).max(axis=1)).mean()
    assert confidence == pytest.approx((guesses == labels).mean(), abs=0.03)


def test_a_head_in_the_space_of_the_rows_is_the_same_head():
    random = np.random.default_rng(4)
    rows = sparse.random_array((40, 300), density=0.1, format="csr", rng=random, dtype=np.float32)
    rows = sparse.vstack([rows, rows[:3]], format="csr")  # rows that stand twice
    labels = random.integers(0, 3, 43)
    span = RowSpace.of(rows)
    assert span is not None
    other = sparse.csr_matrix(rows[5:9] + rows[10:14])
    inner = fit_head(span.coordinates, labels, 3, 3.0)
    direct = fit_head(rows, labels, 3, 3.0)
    mapped = span.head(inner).log_probabilities(other)
    assert mapped == pytest.approx(inner.log_probabilities(span.transform(other)), abs=0.01)
    assert mapped == pytest.approx(direct.log_probabilities(other), abs=0.05)


def test_dense_rows_have_no_space_of_their_own():
    assert RowSpace.of(np.ones((3, 9), np.float32)) is None


def test_a_saved_student_answers_as_before(rows, table, tmp_path):
    texts, labels = rows()
    study = Study(texts, labels, [Tfidf(), table])
    model = study.fit("static")
    model.save(tmp_path)
    read = type(model).load(tmp_path)
    texts += ["zq xv", ""]
    assert read.probabilities(texts) == pytest.approx(model.probabilities(texts), abs=1e-5)
    assert read.predict(texts[:1])[0].text == model.predict(texts[:1])[0].text


@pytest.fixture(scope="module")
def large_table() -> StaticTable:
    """Return vectors of 1,500 tokens that were learnt from the docs."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel()
    letters = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=1500, initial_alphabet=letters, show_progress=False)
    tokenizer.train_from_iterator((DOCS / "planner.md").read_text().splitlines(), trainer)
    vectors = np.random.default_rng(0).normal(size=(tokenizer.get_vocab_size(), 64))
    return StaticTable(vectors.astype(np.float16), tokenizer)


def test_a_table_is_cut_to_the_tokens_of_the_rows_and_frequent_ones(rows, large_table):
    texts, _ = rows()
    table = StaticTable(large_table._table, large_table._tokenizer, share=0.1)
    cut = table.fitted(texts).compact(texts)
    assert cut.n_params < 0.5 * large_table.n_params
    before, after = large_table.transform(texts), cut.transform(texts)
    assert (before * after).sum(axis=1).min() > 0.9999
    assert np.linalg.norm(cut.transform(["a constraint of the solver 🙂"])) == pytest.approx(1)


def test_rows_that_are_held_out_are_read_in_the_tokens_of_the_others(rows, large_table):
    texts, labels = rows()
    rare = sorted({*re.findall(r"[a-z]{5,}", (DOCS / "planner.md").read_text())})
    texts = [f"{text} {word}" for text, word in zip(texts, rare, strict=False)]
    assert len(texts) == len(labels)
    tables = [StaticTable(large_table._table, large_table._tokenizer, share=s) for s in (1.0, 0.0)]
    whole, cut = (Study(texts, labels, [Tfidf(), table]).score("static") for table in tables)
    assert whole.nll != cut.nll
    assert tables[1].fitted(texts).n_params < large_table.n_params


@pytest.mark.parametrize("share", [None, 0.1])
def test_a_compact_table_is_saved_as_it_answers(rows, large_table, tmp_path, share):
    texts, labels = rows()
    table = StaticTable(large_table._table, large_table._tokenizer, share=share)
    model = Study(texts, labels, [Tfidf(), table]).fit("static")
    model.save(tmp_path)
    read = load_predictor(tmp_path)
    learnt, texts = texts, [*texts, "an infeasible budget", ""]
    assert read.probabilities(texts) == pytest.approx(model.probabilities(texts), abs=1e-6)
    n_tokens = len(load_file(tmp_path / WEIGHTS)["static.table"])
    n_whole = large_table._tokenizer.get_vocab_size()
    assert read.vocabulary == (None if share is None else (n_tokens, n_whole))
    whole = replace(model, blocks=(large_table, model.blocks[1]))
    same = texts if share is None else learnt  # of others, tokens may have been cut
    answers = [answer.text for answer in whole.predict(same)]
    assert [answer.text for answer in read.predict(same)] == answers
    arrays = load_file(tmp_path / WEIGHTS)
    assert arrays["static.table"].dtype == np.int8
    assert arrays["tfidf.head"].dtype == np.float16


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("tfidf.head", lambda array: array[:7]),
        ("tfidf.idf_1", lambda array: array * np.nan),
        ("mixing_weights", lambda array: -array),
        ("mixing_weights", lambda array: array[None]),
        ("centroids.data", lambda array: array[1:]),
        ("centroids.indices", lambda array: array + 10**6),
        ("centroids.indptr", lambda array: array[:-1]),
    ],
)
def test_a_student_whose_arrays_do_not_fit_is_refused(rows, tmp_path, name, change):
    model = Study(*rows(), [Tfidf()]).fit("linear")
    model.save(tmp_path)
    arrays = load_file(tmp_path / WEIGHTS)
    arrays[name] = np.ascontiguousarray(change(arrays[name]))
    save_file(arrays, tmp_path / WEIGHTS)
    with pytest.raises(ForeignFileError):
        load_predictor(tmp_path)


@pytest.mark.parametrize("kind", ["linear", "static"])
@pytest.mark.parametrize("n_labels", [2, 3])
def test_a_text_unlike_all_rows_has_the_probability_of_chance(rows, table, kind, n_labels):
    some = [row for row in zip(*rows(150), strict=True) if row[1] != ("", "", "wire", "")[n_labels]]
    model = Study(*zip(*some, strict=True), [Tfidf(), table]).fit(kind)
    sure = replace(model, familiarity=Familiarity(-2.0, -1.0))
    strangers = ["zxq vvk", "2 kg Mehl", "żółw", "", "?"]
    after, before = model.predict(strangers), sure.predict(strangers)
    assert [answer.text for answer in after] == [answer.text for answer in before]
    assert max(answer.probability for answer in after) < 1 / n_labels + 0.02
    assert all(len(answer.next_best) == n_labels - 1 for answer in after)
    assert model.probabilities(strangers).sum(axis=1) == pytest.approx(np.ones(5))
    own = [text for text, label in zip(*rows(150, seed=1), strict=True) if label in model.labels]
    assert (model.probabilities(own) == sure.probabilities(own)).all(axis=1).mean() > 0.95


def test_rows_that_are_all_alike_do_not_make_the_next_one_a_stranger():
    same = Familiarity.of(np.ones(30))
    assert same.shares(np.array([1.0, 0.999, 0.5])) == pytest.approx([1, 0.98, 0.01])


#


def test_an_encoder_gives_its_last_layer_and_one_two_thirds_up(tiny_encoder):
    import torch
    from transformers import AutoModel, AutoTokenizer

    folder = tiny_encoder
    encoder = Encoder(folder)
    texts = ["my card is late please", "loan"]
    views = encoder.views(encoder.transform(texts))
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder)
    with torch.inference_mode():
        for k, text in enumerate(texts):
            batch = tokenizer(text, return_tensors="pt")
            states = model.eval()(**batch, output_hidden_states=True).hidden_states
            for view, layer in zip(views, (states[3], states[2]), strict=True):
                mean = layer[0].mean(0).numpy()
                assert view[k] == pytest.approx(mean / np.linalg.norm(mean), abs=1e-5)


def test_a_text_has_the_same_vector_alone_and_beside_longer_texts(tiny_encoder):
    encoder = Encoder(tiny_encoder)
    alone = encoder.transform(["my card"])
    beside = encoder.transform(["my card", "please help me about the late loan rate"])
    assert beside[0] == pytest.approx(alone[0], abs=1e-5)


def test_rows_that_are_read_together_are_read_once_and_few_are_read_anew(tiny_encoder, monkeypatch):
    read: list[str] = []
    computed = Encoder.computed
    monkeypatch.setattr(
        Encoder, "computed", lambda self, texts: (read.extend(texts), computed(self, texts))[1]
    )
    encoder = Encoder(tiny_encoder)
    texts = [f"my card {k}" for k in range(64)]
    first = encoder.transform([*texts, texts[0]])
    assert np.array_equal(first[0], first[-1])
    again = encoder.transform(["the loan", *texts])
    assert np.allclose(again[1:], first[:-1], atol=1e-5)
    n_read = len(read)
    encoder.transform(texts[:1])
    assert len(read) == n_read + 1, "what is timed is read"
    if not encoder.uses_torch:
        assert read == [*texts, "the loan", texts[0]]


def test_rows_of_a_block_have_length_1_and_an_empty_text_has_0(table):
    block = Tfidf().fitted(["my card is late", "the loan rate"])
    lengths = np.linalg.norm(block.transform(["my loan", ""]).toarray(), axis=1)
    assert lengths == pytest.approx([1, 0], abs=1e-6)
    lengths = np.linalg.norm(table.transform(["my loan", ""]), axis=1)
    assert lengths == pytest.approx([1, 0], abs=1e-6)
