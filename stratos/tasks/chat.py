"""The chats that ask about a user's questions: plain, with examples, or step by step."""

from __future__ import annotations

from collections.abc import Sequence

from stratos.tasks.base import Item, Message

MARK = "Answer:"
"""What an answer is announced with."""

HOW = {
    "default": f"Give the answer only, as '{MARK} …'.",
    "zero_shot": f"Give the answer only, as '{MARK} …'.",
    "reasoning": f"Think step by step, then end with a line '{MARK} …'.",
    "zero_shot_reasoning": f"Think step by step, then end with a line '{MARK} …'.",
}
"""Names of the prompts, and what each says about the form of the answer."""


def has_examples(prompt: str) -> bool:
    """Return whether a prompt shows examples."""
    return not prompt.startswith("zero_shot")


def ask(instruction: str, prompt: str, examples: Sequence[Item], item: Item) -> list[Message]:
    """Return the chat that asks for an answer; an item is never its own example."""
    turns = []
    for example in examples:
        if example.id != item.id:
            answer = f"{MARK} {example.answer}"
            if prompt == "reasoning" and example.rationale:
                answer = f"{example.rationale}\n{answer}"
            turns.append((example.question, answer))
    return turn_by_turn(f"{instruction} {HOW[prompt]}", turns, item.question)


def turn_by_turn(system: str, turns: Sequence[tuple[str, str]], question: str) -> list[Message]:
    """Return a chat with answered turns before the question."""
    messages = [{"role": "system", "content": system}]
    for asked, answered in turns:
        messages.append({"role": "user", "content": asked})
        messages.append({"role": "assistant", "content": answered})
    return [*messages, {"role": "user", "content": question}]
