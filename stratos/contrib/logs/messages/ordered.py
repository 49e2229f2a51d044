"""Turns in their order: roles are checked, and tools are written into the text."""

from __future__ import annotations

import json
from collections.abc import Sequence

from stratos.contrib.logs.messages.conversation import (
    About,
    Conversation,
    Turn,
    UnansweredRow,
    WrongRow,
)
from stratos.core.redact import redact_shapes
from stratos.tasks.base import Message
from stratos.tasks.rows import writable

_TOLD = {"system": "a system message", "user": "a user's", "assistant": "the model's"}


def conversation_of(turns: Sequence[Turn], about: About) -> Conversation:
    """Return a conversation whose roles stand in order, with keys and tokens replaced.

    Messages of one user that follow each other are one; results of tools are the user's. A message
    of the model before any of the user is a greeting, which is not learnt. A system message may
    stand anywhere.

    Raises:
        WrongRow: roles are out of order, or a result has no call.
        UnansweredRow: the model has said nothing.
    """
    messages: list[Message] = []
    answered: list[int] = []
    called: list[int] = []
    open_calls: set[str] = set()
    spoke: str | None = None  # who was the last to speak, of the user and the model
    start: int | None = None  # where the user speaks first
    n_images = n_calls = n_secrets = 0
    for number, turn in enumerate(turns, start=1):
        n_images += turn.n_images
        text, n = redact_shapes(writable(_written(turn)))
        n_secrets += n
        last = messages[-1]["role"] if messages else None
        role = "user" if turn.role == "tool" else turn.role
        if turn.role == "tool":
            if not open_calls or (turn.result_of and turn.result_of not in open_calls):
                raise WrongRow(f"message {number} is the result of a tool that was not called")
        elif turn.role == "user" and not text:
            raise WrongRow(
                f"message {number} of the user has an image and no text"
                if turn.n_images
                else f"message {number} of the user is empty"
            )
        elif turn.role == "system" and last == "system":
            messages[-1] = {"role": "system", "content": f"{messages[-1]['content']}\n{text}"}
            continue
        is_greeting = spoke is None and not turn.calls
        if role == "assistant" and spoke != "user" and not is_greeting:
            after = f"follows {_TOLD[spoke or last]}" if last else "is the first"
            raise WrongRow(f"roles out of order: message {number} is the model's and {after}")
        spoke = spoke if role == "system" else role
        if role == "user" and last == "user":
            messages[-1] = {"role": "user", "content": f"{messages[-1]['content']}\n\n{text}"}
            continue
        if role == "user" and start is None:
            start = len(messages)
        messages.append({"role": role, "content": text})
        if role == "assistant":
            names = {call.name for call in turn.calls}
            open_calls = names | {call.id for call in turn.calls}
            n_calls += bool(turn.calls)
            called += [len(messages) - 1] if turn.calls else []
            if start is not None and turn.is_learnt and not turn.calls and text.strip():
                answered.append(len(messages) - 1)
    if about.only_last:
        answered, called = ([place for place in places if place == len(messages) - 1]
                            for places in (answered, called))  # fmt: skip
    if start is None:
        raise WrongRow("roles out of order: no message is the user's")
    if not any(one["role"] == "assistant" and one["content"].strip() for one in messages[start:]):
        raise UnansweredRow("has no answer of the model")
    return Conversation(
        about, tuple(messages), tuple(answered), n_images, n_calls, n_secrets, tuple(called)
    )


def _written(turn: Turn) -> str:
    """Return the text of a turn with its calls, or as the result of one."""
    if turn.role == "tool":
        return f"<tool_response>\n{turn.text}\n</tool_response>"
    calls = [
        "<tool_call>\n"
        + json.dumps({"name": one.name, "arguments": json.loads(one.arguments)}, ensure_ascii=False)
        + "\n</tool_call>"
        for one in turn.calls
    ]
    return "\n".join([*([turn.text] if turn.text else []), *calls])
