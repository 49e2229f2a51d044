"""A conversation as every format is read into, and its history as one text.

Tool calls and their results are written into the text of a message, as the chat templates of Hermes
and Qwen write them. So every message has a role and a text alone, which all templates and providers
take.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeVar

from stratos.core.extensions import table
from stratos.core.formats import writable
from stratos.core.redact import redact_shapes
from stratos.tasks.base import Message

T = TypeVar("T")

_TABLE = table(__file__, "fields.toml")
FIELDS: Mapping[str, Mapping[str, Any]] = {
    key: names if isinstance(names, dict) else dict.fromkeys(names) for key, names in _TABLE.items()
}
"""Names in rows, in the order in which they are looked for; the file says what each list is."""
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
    tool_characters: int = 0
    """Of the tools, as JSON, that the model may call."""
    offers_tools: bool = False
    """Whether the row has the tools that the model may call."""
    only_last: bool = False
    """The last message alone is the model's answer; what came before was answered elsewhere."""


@dataclass(frozen=True, slots=True)
class Trace:
    """The turns of a row, before their order is checked."""

    turns: list[Turn]
    about: About
    tools: Any = None
    """That the model may call, as the row has them; None where it names none."""


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
    def user_text(self) -> str:
        """Everything that the user wrote, a line for each message."""
        return "\n".join(
            message["content"] for message in self.messages if message["role"] == "user"
        )


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
            messages = json.loads(question)
        except ValueError:
            messages = None
        if isinstance(messages, list) and all(_is_message(message) for message in messages):
            return messages
    return [{"role": "user", "content": question}]


def _is_message(value: object) -> bool:
    return (
        isinstance(value, dict)
        and set(value) == {"role", "content"}
        and all(isinstance(field, str) for field in value.values())
    )


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
        _check_turn(turn, text, number, open_calls)
        if turn.role == "system" and last == "system":
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
        answered, called = ([index for index in places if index == len(messages) - 1]
                            for places in (answered, called))  # fmt: skip
    if start is None:
        raise WrongRow("roles out of order: no message is the user's")
    if not any(
        message["role"] == "assistant" and message["content"].strip()
        for message in messages[start:]
    ):
        raise UnansweredRow("has no answer of the model")
    return Conversation(
        about, tuple(messages), tuple(answered), n_images, n_calls, n_secrets, tuple(called)
    )


def _check_turn(turn: Turn, text: str, number: int, open_calls: Set[str]) -> None:
    """Refuse a result of a tool that was not called, and a user who writes nothing.

    Raises:
        WrongRow: it is so.
    """
    is_open = bool(open_calls) and (not turn.result_of or turn.result_of in open_calls)
    if turn.role == "tool" and not is_open:
        raise WrongRow(f"message {number} is the result of a tool that was not called")
    if turn.role == "user" and not text:
        what = "has an image and no text" if turn.n_images else "is empty"
        raise WrongRow(f"message {number} of the user {what}")


def _written(turn: Turn) -> str:
    """Return the text of a turn with its calls, or as the result of one."""
    if turn.role == "tool":
        return f"<tool_response>\n{turn.text}\n</tool_response>"
    calls = [
        "<tool_call>\n"
        + json.dumps(
            {"name": call.name, "arguments": json.loads(call.arguments)}, ensure_ascii=False
        )
        + "\n</tool_call>"
        for call in turn.calls
    ]
    return "\n".join([*([turn.text] if turn.text else []), *calls])


_LAST_S = 253_402_300_800.0
"""When the year 10000 begins: no calendar here goes on."""
_FIRST_YEAR = 1971
_MOST = 1e15
"""Tokens, or seconds, that no row has."""
_MOST_DIGITS = 20


def particulars(format: str, row: Mapping[str, Any], *extras: Any) -> About:
    """Return what a row says beside the messages, or objects that belong to it.

    Args:
        format: name of its format.
        row: as it was read.
        extras: objects, such as its response; the row itself goes before.
    """
    places = [row]
    for extra in filter(None, (*extras, *(row.get(name) for name in FIELDS["inner"]))):
        if isinstance(extra, Mapping):
            places.append(extra)
            inner = extra.get("body")
            places += [inner] if isinstance(inner, Mapping) else []
    usages = [
        entry[name]
        for entry in places
        for name in FIELDS["usage"]
        if name in entry and isinstance(entry[name], Mapping)
    ]
    inner = [
        {**entry, "input_tokens": entry.get("input"), "output_tokens": entry.get("output")}
        for entry in usages
        if "input" in entry
    ]
    counts = [*usages, *inner, *places]
    return About(
        format=format,
        model=redact_shapes(writable(_first(_text, places, "model") or ""))[0],
        time_s=_first(seconds_of, places, "time"),
        session=writable(_first(_id, places, "session") or ""),
        input_tokens=first_known(map(_asked, counts)),
        output_tokens=_first(count_of, counts, "output_tokens"),
    )


def first_known(values: Iterable[T | None]) -> T | None:
    """Return the first value that is neither None, nor empty, nor 0; None where there is none."""
    return next(filter(None, values), None)


def _first(
    read: Callable[[Any], T | None], places: Sequence[Mapping[str, Any]], key: str
) -> T | None:
    """Return the first value that objects have by names of a list of `FIELDS`, as it is read."""
    return first_known(read(fields.get(name)) for fields in places for name in FIELDS[key])


def seconds_of(value: Any) -> float | None:
    """Return a time in seconds since 1970.

    It is a number of s, ms, µs or ns, ISO 8601, or YYYYMMDD with or without HHMMSS. What is no time
    that a calendar has is none, and so is the zero time of some languages: 1970, or the year 1.
    """
    if isinstance(value, str):
        text = value.strip()
        if text.isdecimal() and len(text) <= _MOST_DIGITS:
            value = int(text)
        else:
            value = _datetime(text.replace(" UTC", "+00:00"))
    if isinstance(value, datetime):
        seconds = value.replace(tzinfo=value.tzinfo or UTC).timestamp()
        return seconds if 0 < seconds < _LAST_S else None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if not 0 < value < _LAST_S * 1e9:
        return None
    # As a number of seconds, a date of eight digits lies before 1974; one of ms with fourteen has
    # its day in the year 2286, at the earliest.
    digits = str(int(value))
    if len(digits) in (8, 14):
        written = digits if len(digits) == 8 else f"{digits[:8]}T{digits[8:]}"
        if (moment := _datetime(written)) is not None and moment.year >= _FIRST_YEAR:
            return seconds_of(moment)
    for unit in (1e9, 1e6, 1e3):
        # Seconds since 1970 have at most eleven digits for the next thousand years.
        if value >= 1e11 * unit / 1e3:
            return value / unit
    return float(value)


def _datetime(text: str) -> datetime | None:
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return None


def _text(value: Any) -> str:
    """Return a text; "" for anything else."""
    return value if isinstance(value, str) else ""


def _id(value: Any) -> str:
    """Return the id of a session, a text or a number; "" for what is none."""
    is_number = isinstance(value, int) and not isinstance(value, bool)
    return str(value) if is_number else _text(value)


def count_of(value: Any) -> int | None:
    """Return a number of tokens; None for what is none, such as NaN or a text.

    None is nought: where a request was answered, that stands for what nobody counted.
    """
    amount = _amount(value)
    return int(amount) if amount is not None and amount >= 1 else None


def _asked(fields: Mapping[str, Any]) -> int | None:
    """Return the tokens of a request; Anthropic and Langfuse name those of a cache apart."""
    for name in FIELDS["input_tokens"]:
        if (amount := _amount(fields.get(name))) is not None:
            if name in FIELDS["without_cached"] and "prompt_tokens" not in fields:
                amount += sum(_amount(fields.get(key)) or 0 for key in FIELDS["cached"])
            if amount >= 1:
                return int(amount)
    return None


def _amount(value: Any) -> float | None:
    """Return a number that is not negative; None for what is none, or too large to be meant."""
    if isinstance(value, str) and value.isdecimal() and len(value) <= _MOST_DIGITS:
        value = int(value)
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < _MOST:
        return float(value)
    return None
