"""A conversation as every format is read into, and its history as one text.

Tool calls and their results are written into the text of a message, as the chat templates of Hermes
and Qwen write them. So every message has a role and a text alone, which all templates and providers
take.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from stratos.tasks.base import Message

CHARACTERS_A_TOKEN = 4.0
"""Of a text whose tokens nobody counted: about that of English prose."""
_BEGIN = '[{"role":"'
"""What a history begins with that is more than one question."""


class WrongRow(ValueError):
    """A row that is no conversation; the message says why, as the end of "line 3: …"."""


class UnansweredRow(WrongRow):
    """A row with a question that the model did not answer."""


class PassedOver(Exception):
    """A row that is left out though nothing is wrong with it; the message is the kind of it."""


@dataclass(frozen=True, slots=True)
class Call:
    """A tool that the model calls."""

    id: str
    name: str
    arguments: str
    """As JSON."""


@dataclass(frozen=True, slots=True)
class Turn:
    """One message of a conversation, before its order is checked."""

    role: str
    """system, user, assistant or tool."""
    text: str
    calls: tuple[Call, ...] = ()
    result_of: str | None = None
    """Id of the call that a tool's message is the result of; "" where it has none."""
    is_learnt: bool = True
    """False for a message of the model that its file marks as not to be learnt (`weight: 0`)."""
    n_images: int = 0
    """Images, sounds and files that are left out of it."""


@dataclass(slots=True)
class About:
    """What a row says of its conversation beside the messages."""

    format: str
    """Name of the format that it was read in."""
    model: str = ""
    """That wrote the answers; "" where the file does not say."""
    time_s: float | None = None
    """When, in seconds since 1970."""
    session: str = ""
    """Id that all conversations of one session share; "" where the file has none."""
    input_tokens: int | None = None
    output_tokens: int | None = None
    latency_s: float | None = None
    tool_characters: int = 0
    """Of the tools, as JSON, that the model may call."""
    offers_tools: bool = False
    """Whether the row has the tools that the model may call."""
    only_last: bool = False
    """The last message alone is the model's answer; what came before was answered elsewhere."""


@dataclass(frozen=True, slots=True)
class Conversation:
    """Messages in order, the model's own ones among them."""

    about: About
    messages: tuple[Message, ...]
    """A system message, if there is one, then user and assistant in turn: the assistant may begin
    with a greeting, and there may be system messages between them."""
    answered: tuple[int, ...]
    """Places of the messages of the model that are learnt and measured."""
    n_images: int = 0
    n_calls: int = 0
    """Messages of the model that call tools; they are not learnt."""
    n_secrets: int = 0
    """Keys and tokens that were replaced."""
    called: tuple[int, ...] = ()
    """Places of the messages of the model that call tools, of the last alone where it alone is
    answered here."""

    @property
    def system(self) -> str:
        """Text of the system message, "" without one."""
        first = self.messages[0]
        return first["content"] if first["role"] == "system" else ""

    @property
    def asked(self) -> str:
        """Everything that the user wrote, a line for each message."""
        return "\n".join(one["content"] for one in self.messages if one["role"] == "user")


def as_question(history: Sequence[Message]) -> str:
    """Return a history as one text: a single question as it is, anything else as JSON."""
    if len(history) == 1 and history[0]["role"] == "user":
        text = history[0]["content"]
        if not text.startswith(_BEGIN):
            return text
    return json.dumps(list(history), ensure_ascii=False, separators=(",", ":"))


def history_of(question: str) -> list[Message]:
    """Return the history that `as_question` wrote; any other text is a question of a user."""
    if question.startswith(_BEGIN):
        try:
            found = json.loads(question)
        except ValueError:
            found = None
        if isinstance(found, list) and all(_is_message(one) for one in found):
            return found
    return [{"role": "user", "content": question}]


def _is_message(value: object) -> bool:
    return (
        isinstance(value, dict)
        and set(value) == {"role", "content"}
        and all(isinstance(one, str) for one in value.values())
    )
