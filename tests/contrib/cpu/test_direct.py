"""Direct decode steps: the answers of transformers, and transformers where they are not."""

import random
from types import MethodType

import pytest
import torch
from tiny_student import WORDS, tiny_model, tiny_tokenizer

from stratos.contrib.cpu import cpu_decoder as kernel
from stratos.contrib.cpu.cpu_decoder import MOST_PARAMETERS, can_decode
from stratos.models.decode.batched import complete, write
from stratos.models.decode.decoder import Decoder, Decoding
from stratos.models.words import OtherLogits

LONGEST = 90
SHAPES = [{}, {"num_key_value_heads": 2}, {"tie_word_embeddings": False}, {"head_dim": 6}]


@pytest.fixture(autouse=True)
def compiler():
    if kernel.load() is None:
        pytest.skip("no C compiler")


@pytest.fixture(scope="module")
def tokenizer():
    return tiny_tokenizer()


@pytest.fixture(scope="module")
def chats():
    draw = random.Random(2)
    texts = [" ".join(draw.choices(WORDS[5:], k=draw.randint(1, 9))) for _ in range(12)]
    return [[{"role": "user", "content": text}] for text in texts]


def wild_model(**changes):
    """A model whose large random weights write varied text and end at very unlike places."""
    model = tiny_model(seed=3, initializer_range=0.4, max_position_embeddings=512, **changes)
    with torch.no_grad():  # norms of new models do nothing
        for name, weight in model.named_parameters():
            if "norm" in name:
                weight.uniform_(0.5, 1.5)
    return model.eval()


def answers(model, tokenizer, chats, decoder, **options):
    decoding = Decoding(decoder)
    options = {"max_new_tokens": LONGEST, "batch_size": 5, "with_logprobs": True, **options}
    return complete(model, tokenizer, chats, decoding=decoding, **options), decoding


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_answers_and_their_probabilities_are_those_of_transformers(tokenizer, chats, shape):
    model = wild_model(**shape)
    expected, by_transformers = answers(model, tokenizer, chats, Decoder.TRANSFORMERS)
    found, by_itself = answers(model, tokenizer, chats, Decoder.AUTO)
    assert (by_transformers.used, by_itself.used) == ("transformers", "direct")
    assert by_itself.complaint is None
    lengths = {one.output_tokens for one in found}
    assert len(lengths) > 3, "rows leave the batch at unlike places"
    assert max(lengths) > 50, "and some outgrow their first buffer"
    assert [(one.text, one.output_tokens) for one in found] == [
        (one.text, one.output_tokens) for one in expected
    ]
    assert [one.logprob for one in found] == pytest.approx(
        [one.logprob for one in expected], rel=1e-3, abs=1e-2
    )


def test_rows_that_would_mostly_be_padding_are_read_apart(tokenizer):
    model = wild_model()
    asked = [[2, *[7] * (n - 1)] for n in (200, 12, 11, 10, 9)]
    options = {"max_new_tokens": LONGEST, "batch_size": 5}
    expected = write(model, tokenizer, asked, decoding=Decoding(Decoder.TRANSFORMERS), **options)
    shapes = []
    hook = model.register_forward_pre_hook(
        lambda _, __, given: shapes.append(tuple(given["input_ids"].shape)), with_kwargs=True
    )
    assert write(model, tokenizer, asked, **options) == expected
    hook.remove()
    assert [shape for shape in shapes if shape[1] > 1] == [(1, 200), (4, 12)]


def test_texts_drawn_with_a_seed_are_those_of_transformers(tokenizer):
    def drawn(decoder):
        torch.manual_seed(7)
        decoding = Decoding(decoder)
        texts = write(
            wild_model(),
            tokenizer,
            [[2, 5 + place % 9, 3] for place in range(9)],
            max_new_tokens=30,
            batch_size=9,
            pick=lambda logits_BV, _: torch.multinomial((logits_BV / 4).softmax(-1), 1),
            decoding=decoding,
        )
        return texts, decoding.used

    (expected, slow), (found, fast) = drawn(Decoder.TRANSFORMERS), drawn(Decoder.AUTO)
    assert (slow, fast) == ("transformers", "direct")
    assert found == expected
    assert len({tuple(text) for text in found}) > 5


def test_new_weights_are_read_at_every_call(tokenizer, chats):
    model = wild_model()
    before, _ = answers(model, tokenizer, chats, Decoder.AUTO)
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(1.2)
    expected, _ = answers(model, tokenizer, chats, Decoder.TRANSFORMERS)
    found, decoding = answers(model, tokenizer, chats, Decoder.AUTO)
    assert decoding.used == "direct"
    assert [one.text for one in found] == [one.text for one in expected]
    assert [one.text for one in found] != [one.text for one in before]


def test_transformers_goes_on_where_its_logits_are_others(tokenizer, chats):
    """A module that does what no config says, such as an adapter's, is noticed."""
    model = wild_model()
    mlp = model.model.layers[1].mlp
    whole = type(mlp).forward
    mlp.forward = MethodType(lambda self, x: 1.1 * whole(self, x), mlp)
    expected, _ = answers(model, tokenizer, chats, Decoder.TRANSFORMERS)
    found, decoding = answers(model, tokenizer, chats, Decoder.AUTO)
    assert found == expected
    assert decoding.used == "transformers"
    assert decoding.complaint == OtherLogits(3)


def test_a_model_that_is_not_a_number_is_left_to_transformers(tokenizer, chats):
    model = wild_model()
    with torch.no_grad():
        model.lm_head.weight.fill_(torch.nan)
    _, decoding = answers(model, tokenizer, chats[:2], Decoder.AUTO, max_new_tokens=3)
    assert decoding.used == "transformers"


def test_other_models_are_left_to_transformers():
    from transformers import Qwen2Config, Qwen2ForCausalLM

    assert can_decode(wild_model())
    assert not can_decode(wild_model().double())
    assert not can_decode(wild_model(attention_bias=True))
    assert not can_decode(wild_model(hidden_act="gelu"))
    scaled = {"rope_type": "linear", "factor": 2.0, "rope_theta": 10000.0}
    assert not can_decode(wild_model(rope_parameters=scaled))
    with torch.device("meta"):
        assert not can_decode(wild_model_of_width(4096))
    small = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4}
    small |= {"num_key_value_heads": 4, "intermediate_size": 64, "vocab_size": len(WORDS)}
    assert not can_decode(Qwen2ForCausalLM(Qwen2Config(**small)))
    with torch.autocast("cpu", torch.bfloat16):
        assert not can_decode(wild_model())


def wild_model_of_width(width):
    from transformers import LlamaConfig, LlamaForCausalLM

    model = LlamaForCausalLM(LlamaConfig(hidden_size=width, num_hidden_layers=1, vocab_size=8))
    assert model.num_parameters() > MOST_PARAMETERS
    return model
