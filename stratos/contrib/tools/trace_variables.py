"""What a recorded conversation may say with other values: its variables, and where they stand.

A variable is a value of a call that a message before it says, a name or id in a result, or a date
or time that somebody names. Its spans are the places of all texts that say it, in any wording.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from enum import Enum, auto
from functools import cached_property
from typing import Any

from stratos.contrib.logs.conversation import Call, Turn
from stratos.contrib.tools.call_values import as_json, clock_of, dates_in, times_in
from stratos.contrib.tools.grounding import NUMBERS
from stratos.contrib.tools.signatures import Tool
from stratos.tasks.schema.document import resolved

Message = Mapping[str, Any]
_DATE = re.compile(r"\d{4}-\d\d-\d\d")
_CLOCK = re.compile(r"\d\d?:\d\d")
_RUN = re.compile(r"[^\W_]+")
_PLACE = re.compile(r"\[\d+\]|#\d+")
_AT = re.compile(r"\b(?:at|by|around|until|from|till) $", re.IGNORECASE)
_LONGEST_NAME, _LONGEST = 6, 60
"""Words and characters of a value that is a name; what is longer is a text that may hold some."""
_LONG_NUMBER = 1000
"""From which on a number is an id, which stands for itself wherever it stands."""
_SHORTEST_WORD = 3


class Kind(Enum):
    """What a variable is, by which it is said and drawn."""

    DATE = auto()
    TIME = auto()
    NUMBER = auto()
    CHOICE = auto()
    """A value of an enumeration that the user says as it is."""
    NAME = auto()
    ID = auto()
    """A text with digits."""


@dataclass(eq=False, slots=True)
class Variable:
    """A value of one conversation that another one may have in its place."""

    value: Any
    kind: Kind
    name: str
    """Of the argument or field."""
    first: int
    """Number of the first message that says it."""
    schema: Mapping[str, Any] = field(default_factory=dict)
    roles: list[tuple[int, str]] = field(default_factory=list)
    """Number of a message, and what the value is in it: a place of a result, or an argument."""
    are_words_said: bool = False
    """Whether single words of it are said, too."""

    @property
    def words(self) -> list[str]:
        """Its runs of letters and digits."""
        return _RUN.findall(str(self.value))


@dataclass(frozen=True, slots=True)
class Span:
    """A place in a text that says a variable."""

    start: int
    end: int
    variable: Variable
    word: int = -1
    """Number of the word of it that is said alone; -1 for all of it."""


@dataclass(frozen=True)
class Recorded:
    """A conversation with its tools, in which every turn of the model is known."""

    tools: tuple[Tool, ...]
    messages: Sequence[Message]
    learnt: frozenset[int]
    """Numbers of the messages that are learnt."""
    speech: Set[str]
    """Tools that speak to the user."""

    @cached_property
    def variables(self) -> list[Variable]:
        """All variables, in the order in which they are said."""
        variables = [*_Search(self).variables.values()]
        for index, text in enumerate(self.texts):
            for span in spans_of(text, self.messages[index]["role"], variables):
                span.variable.first = min(span.variable.first, index)
        return sorted(variables, key=lambda variable: variable.first)

    @cached_property
    def texts(self) -> list[str]:
        """What each message says, also by calling a tool that speaks to the user."""
        return [
            " ".join([m["content"], *(str(text) for call in m.get("tool_calls", ())
                                      if call["name"] in self.speech
                                      for _, text in leaves_of(call["arguments"]))])
            for m in self.messages
        ]  # fmt: skip

    @cached_property
    def spans(self) -> list[list[Span]]:
        """Of each message those in its content."""
        return [spans_of(m["content"], m["role"], self.variables) for m in self.messages]

    def spans_in(self, text: str) -> list[Span]:
        """Return those in a text that is an argument."""
        if text not in self._in_arguments:
            self._in_arguments[text] = spans_of(text, "assistant", self.variables)
        return self._in_arguments[text]

    @cached_property
    def _in_arguments(self) -> dict[str, list[Span]]:
        return {}

    def variables_in(self, start: int, end: int) -> set[Variable]:
        """Return what some messages say, or call with."""
        inside = {span.variable for k in range(start, end) for span in self.spans[k]}
        inside |= {v for v in self.variables if any(start <= k < end for k, _ in v.roles)}
        for message in self.messages[start:end]:
            for call in message.get("tool_calls", ()):
                for _, value in leaves_of(call["arguments"]):
                    if isinstance(value, str) and self.of_value(value) is None:
                        inside |= {span.variable for span in self.spans_in(value)}
        return inside

    def of_value(self, value: Any) -> Variable | None:
        """Return the variable whose value that of an argument is; None of a constant."""
        return self._by_value.get(as_json(value))

    @cached_property
    def _by_value(self) -> dict[str, Variable]:
        return {as_json(variable.value): variable for variable in self.variables}

    @cached_property
    def turns(self) -> list[Turn]:
        """The conversation as logs have it."""
        return turns_of(self.messages)


@dataclass(frozen=True)
class Part:
    """What is said up to a call, the call, and its results; the last part has no call."""

    recorded: Recorded
    start: int
    end: int
    key: tuple[Any, ...]
    """Tools called before it, those that it calls, and those that are called later."""

    @cached_property
    def variables(self) -> set[Variable]:
        """What it says, or calls with."""
        return self.recorded.variables_in(self.start, self.end)


def turns_of(messages: Sequence[Message]) -> list[Turn]:
    """Return messages as turns of a log."""
    made: list[Turn] = []
    waiting: list[str] = []
    for number, message in enumerate(messages):
        calls = tuple(
            Call(f"{number}.{k}", call["name"], json.dumps(call["arguments"], ensure_ascii=False))
            for k, call in enumerate(message.get("tool_calls", ()))
        )
        waiting = [call.id for call in calls] or waiting
        id = (waiting.pop(0) if waiting else "") if message["role"] == "tool" else None
        made.append(Turn(message["role"], message["content"], calls, id))
    return made


def leaves_of(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield path and value of each scalar."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from leaves_of(inner, f"{path}.{key}")
    elif isinstance(value, list):
        for k, inner in enumerate(value):
            yield from leaves_of(inner, f"{path}[{k}]")
    elif value is not None and not isinstance(value, bool):
        yield path, value


# --- which values are variables ------------------------------------------------------------------


class _Search:
    """Looks for the variables of a conversation."""

    def __init__(self, recorded: Recorded) -> None:
        self.messages = recorded.messages
        self.tools = {tool.name: tool for tool in recorded.tools}
        self.variables: dict[str, Variable] = {}
        self.texts = recorded.texts
        self.spoken = [text for message, text in zip(self.messages, self.texts, strict=True)
                       if message["role"] != "tool"]  # fmt: skip
        for index, message in enumerate(self.messages):
            if message["role"] != "tool":
                self._named_in(index, self.texts[index])
            for call in message.get("tool_calls", ()):
                spoken = call["name"] in recorded.speech
                for name, value in () if spoken else call["arguments"].items():
                    for _, leaf in leaves_of(value):
                        self._argument(index, call["name"], name, leaf)
        waiting: list[str] = []
        for index, message in enumerate(self.messages):
            if message["role"] != "tool":
                waiting = [call["name"] for call in message.get("tool_calls", ())] or waiting
                continue
            tool = (waiting.pop(0) if len(waiting) > 1 else waiting[0]) if waiting else ""
            self._result(index, tool, message["content"])
        for variable in self.variables.values():
            if variable.kind is Kind.NAME and len(variable.words) > 1:
                variable.are_words_said = self._are_words_said(variable)

    def _add(self, value: Any, kind: Kind, name: str, first: int) -> Variable:
        key = as_json(value)
        if (known := self.variables.get(key)) is None:
            known = self.variables[key] = Variable(value, kind, name, first)
        known.first = min(known.first, first)
        return known

    def _named_in(self, index: int, text: str) -> None:
        """Take in dates with their year and times that a text names; others say an argument."""
        for match, month, day in dates_in(text):
            if match["year"]:
                value = f"{match['year']}-{month:02d}-{day:02d}"
                self._add(value, Kind.DATE, "date", index)
        for match, minutes, is_clear in times_in(text):
            if is_clear and (match["minute"] or match["half"]):
                self._add(clock_of(minutes), Kind.TIME, "time", index)

    def _argument(self, index: int, tool: str, name: str, value: Any) -> None:
        if (of_tool := self.tools.get(tool)) is None:
            return
        schema = resolved(of_tool.parameters, of_tool.properties.get(name, {}))
        schema = schema if isinstance(schema, Mapping) else {}
        inner = schema.get("items")
        enum = schema.get("enum") or (inner.get("enum") if isinstance(inner, Mapping) else None)
        first = self._first_said(index, value, enum)
        if first is None:
            return
        known = self._add(value, kind_of(value, enum), name, first)
        known.name, known.schema = name, schema
        known.roles.append((index, f"{tool}.{name}"))

    def _first_said(self, index: int, value: Any, enum: Any) -> int | None:
        """Return the first message before one that says a value; None where none does."""
        text = str(value)
        if not _is_short(value):
            return None
        probe = Variable(value, kind_of(value, enum), "", 0)
        if probe.kind is Kind.NUMBER and value in (0, 1):
            return None  # "one" stands for anything
        for k, spoken in enumerate(self.texts[:index]):
            if text in spoken and probe.kind in (Kind.ID, Kind.NAME):
                return k
            if spans_of(spoken, self.messages[k]["role"], [probe]):
                return k
        return None

    def _result(self, index: int, tool: str, text: str) -> None:
        """Take in names and ids of a result, and note what their places are."""
        try:
            leaves = [*leaves_of(json.loads(text))]
        except (ValueError, RecursionError):
            spans = spans_of(text, "tool", [*self.variables.values()])
            leaves = [(f"#{k}", span.variable.value) for k, span in enumerate(spans)]
        paths = {_PLACE.sub("", path) for path, value in leaves if self._is_named(value)}
        for path, value in leaves:
            if (name := _PLACE.sub("", path)) not in paths or not _is_short(value):
                continue
            known = self._add(value, kind_of(value, None), name.rpartition(".")[2], index)
            known.roles.append((index, f"r:{tool}{path}"))

    def _is_named(self, value: Any) -> bool:
        """Return whether a value of a result is a name or an id, and no word of the service."""
        if as_json(value) in self.variables:
            return True
        if not isinstance(value, str) or not _is_short(value):
            return False
        if any(map(str.isdigit, value)):
            return True
        is_title = any(map(str.isupper, value))
        return (is_title and " " in value) or (
            (is_title or " " in value) and any(_is_said(value, text) for text in self.spoken)
        )

    def _are_words_said(self, variable: Variable) -> bool:
        for text in self.spoken:
            rest = re.sub(re.escape(str(variable.value)), " ", text, flags=re.IGNORECASE)
            if any(_is_telling(word) and _is_said(word, rest) for word in variable.words):
                return True
        return False


def kind_of(value: Any, enum: Any) -> Kind:
    """Return what the value of a variable is."""
    if enum:
        return Kind.CHOICE
    if isinstance(value, int | float):
        return Kind.NUMBER if abs(value) < _LONG_NUMBER else Kind.ID
    if _DATE.fullmatch(value):
        return Kind.DATE
    if _CLOCK.fullmatch(value):
        return Kind.TIME
    return Kind.ID if any(map(str.isdigit, value)) else Kind.NAME


def _is_short(value: Any) -> bool:
    text = str(value)
    return 0 < len(text) <= _LONGEST and len(text.split()) <= _LONGEST_NAME


def _is_said(value: str, text: str) -> bool:
    return bool(re.search(rf"(?<!\w){re.escape(value)}(?!\w)", text, re.IGNORECASE))


def _is_telling(word: str) -> bool:
    return len(word) >= _SHORTEST_WORD and word[0].isupper()


# --- where they stand ----------------------------------------------------------------------------


def spans_of(text: str, role: str, variables: Sequence[Variable]) -> list[Span]:
    """Return the places of a text that say variables, in order; they do not overlap."""
    spans: list[Span] = []
    used = bytearray(len(text))

    def add(start: int, end: int, variable: Variable, word: int = -1) -> None:
        if end > start and not any(used[start:end]):
            used[start:end] = b"\x01" * (end - start)
            spans.append(Span(start, end, variable, word))

    of_kind: dict[Kind, list[Variable]] = {kind: [] for kind in Kind}
    for variable in variables:
        of_kind[variable.kind].append(variable)
    for variable, start, end in _dates(text, of_kind[Kind.DATE]):
        add(start, end, variable)
    for variable, start, end in _literal(text, role, of_kind):
        add(start, end, variable)
    for variable, start, end in _times(text, role, of_kind[Kind.TIME]):
        add(start, end, variable)
    for variable in of_kind[Kind.NUMBER]:
        for match in _numbers(variable, role).finditer(text):
            add(*match.span("n"), variable)
    for variable in of_kind[Kind.NAME] if role != "tool" else ():
        for k, word in enumerate(variable.words):
            if variable.are_words_said and _is_telling(word):
                for match in re.finditer(rf"(?<!\w){re.escape(word)}(?!\w)", text):
                    add(*match.span(), variable, k)
    return sorted(spans, key=lambda span: span.start)


def _dates(text: str, variables: Sequence[Variable]) -> Iterator[tuple[Variable, int, int]]:
    """Yield where dates are named, with their year or without one."""
    for match, month, day in dates_in(text) if variables else ():
        for variable in variables:
            year, *rest = map(int, variable.value.split("-"))
            if rest == [month, day] and match["year"] in (None, f"{year}"):
                yield variable, match.start(), match.end() - match[0].endswith(".")


def _times(
    text: str, role: str, variables: Sequence[Variable]
) -> Iterator[tuple[Variable, int, int]]:
    """Yield where times are named; of results those that are written alike."""
    for match, minutes, is_clear in times_in(text) if variables else ():
        clocks = {clock_of(minutes)} | ({clock_of(minutes + 720)} if not is_clear else set())
        alike = [v for v in variables if v.value.zfill(5) in clocks]
        exact = [v for v in alike if v.value == match[0]]
        is_time = match["minute"] or match["part"] or is_clear
        if role != "tool" and (is_time or _AT.search(text, 0, match.start())):
            exact = exact or alike
        for variable in exact[:1]:
            yield variable, *match.span()


def _literal(
    text: str, role: str, of_kind: Mapping[Kind, Sequence[Variable]]
) -> Iterator[tuple[Variable, int, int]]:
    """Yield where names, ids and choices stand as they are, the longest first."""
    some = [*of_kind[Kind.NAME], *of_kind[Kind.ID]]
    some += of_kind[Kind.CHOICE] if role == "user" else []
    for variable in sorted(some, key=lambda variable: -len(str(variable.value))):
        value = str(variable.value)
        flags = re.IGNORECASE if role != "tool" else 0
        for form in dict.fromkeys((value, value.replace("_", " "))):
            for match in re.finditer(rf"(?<!\w){re.escape(form)}(?!\w)", text, flags):
                yield variable, *match.span()


def _numbers(variable: Variable, role: str) -> re.Pattern[str]:
    """Return the pattern of a number, in digits or in words; of results that of its own field."""
    digits = re.escape(str(variable.value))
    if role == "tool":
        return re.compile(rf'"{re.escape(variable.name)}": (?P<n>{digits})(?![\w.])')
    value = variable.value
    word = NUMBERS[value] if isinstance(value, int) and 1 < value < len(NUMBERS) else ""
    either = f"{digits}|{word}" if word else digits
    return re.compile(rf"(?<![\w:.,#$€£-])(?P<n>{either})(?![\w:%]|[.,]\d)", re.IGNORECASE)
