"""Common beginnings of prompts: found, computed once, and changing no answer."""

from __future__ import annotations

import random
from typing import Any

import pytest
import torch
from tiny_student import tiny_model, tiny_tokenizer

from stratos.models.decode.batched import write
from stratos.models.decode.decoder import repeats
from stratos.models.decode.kv_cache import Prefixes, alike
from stratos.models.decode.label_scores import score_labels

LONGEST = 30


def prompts() -> list[list[int]]:
    """Two few-shot prompts with six questions each, and two questions of their own, shuffled."""
    draw = random.Random(2)
    short, long = (draw.choices(range(5, 15), k=n) for n in (20, 60))
    # The two begin alike, as system messages of one task do.
    few_shot = [[2, *long[:18], *rest] for rest in (short, long[18:])]
    asked = [
        [*beginning, *draw.choices(range(5, 15), k=draw.randint(1, 9))]
        for beginning in few_shot
        for _ in range(6)
    ]
    asked += [[3, *draw.choices(range(5, 15), k=5)], [4, 5, 6, 7]]
    draw.shuffle(asked)
    return asked


def wild_model(**changes: Any) -> Any:
    options = {"initializer_range": 0.4, "eos_token_id": [1], "max_position_embeddings": 512}
    return tiny_model(seed=3, **{**options, **changes}).eval()


def test_prompts_that_begin_alike_form_a_group():
    asked = prompts()
    found = sorted((n, len(rows)) for rows, n in alike(asked))
    assert [n_rows for _, n_rows in found] == [6, 6]
    assert 39 <= found[0][0] <= 48 and 61 <= found[1][0] <= 70
    for rows, n in alike(asked):
        assert len({tuple(asked[row][:n]) for row in rows}) == 1
        assert all(len(asked[row]) > n for row in rows)
    # Several answers to one question: all of it but the last token is computed once.
    same = [[*range(5, 15)] * 3] * 4
    assert [(sorted(rows), n) for rows, n in alike(same)] == [([0, 1, 2, 3], 29)]
    assert not list(alike([])) and not list(alike([[5, 6]]))


def test_prompts_around_a_longer_beginning_share_the_shorter_one():
    instruction, examples = [5] * 40, [9] * 60
    asked = [[*instruction, first, 3, 4] for first in (6, 8, 10, 12)]
    asked += [[*instruction, *examples, last, 4] for last in range(10, 14)]
    found = [(sorted(rows), n) for rows, n in alike(asked)]
    assert sorted(found) == [([0, 1, 2, 3], 40), ([4, 5, 6, 7], 100)]


@pytest.mark.parametrize("batch_size", [3, 64])
def test_shared_beginnings_change_no_answer(batch_size):
    model, tokenizer, asked = wild_model(), tiny_tokenizer(), prompts()
    options: Any = {"max_new_tokens": LONGEST, "batch_size": batch_size}
    expected = write(model, tokenizer, asked, **options)
    assert len({len(answer) for answer in expected}) > 3
    with torch.inference_mode():
        prefixes = Prefixes.of(model, asked)
    assert sorted(prefixes.lengths)[:2] == [0, 0] and min(sorted(prefixes.lengths)[2:]) > 30
    assert write(model, tokenizer, asked, share_prefixes=True, **options) == expected


def test_a_model_with_sliding_windows_shares_nothing():
    from transformers import MistralConfig, MistralForCausalLM

    config = MistralConfig(
        vocab_size=15, hidden_size=16, intermediate_size=32, num_hidden_layers=1,
        num_attention_heads=2, num_key_value_heads=2, sliding_window=8,
    )  # fmt: skip
    assert set(Prefixes.of(MistralForCausalLM(config).eval(), prompts()).lengths) == {0}


def test_each_answer_has_its_own_longest_length():
    model, tokenizer, asked = wild_model(eos_token_id=[99]), tiny_tokenizer(), prompts()
    longest = [1 + index for index in range(len(asked))]
    answers = write(model, tokenizer, asked, max_new_tokens=longest, batch_size=4)
    assert [len(answer) for answer in answers] == longest


def test_a_row_that_repeats_itself_is_stopped():
    tokenizer, asked = tiny_tokenizer(), prompts()[:4]
    # Small weights say one thing for ever.
    model = tiny_model(seed=1, max_position_embeddings=1024, eos_token_id=[99]).eval()
    options: Any = {"max_new_tokens": 600, "batch_size": 4}
    whole = write(model, tokenizer, asked, **options)
    looped = [len(answer) == 600 and repeats(answer) for answer in whole]
    assert any(looped), "otherwise nothing is tested"
    stopped = write(model, tokenizer, asked, stop_loops=True, **options)
    for answer, full, loops in zip(stopped, whole, looped, strict=True):
        assert answer == full[: len(answer)]
        assert (len(answer) < 600) is loops and (not loops or repeats(answer))


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ([7] * 64, True),
        ([7] * 63, False),
        ([*range(40)] * 4, True),
        ([1, *[*range(40)] * 4], True),
        ([*range(40)] * 3, False),
        ([*range(40)] * 4 + [8], False),
        ([*range(70)] * 4, False),  # so long a piece is no loop yet
        (list(range(300)), False),
        ([7] * 64 + [8], False),  # it goes on
    ],
)
def test_repetition(written, expected):
    assert repeats(written) is expected


FAMILIES: dict[str, dict[str, Any]] = {
    "GPTNeo": {"num_layers": 2, "num_heads": 2, "attention_types": [[["global", "local"], 1]],
               "window_size": 12, "max_position_embeddings": 512},
    "Mpt": {"d_model": 16, "n_layers": 2, "n_heads": 2, "max_seq_len": 512},
    "Bloom": {"n_layer": 2, "n_head": 2},
    "Falcon": {"num_hidden_layers": 2, "num_attention_heads": 2, "alibi": True},
}  # fmt: skip
"""Those that count the places of keys, whatever their positions."""


def counting_model(family: str) -> Any:
    import transformers

    config = getattr(transformers, f"{family}Config")(
        **{"vocab_size": 15, "hidden_size": 16, "eos_token_id": 1, **FAMILIES[family]}
    )
    torch.manual_seed(0)
    model = getattr(transformers, f"{family}ForCausalLM")(config).eval()
    for weight in model.parameters():  # far from flat: what is read elsewhere is answered otherwise
        torch.nn.init.normal_(weight, std=0.4)
    return model


@pytest.mark.parametrize("family", FAMILIES)
def test_no_padding_stands_between_a_beginning_and_what_follows_it(family):
    model, asked = counting_model(family), prompts()
    options: Any = {"max_new_tokens": 8, "batch_size": 16, "share_prefixes": True}
    answers = write(model, tiny_tokenizer(), asked, **options)
    for prompt, answer in zip(asked, answers, strict=True):
        with torch.inference_mode():
            logits = model(torch.tensor([[*prompt, *answer[:-1]]]), use_cache=False).logits[0]
        assert logits[len(prompt) - 1 :].argmax(-1).tolist() == answer


@pytest.mark.parametrize("family", FAMILIES)
def test_labels_of_such_models_are_read_one_by_one(family):
    model, tokenizer, labels = counting_model(family), tiny_tokenizer(), ("1", "1 2 3", "4")
    asked = [[{"role": "user", "content": "1 2 3 4 5 6 7 8 9 " * 3 + "7 " * n}] for n in (1, 4)]
    scores = score_labels(model, tokenizer, asked, labels, batch_size=4).logprobs_NL
    for chat, row in zip(asked, scores, strict=True):
        prompt = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_dict=True)
        for label, score in zip(labels, row, strict=True):
            tokens = tokenizer(label + tokenizer.eos_token, add_special_tokens=False)["input_ids"]
            with torch.inference_mode():
                logits = model(torch.tensor([prompt["input_ids"] + tokens])).logits[0]
            logprobs = logits[-len(tokens) - 1 : -1].log_softmax(-1)
            assert score == pytest.approx(logprobs[range(len(tokens)), tokens].sum().item(), 1e-4)
