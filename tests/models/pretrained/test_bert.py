from pathlib import Path

import numpy as np
import pytest

from stratos.core.errors import ForeignFileError
from stratos.models.kinds.encoder import Encoder
from stratos.models.pretrained.bert import Bert, is_bert


def write_bert(folder: Path, dtype: str = "float32", **settings) -> Path:
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import BertConfig, BertForSequenceClassification

    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=32, hidden_size=16, num_hidden_layers=2, num_attention_heads=4,
        intermediate_size=24, max_position_embeddings=12, **settings,
    )  # fmt: skip
    BertForSequenceClassification(config).to(getattr(torch, dtype)).save_pretrained(folder)
    tokenizer = Tokenizer(models.WordLevel({f"w{k}": k for k in range(32)}, unk_token="w0"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_bert(tmp_path / "bert")


def test_its_states_are_those_of_transformers_for_texts_of_any_length(folder):
    import torch
    from transformers import AutoModel

    bert, model = Bert.of_folder(folder), AutoModel.from_pretrained(folder).eval()
    tokens = bert.tokens(["w1", "w2 w3 w4 w5", "w9 " * 40], longest=128)
    assert [len(each) for each in tokens] == [1, 4, 12], "no more than it has positions for"
    states = bert.states(tokens)
    assert len(states) == bert.n_layers + 1
    start = 0
    for each in tokens:
        with torch.inference_mode():
            out = model(torch.from_numpy(each)[None], output_hidden_states=True).hidden_states
        for own, theirs in zip(states, out, strict=True):
            assert own[start : start + len(each)] == pytest.approx(theirs[0].numpy(), abs=1e-5)
        start += len(each)


def test_passes_at_once_have_the_features_of_one_after_another(folder):
    from threadpoolctl import threadpool_limits

    encoder = Encoder(folder)
    texts = [" ".join(f"w{(k * j) % 32}" for j in range(1, 2 + k % 9)) for k in range(200)]
    with threadpool_limits(limits=1):
        alone = encoder.transform(texts)
    with threadpool_limits(limits=2):
        at_once = encoder.transform(texts)
    assert np.array_equal(at_once, alone)
    assert encoder.transform([]).shape == (0, alone.shape[1])


def test_each_product_has_one_thread(folder, monkeypatch):
    from threadpoolctl import threadpool_info, threadpool_limits

    def n_threads() -> set[int]:
        libraries = [each for each in threadpool_info() if "numpy" in each["filepath"]]
        return {each["num_threads"] for each in libraries}

    within = []
    monkeypatch.setattr(
        "stratos.models.pretrained.bert._gelu", lambda x: within.append(n_threads()) or x
    )
    with threadpool_limits(limits=2, user_api="blas"):
        if n_threads() != {2}:
            pytest.skip("NumPy has a BLAS of another place")
        Bert.of_folder(folder).states([np.array([1, 2])])
        assert {1} in within and all(threads == {1} for threads in within)
        assert n_threads() == {2}


def test_a_copy_has_the_same_bytes_and_states(folder, tmp_path):
    bert = Bert.of_folder(folder)
    bert.save(tmp_path / "copy")
    copy = Bert.of_folder(tmp_path / "copy")
    name = "model.safetensors"
    assert (tmp_path / "copy" / name).read_bytes() == (folder / name).read_bytes()
    assert np.array_equal(
        copy.states(copy.tokens(["w1 w2"], 9))[-1], bert.states([np.array([1, 2])])[-1]
    )


@pytest.mark.parametrize(
    "settings", [{"hidden_act": "relu"}, {"is_decoder": True}, {"dtype": "bfloat16"}]
)
def test_other_forms_are_left_to_transformers(settings, tmp_path):
    assert not is_bert(write_bert(tmp_path / "bert", **settings))


def test_files_that_do_not_fit_are_refused(folder):
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.add_tokens(["w40"])
    tokenizer.save(str(folder / "tokenizer.json"))
    with pytest.raises(ForeignFileError, match="32 vectors for 33 tokens"):
        Bert.of_folder(folder)
