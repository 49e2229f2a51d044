"""Chat prompts for a user's questions: zero-shot, few-shot, step by step."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from stratos.tasks.base import Item, Message
from stratos.tasks.rows import writable

MARK = "Answer:"
"""What an answer is announced with."""

_BARE = f"Give the answer only, as '{MARK} …'."
_REASONED = f"Think step by step, then end with a line '{MARK} …'."


@dataclass(frozen=True)
class Form:
    """What a prompt asks for."""

    how: str
    """What it says about the form of the answer."""
    has_examples: bool
    wants_reasoning: bool


FORMS = {
    "default": Form(_BARE, True, False),
    "zero_shot": Form(_BARE, False, False),
    "reasoning": Form(_REASONED, True, True),
    "zero_shot_reasoning": Form(_REASONED, False, True),
}
"""The prompts by name."""


def reasoned(item: Item) -> str:
    """Return the reasoning of an item, and its answer behind the mark."""
    return f"{item.rationale}\n{MARK} {item.answer}"


def answer_texts(prompt: str, items: Sequence[Item]) -> list[str]:
    """Return texts as good answers to a prompt are; of reasoning only where items bring it."""
    if FORMS[prompt].wants_reasoning:
        return [reasoned(item) for item in items if item.rationale]
    return [f"{MARK} {item.answer}" for item in items]


def reasons(prompt: str) -> bool:
    """Return whether a prompt asks for the reasoning that leads to the answer."""
    return prompt in FORMS and FORMS[prompt].wants_reasoning


def ask(instruction: str, prompt: str, examples: Sequence[Item], item: Item) -> list[Message]:
    """Return the chat that asks for an answer; an item is never its own example."""
    turns = []
    for example in examples:
        if example.id != item.id:
            answer = f"{MARK} {example.answer}"
            if FORMS[prompt].wants_reasoning and example.rationale:
                answer = reasoned(example)
            turns.append((example.question, answer))
    return turn_by_turn(f"{instruction} {FORMS[prompt].how}", turns, item.question)


def turn_by_turn(system: str, turns: Sequence[tuple[str, str]], question: str) -> list[Message]:
    """Return a chat with answered turns before the question."""
    messages = [{"role": "system", "content": system}]
    for user_turn, answered in turns:
        messages.append({"role": "user", "content": user_turn})
        messages.append({"role": "assistant", "content": answered})
    return [*messages, {"role": "user", "content": question}]


_PROBE = "e2c1"
_SYSTEM = """\
{%- if messages[0]['role'] != 'system' -%}
{%- set messages = [{'role': 'system', 'content': INSTRUCTION}] + messages -%}
{%- endif -%}
"""
_NO_SYSTEM = """\
{%- set instruction = INSTRUCTION -%}
{%- if messages[0]['role'] == 'system' -%}
{%- set instruction = messages[0]['content'] -%}
{%- set messages = messages[1:] -%}
{%- endif -%}
{%- set question = instruction ~ '\n\n' ~ messages[0]['content'] -%}
{%- set messages = [{'role': 'user', 'content': question}] + messages[1:] -%}
"""


def prefix_template(tokenizer: Any, prefix: str) -> None:
    """Put a task's `template_prefix` before a tokenizer's chat template.

    Args:
        tokenizer: with a chat template that is a text; others are left alone.
        prefix: Jinja that may set `messages` anew.
    """
    template = tokenizer.chat_template
    if isinstance(template, str):
        tokenizer.chat_template = prefix + template


def instruct(tokenizer: Any, instruction: str) -> None:
    """Put an instruction into a tokenizer's chat template: the system message of every chat.

    The student is then asked the bare question, in training, evaluation and by whoever serves it,
    and reads the instruction before it. A chat with a system message of its own has that in place
    of the instruction. Where the template takes no system message, the instruction stands at the
    beginning of the first question.

    Args:
        tokenizer: with a chat template that is a text; others are left alone.
        instruction: "" changes nothing.
    """
    template = tokenizer.chat_template
    if not instruction or not isinstance(template, str):
        return
    before = _SYSTEM if _takes_system(tokenizer) else _NO_SYSTEM
    # A JSON string is a string of Jinja, but for the two halves that JSON escapes an emoji as.
    literal = json.dumps(writable(instruction), ensure_ascii=False)
    tokenizer.chat_template = before.replace("INSTRUCTION", literal) + template


def _takes_system(tokenizer: Any) -> bool:
    chat = [{"role": "system", "content": _PROBE}, {"role": "user", "content": "?"}]
    try:
        return _PROBE in tokenizer.apply_chat_template(chat, tokenize=False)
    except Exception:  # a template raises what its authors chose
        return False
