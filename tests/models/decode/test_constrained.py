"""Constrained decoding: whatever the weights, what is written matches the schema."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch

from stratos.distill.tokenizer import symbol_tokenizer, trained_tokenizer
from stratos.models.decode import constrained
from stratos.models.decode.batched import complete
from stratos.tasks.base import Symbols
from stratos.tasks.schema import BySchema
from stratos.tasks.schema.document import validator

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
def test_every_answer_of_a_batch_matches_its_own_schema(make):
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


def takes(schema: Any, text: str) -> bool:
    """Return whether the grammar of a schema takes a text."""
    from llguidance import LLMatcher, LLTokenizer

    matcher = LLMatcher(LLTokenizer("byte"), constrained._grammar(json.dumps(schema)), log_level=0)
    tokens = list(text.encode())
    return matcher.try_consume_tokens(tokens) == len(tokens) and matcher.is_accepting()


NUMBER, WHOLE = {"type": "number"}, {"type": "integer"}


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        *(
            ({"type": "string", "format": name}, text)
            for name, text in [
                ("date-time", "2024-02-29 10:00"), ("time", "10:30"), ("uri", "example.org/x"),
                ("hostname", "a_b.example"), ("duration", "3 days"), ("email", "jö@x"),
                ("ipv6", "::ffff:1.2.3.4"), ("date", "2024-02-29"),
            ]
        ),
        ({**NUMBER, "minimum": 0, "maximum": 1}, 1e-07),
        ({**NUMBER, "multipleOf": 0.01}, 0.07),
        ({"minimum": 0}, 1e22),
        ({"enum": [1.0, 1e-07]}, 1e-07),
        ({"enum": [1.0, 2.5]}, 1.0),
        (WHOLE, 5.0),
        ({"type": ["integer", "null"]}, 5.0),
        ({"type": "string"}, "\x7f"),
        ({"allOf": [{"properties": {"b": WHOLE}}], "properties": {"a": WHOLE}}, {"a": 1, "b": 2}),
        ({"properties": {"a": WHOLE}, "allOf": [{"$ref": "#/$defs/o"}]}, {"y": 1, "a": 2, "x": 3}),
        ({"type": "array", "items": {"$ref": "#/$defs/o"}}, [{"y": 1, "x": 2}]),
        ({"anyOf": [{"type": "null"}, {"$ref": "#/$defs/o"}]}, {"y": 1, "x": 2}),
    ],
)  # fmt: skip
def test_the_grammar_takes_the_text_that_a_valid_answer_is_learnt_as(schema, value):
    kind = {"properties": {"v": {"type": "object", **schema} if "allOf" in schema else schema}}
    point = {"type": "object", "properties": {"x": WHOLE, "y": WHOLE}}
    whole = {"type": "object", **kind, "required": ["v"], "$defs": {"o": point}}
    assert takes(whole, BySchema(whole).canonical(json.dumps({"v": value})))


def test_limits_that_a_grammar_can_say_stay():
    percent = {"type": "object", "properties": {"v": {**NUMBER, "minimum": 1, "maximum": 100}}}
    assert takes(percent, '{"v": 99.5}') and not takes(percent, '{"v": 100.5}')
    day = {"type": "object", "properties": {"format": {"type": "string", "format": "date"}}}
    assert not takes(day, '{"format": "2024-02-30"}')
    whole = {"type": "object", "properties": {"v": {**WHOLE, "minimum": 0, "multipleOf": 5}}}
    assert takes(whole, '{"v": 15}') and not takes(whole, '{"v": 7}')
