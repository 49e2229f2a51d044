"""Constrained decoding: whatever the weights, what is written matches the schema."""

from __future__ import annotations

import json

import pytest
import torch

from stratos.decode.batched import complete
from stratos.distill.tokenizer import symbol_tokenizer, trained_tokenizer
from stratos.tasks.base import Symbols
from stratos.tasks.schema.value_checks import validator

pytest.importorskip("llguidance", reason="needs the extra schema")

SCHEMA = {
    "type": "object",
    "properties": {
        "kind": {"enum": ["cat", "dog"]},
        "legs": {"type": "integer", "minimum": 1, "maximum": 9},
        "pair": {"type": "array", "items": {"type": "boolean"}, "minItems": 2, "maxItems": 2},
    },
    "required": ["kind", "legs", "pair"],
    "additionalProperties": False,
}
OTHER = {"type": "object", "properties": {"no": {"const": None}}, "required": ["no"]}
OTHER = {**OTHER, "additionalProperties": False}
TEXTS = ['{"kind": "cat", "legs": 4, "pair": [true, false]}', '{"no": null}', "what is it"]


def of_bytes():
    return trained_tokenizer(TEXTS * 5, 300)


def of_words():
    letters = sorted({letter for text in TEXTS for letter in text} | set("0123456789dog"))
    return symbol_tokenizer(Symbols((*letters, '": ', '", "'), r'": |", "|.'))


@pytest.mark.parametrize("make", [of_bytes, of_words])
def test_every_answer_of_a_batch_matches_its_own_schema(make) -> None:
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = make()
    torch.manual_seed(0)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=512,  # more than there are tokens, as padded embeddings have
            hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2,
            eos_token_id=tokenizer.eos_token_id, initializer_range=0.5,
        )
    )  # fmt: skip
    chats = [[{"role": "user", "content": f"what {'is ' * (k % 3)}it"}] for k in range(9)]
    schemas = [(SCHEMA, OTHER, None)[k % 3] for k in range(9)]
    asked = {"max_new_tokens": 120, "batch_size": 4, "choose_threads": False}
    answers = complete(model, tokenizer, chats, **asked, schemas=schemas)
    free = complete(model, tokenizer, chats, **asked)
    for schema, found, unbound in zip(schemas, answers, free, strict=True):
        if schema is None:
            assert found.text == unbound.text
        else:
            assert validator(schema).is_valid(json.loads(found.text)), found.text
            assert not found.is_truncated
            assert not unbound.text.startswith('{"')
