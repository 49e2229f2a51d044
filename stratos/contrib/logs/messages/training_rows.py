"""Formats of files to train on: messages, ShareGPT, Alpaca, prompt and completion."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from stratos.contrib.logs.messages.conversation import Conversation, Turn, UnansweredRow, WrongRow
from stratos.contrib.logs.messages.exchanges import offered_tools
from stratos.contrib.logs.messages.message_parts import decoded, messages_in, turns_of
from stratos.contrib.logs.messages.ordered import conversation_of
from stratos.contrib.logs.messages.particulars import particulars

MESSAGES = "fine-tuning messages"
SHAREGPT = "ShareGPT"
ALPACA = "Alpaca"
PROMPTS = "prompt and completion"

_SAID_TO_INSTRUCTIONS = ("output", "response")
_PROMPT = ("prompt", "input", "question")
_COMPLETION = ("completion", "preferred_output", "chosen", "response")

Row = Mapping[str, Any]


def read_messages(row: Row) -> Conversation | None:
    """Return the conversation of `{"messages": [...]}`; None for another row."""
    found = decoded(row.get("messages", row.get("conversation", row.get("conversations"))))
    if found is None or _is_sharegpt(found):
        return None
    about = particulars(MESSAGES, row)
    about.offers_tools = offered_tools(row) is not None
    return conversation_of(_with_system(row, turns_of(found)), about)


def read_sharegpt(row: Row) -> Conversation | None:
    """Return the conversation of `{"conversations": [{"from": …, "value": …}]}`, or None."""
    found = decoded(row.get("conversations", row.get("conversation", row.get("messages"))))
    if not _is_sharegpt(found):
        return None
    return conversation_of(_with_system(row, turns_of(found)), particulars(SHAREGPT, row))


def read_alpaca(row: Row) -> Conversation | None:
    """Return the conversation of `{"instruction": …, "input": …, "output": …}`, or None."""
    said = next((name for name in _SAID_TO_INSTRUCTIONS if name in row), None)
    if not isinstance(row.get("instruction"), str) or said is None:
        return None
    instruction, output = row["instruction"], row[said]
    given = row.get("input") or row.get("context") or ""
    if not isinstance(given, str) or not isinstance(output, str | None):
        raise WrongRow(f"input or {said} is no text")
    turns: list[Turn] = []
    history = decoded(row.get("history"))
    for pair in history if isinstance(history, list) else ():
        if not isinstance(pair, list) or [type(one) for one in pair] != [str, str]:
            raise WrongRow("history is no list of pairs of texts")
        turns += [Turn("user", pair[0]), Turn("assistant", pair[1], is_learnt=False)]
    turns.append(Turn("user", f"{instruction}\n\n{given}" if given else instruction))
    if not (output or "").strip():
        raise UnansweredRow(f"has no answer of the model ({said})")
    turns.append(Turn("assistant", output or ""))
    return conversation_of(_with_system(row, turns), particulars(ALPACA, row))


def read_prompts(row: Row) -> Conversation | None:
    """Return the conversation of a prompt with its completion, or with the preferred one; or None.

    Each is a text or a list of messages.
    """
    prompt, answer = (
        messages_in(next((row[name] for name in names if row.get(name) is not None), None))
        for names in (_PROMPT, _COMPLETION)
    )
    if prompt is None or answer is None:
        return None
    if isinstance(prompt, Mapping) and "messages" in prompt:
        prompt = prompt["messages"]
    before, after = _turns("user", prompt, "prompt"), _turns("assistant", answer, "completion")
    if not isinstance(answer, str) and after[: len(before)] == before:
        before = []  # preference data that repeat the prompt in front of each answer
    about = particulars(PROMPTS, row)
    about.only_last = True
    return conversation_of(_with_system(row, [*before, *after]), about)


def _is_sharegpt(found: Any) -> bool:
    return (
        isinstance(found, list)
        and bool(found)
        and isinstance(found[0], Mapping)
        and "from" in found[0]
        and "role" not in found[0]
    )


def _with_system(row: Row, turns: list[Turn]) -> list[Turn]:
    told = row.get("system", row.get("system_prompt"))
    has_one = bool(turns) and turns[0].role == "system"
    if not isinstance(told, str) or not told or has_one:
        return turns
    return [Turn("system", told), *turns]


def _turns(role: str, value: Any, what: str) -> list[Turn]:
    return [Turn(role, value)] if isinstance(value, str) else turns_of(value, what)
