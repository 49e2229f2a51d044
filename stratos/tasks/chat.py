"""Chat prompts for a user's questions: zero-shot, few-shot, step by step."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from stratos.core.formats import writable
from stratos.tasks.base import Item, Message
from stratos.tasks.table import Row

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


def reasoned(item: Item | Row) -> str:
    """Return the reasoning of an item, and its answer behind the mark."""
    return f"{item.rationale}\n{MARK} {item.answer}"


def answer_texts(prompt: str, items: Sequence[Item | Row]) -> list[str]:
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


@dataclass(frozen=True)
class AddedPrompt:
    """What a prompt adds to another one: how labels differ."""

    base: str
    """The prompt that it adds to."""
    pairs: tuple[tuple[str, str], ...]
    """Labels that are easily taken for each other."""


class Prompt(Protocol):
    """How a model is asked for the answers of a task."""

    @property
    def system(self) -> str:
        """What a model is told before a question."""
        ...

    def shows_examples(self, prompt: str) -> bool:
        """Return whether a prompt shows answered questions."""
        ...

    def messages(self, item: Item, prompt: str, examples: Sequence[Item]) -> list[Message]:
        """Return the chat that asks a teacher; an item is never its own example."""
        ...

    def choice_messages(self, item: Item, examples: Sequence[Item]) -> list[Message]:
        """Return the chat that asks for one letter of A, B, C, D."""
        ...

    def answer_texts(self, prompt: str, items: Sequence[Item | Row]) -> list[str]:
        """Return the answers to items in the form that a prompt asks for."""
        ...


@dataclass(frozen=True)
class QuestionPrompt:
    """Asks a question behind an instruction."""

    system: str
    form: str = ""
    """What a teacher is told of the form of answers, beside the instruction."""
    lists_options: bool = False
    """Whether a question lists its own options."""

    def shows_examples(self, prompt: str) -> bool:
        """Return whether a prompt shows answered questions."""
        return FORMS[prompt].has_examples

    def messages(self, item: Item, prompt: str, examples: Sequence[Item]) -> list[Message]:
        """Return the chat that asks a teacher; an item is never its own example."""
        return ask(
            f"{self.system} {self.form}" if self.form else self.system, prompt, examples, item
        )

    def choice_messages(self, item: Item, examples: Sequence[Item]) -> list[Message]:
        """Return the chat that asks for one letter, behind examples that have choices."""
        shown = [e for e in examples if e.choices and e.id != item.id]
        turns = [(self._choice(e), "ABCD"[e.choices.index(e.answer)]) for e in shown]
        return turn_by_turn(f"{self.system} Answer with one letter.", turns, self._choice(item))

    def _choice(self, item: Item) -> str:
        return item.question if self.lists_options else with_choices(item.question, item)

    def answer_texts(self, prompt: str, items: Sequence[Item | Row]) -> list[str]:
        """Return the answers to items in the form that a prompt asks for."""
        return answer_texts(prompt, items)


def with_choices(text: str, item: Item) -> str:
    """Return a text with the choices of an item, each on a line behind its letter."""
    lines = [f"{a}) {choice}" for a, choice in zip("ABCD", item.choices, strict=True)]
    return "\n".join([text, *lines])


def drawn_choices(item: Item, answers: Sequence[str]) -> tuple[str, ...]:
    """Return the answer of an item among three others, in an order fixed by its id.

    Nothing where there are too few.
    """
    rng = random.Random(item.id)
    sampled = rng.sample(answers, min(len(answers), 4))
    wrong = [answer for answer in sampled if answer != item.answer][:3]
    if len(wrong) < 3:
        return ()
    choices = [item.answer, *wrong]
    rng.shuffle(choices)
    return tuple(choices)


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
