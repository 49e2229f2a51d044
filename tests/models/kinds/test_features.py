import numpy as np
import pytest

from stratos.models.kinds.encoder import Encoder
from stratos.models.kinds.features import Tfidf


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


def test_rows_of_a_block_have_length_1_and_an_empty_text_has_0(table):
    block = Tfidf().fitted(["my card is late", "the loan rate"])
    lengths = np.linalg.norm(block.transform(["my loan", ""]).toarray(), axis=1)
    assert lengths == pytest.approx([1, 0], abs=1e-6)
    lengths = np.linalg.norm(table.transform(["my loan", ""]), axis=1)
    assert lengths == pytest.approx([1, 0], abs=1e-6)
