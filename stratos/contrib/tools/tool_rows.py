"""One line of a user's file as a question with its tools, and its gold calls."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import chain, islice
from math import nan
from typing import Any, Literal, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from stratos.contrib.logs.conversation import (
    Conversation,
    PassedOver,
    Trace,
    Turn,
    UnansweredRow,
    WrongRow,
    conversation_of,
    particulars,
)
from stratos.contrib.logs.inferred import infer_tools
from stratos.contrib.logs.row_formats import SPANS, parts_of_row, trace_of_messages
from stratos.contrib.logs.turn_rows import (
    OF_WRONG_TYPES,
    beginnings,
    session_of,
    workload_of,
)
from stratos.contrib.logs.words import FieldOfWrongType
from stratos.contrib.tools.calls import (
    Call,
    begins_call,
    calls_of,
    in_order,
    read,
    why_invalid,
    written,
)
from stratos.contrib.tools.signatures import (
    Tool,
    json_of,
    line_of,
    messages_in,
    question_of,
    question_with,
    tools_in,
    tools_of,
)
from stratos.contrib.tools.trace_checks import Doubt, TraceChecks, mended, n_repeated
from stratos.contrib.tools.turn_checks import Place, TurnChecks, is_asked
from stratos.contrib.tools.usual_tools import checked_usual
from stratos.contrib.tools.words import NoArgument, NoCalls, NoTools, TurnDoubt, WrongAccept
from stratos.core.foreign import cause
from stratos.core.formats import writable
from stratos.core.reasons import Because, Reason
from stratos.core.redact import redact_shapes, shown
from stratos.tasks.dedup.hashes import family_hash, id_of, normalised
from stratos.tasks.dedup.near import Alike
from stratos.tasks.files import read_records
from stratos.tasks.rows import Record, Settled, Unanswered, find_field
from stratos.tasks.table import Provenance, Row
from stratos.tasks.words import EmptyField, LacksField

_ANY = Call("")
"""Stands for what is not known yet."""
_ROLES = ("system", "developer", "user", "assistant", "tool")


@dataclass(frozen=True)
class Names:
    """What the fields of a line are called: `a|b` is the first of them that it has."""

    question: str
    messages: str
    tools: str
    calls: str


def row_of(data: Mapping[str, Any], names: Names) -> dict[str, Any] | Unanswered | Reason:
    """Return the fields that a row is read by, or what is wrong with the line.

    They are `question`, `answer`, `slice`, and `options`: what else is right, where the line says
    so.
    """
    row = dict(data)
    named_tools = find_field(row, names.tools)
    if named_tools is None:
        return LacksField(names.tools, tuple(map(str, row)))
    try:
        tools = tools_of(row[named_tools] or [])
        if not tools:
            return NoTools(named_tools)
        messages, last = _asked(row, names)
        key = find_field(row, names.calls)
        if key is not None and row[key] is not None:
            calls = calls_of(row[key])
        elif last is not None:
            calls = calls_of(last.get("tool_calls") or [])
        else:
            return Unanswered(EmptyField(names.calls.replace("|", " or ")))
    except ValueError as error:
        return Because(str(error))
    return answered(tools, question_of(tools, messages), calls)


def answered(
    tools: Sequence[Tool], question: str, calls: Sequence[Call]
) -> dict[str, Any] | Reason:
    """Return the fields of a row whose calls are the gold calls, or what is wrong with these."""
    by_name = {tool.name: tool for tool in tools}
    calls = [
        replace(call, arguments=by_name[call.name].without_nulls(call.arguments))
        if call.name in by_name
        else call
        for call in calls
    ]
    if problem := why_invalid(calls, tools) or _why_no_other(calls, by_name):
        return problem
    ordered = [Call(call.name, by_name[call.name].ordered(call.arguments)) for call in calls]
    made: dict[str, Any] = {
        "question": question,
        "answer": written(ordered),
        "slice": slice_of(tools, ordered),
    }
    if any(call.accept or call.optional for call in calls):
        more = [[call.accept, sorted(call.optional)] for call in calls]
        made["options"] = [json.dumps(more, ensure_ascii=False)]
    return made


def fields_of_answer(text: str, question: str, learns_texts: bool) -> dict[str, Any] | Reason:
    """Return the fields of a row that a model answers, or what is wrong with the answer.

    Args:
        text: of the answer.
        question: with the tools, as the model is asked.
        learns_texts: whether a text may be due; where it may, no call alone says nothing.
    """
    tools, calls = tools_in(question), read(text)
    if calls is None and learns_texts and text.strip() and not begins_call(text):
        return {"answer": text.strip(), "slice": TEXT}
    if calls is None or (learns_texts and not calls):
        return NoCalls()
    return answered(tools, question, calls)


def _why_no_other(calls: Sequence[Call], by_name: Mapping[str, Tool]) -> Reason | None:
    """Return what is wrong with what else is right; None if nothing."""
    for number, call in enumerate(calls, start=1):
        tool = by_name[call.name]
        for key, names in (("optional", call.optional), ("accept", call.accept)):
            for name in names:
                if not tool.has(name):
                    return NoArgument(key, number, name, tool.name, tuple(tool.properties))
        for name, values in call.accept.items():
            for value in values:
                if not tool.takes(tool.properties.get(name, True), value):
                    return WrongAccept(number, name, value, tool.name)
    return None


def slice_of(tools: Sequence[Tool], calls: Sequence[Call]) -> str:
    """Return the slice of a row: by how many tools there are, and how many calls."""
    if not calls:
        return "irrelevant"
    if len(calls) > 1:
        return "parallel"
    return "multiple" if len(tools) > 1 else "simple"


def _asked(
    row: dict[str, Any], names: Names
) -> tuple[list[dict[str, Any]], Mapping[str, Any] | None]:
    """Return the messages before the calls, and the message that makes them, if it is there.

    Raises:
        ValueError: they cannot be read; the message says which and why.
    """
    key = find_field(row, names.messages)
    named = find_field(row, names.question)
    value = row[key] if key is not None else row[named] if named is not None else None
    if isinstance(value, str) and key is not None:
        value = json_of(value, f"{key} is")
    if isinstance(value, str) and value.strip():
        return [{"role": "user", "content": value.strip()}], None
    if isinstance(value, list) and len(value) == 1 and isinstance(value[0], list):
        value = value[0]  # one turn of several
    if not isinstance(value, list) or not value:
        lacking = f"{names.question}|{names.messages}".replace("|", " or ")
        raise ValueError(f"has no {lacking}")
    messages = [_message(message, k) for k, message in enumerate(value, start=1)]
    last = value[-1] if messages[-1]["role"] == "assistant" else None
    before = messages[:-1] if last is not None else messages
    open_calls = False
    for k, message in enumerate(before, start=1):
        if message["role"] == "tool" and not open_calls:
            raise ValueError(f"message {k} is the result of a tool that no message called")
        open_calls = message["role"] == "tool" or "tool_calls" in message
    if not any(message["role"] == "user" for message in before):
        raise ValueError("no message is of the user")
    return before, last


def _message(value: Any, number: int) -> dict[str, Any]:
    if not isinstance(value, Mapping) or value.get("role") not in _ROLES:
        role = value.get("role") if isinstance(value, Mapping) else None
        raise ValueError(
            f"message {number} has the role {shown(str(role))}, not one of {', '.join(_ROLES)}"
        )
    content = value.get("content")
    if isinstance(content, list):  # of parts: what is no text is left out
        content = "\n".join(
            str(part.get("text", "")) for part in content if isinstance(part, Mapping)
        )
    if content is not None and not isinstance(content, str):
        raise ValueError(f"the content of message {number} is no text")
    made: dict[str, Any] = {"role": value["role"], "content": (content or "").strip()}
    if value["role"] == "user" and not made["content"]:
        is_image = isinstance(value.get("content"), list) and bool(value["content"])
        what = "has an image or file and no text" if is_image else "is empty"
        raise ValueError(f"message {number} of the user {what}")
    if value.get("tool_calls"):
        calls = calls_of(value["tool_calls"])
        made["tool_calls"] = json.loads(written(calls))
    return made


_encode = msgspec.json.Encoder(order="sorted").encode


@dataclass(frozen=True)
class Families:
    """Of each row of a file's requests the family, and the same of any other request."""

    keys: NDArray[np.uint64] = field(default_factory=lambda: np.zeros(0, np.uint64))
    """Of each row, by its number."""
    requests: NDArray[np.uint64] = field(default_factory=lambda: np.zeros(0, np.uint64))
    """Hashes of all requests, sorted."""
    of_requests: NDArray[np.uint64] = field(default_factory=lambda: np.zeros(0, np.uint64))
    """Of each of these its family."""
    n_of_no_session: int = 0
    """Rows with an id of a session that nearly all have."""

    @staticmethod
    def of(alike: Alike) -> Families:
        """Return the families of the requests that were taken in."""
        keys = alike.keys()
        requests, first = np.unique(alike.wholes(), return_index=True)
        return Families(keys, requests, keys[first], alike.n_of_no_session)

    def family(self, question: str) -> str:
        """Return the family of a question: of a request that no row has, one of its own."""
        own = np.uint64(family_hash(normalised(asked_in(messages_in(question)))))
        index = int(np.searchsorted(self.requests, own))
        is_known = index < len(self.requests) and self.requests[index] == own
        return id_of(int(self.of_requests[index] if is_known else own))


def take_in(alike: Alike, question: str, session: str) -> int:
    """Take the request of a question in; return its number.

    Args:
        alike: what takes it in.
        question: with the tools, as a model is asked.
        session: id of its session, "" without one.
    """
    messages = messages_in(question)
    coded = ((str(message["role"]), _encode(message)) for message in messages)
    return alike.add(asked_in(messages), beginnings(coded, "user"), session_of(session))


def asked_in(messages: Sequence[Mapping[str, Any]]) -> str:
    """Return what the user wrote, a line for each message."""
    return "\n".join(str(message["content"]) for message in messages if message["role"] == "user")


NO_TOOLS = "requests without tools"
TEXT_AFTER_RESULTS = "answers in text to results of tools"
"""Nothing says that no call would have been right."""
TEXT = "text"
"""Slice of the turns in which a text is due, and no call."""
Texts = Literal["auto", "learnt", "no_call"]
_N_FIRST = 1000
"""Rows that tell what a file holds."""
_OFTEN_BEHIND = 0.1
"""Share of the rows with results of tools from which on they are an agent's conversations."""
_FEWEST_CHECKED, MOST_CHECKED = 300, 10_000
"""Turns of the model from which only the usual calls tell what the tools are, and conversations up
to which turns are looked at: 600 take 3 CPU seconds, 5,000 take 26 and 400 MB."""


class _OtherWorkload(Exception):
    """A row is of another workload than the one that is read."""


class DoubtfulTurn(NamedTuple):
    """A turn of a log that is probably wrong."""

    where: str
    """Its line and message."""
    doubt: Doubt
    logged: str
    """Its answer: calls as JSON, or a text."""


@dataclass
class ToolRowReader:
    """Reads rows of either form, and counts what is left out though nothing is wrong with it."""

    names: Names
    workload: str | None = None
    """Id of the only workload that is read of a log; None reads all."""
    texts: Texts = "auto"
    """How a turn in text is learnt: as `ToolsTask` has it."""
    tools: list[Any] | None = None
    """What rows offer that name no tools; None where nobody says."""
    are_whole: bool = False
    """Whether rows of requests with responses are whole conversations."""
    are_traces: bool = False
    """Whether rows are whole conversations, of which each turn of the model is a row."""
    learns_texts: bool = False
    """Whether a turn in text is learnt as it is."""
    are_inferred: bool = False
    """Whether `tools` were inferred from the calls."""
    verifies: bool = True
    """Whether turns of conversations are left out that are probably wrong."""
    relabels: bool = False
    """Whether a teacher is asked for these."""
    are_unchecked: bool = False
    """Whether there are too many conversations for that."""
    doubtful: list[DoubtfulTurn] = field(default_factory=list)
    """Turns that were left out, or whose names were mapped to those of the tools, and where each
    stands."""
    to_relabel: list[tuple[Row, Place]] = field(default_factory=list)
    """Those of them that a teacher is asked for, without an answer."""
    turn_checks: TurnChecks | None = None
    """Of what it answers; None where nobody is asked."""
    _surveyed: str | None = None
    """File whose turns were looked at."""
    _doubts: dict[str, list[Doubt]] = field(default_factory=dict)
    """Of each conversation, by where it stands."""
    _traces_surveyed: dict[str, Trace] = field(default_factory=dict)
    """Conversations of that file by where they stand, until they are read."""
    n_logged: int = 0
    """Rows that were requests with responses."""
    n_traces: int = 0
    """Conversations of which several turns were read."""
    n_texts: int = 0
    """Turns in text that are learnt as they are."""
    n_calling: int = 0
    """Rows whose answers call tools."""
    n_other: int = 0
    """Rows of other workloads."""
    n_secrets: int = 0
    """Keys and tokens that were replaced."""
    passed: Counter[str] = field(default_factory=Counter)
    alike: Alike = field(default_factory=Alike)
    """Tells which requests belong together."""

    def survey(self, path: str) -> None:
        """Tell by the first rows of a file what it holds; look for turns that are wrong.

        Tools are inferred where no row has any.

        Raises:
            OSError: the file cannot be read.
        """
        records = read_records(path)
        first = self.begin(records)
        are_named = any(trace.tools is not None for trace in first.values())
        are_inferred = not are_named and self.tools is None and bool(first)
        self.are_traces = (not are_named and bool(first)) or any(
            trace.about.format in SPANS or (not trace.about.only_last and _n_said(trace) > 1)
            for trace in first.values()
        )
        n_behind = sum(any(turn.role == "tool" for turn in t.turns) for t in first.values())
        self.are_traces = self.are_traces or n_behind > _OFTEN_BEHIND * len(first)
        is_more = self.are_traces and (self.verifies or are_inferred)
        traces = self._traces(records if is_more else ())
        some = first | dict(islice(traces, max(0, MOST_CHECKED + 1 - len(first))))
        are_checked = self.are_traces and self.verifies and len(some) <= MOST_CHECKED
        checks: TraceChecks | None = None
        if are_inferred:
            turns = [trace.turns for trace in some.values()]
            is_usual = are_checked and sum(map(_n_said, some.values())) >= _FEWEST_CHECKED
            if is_usual:
                self.tools, checks = checked_usual(turns)
            else:
                self.tools = infer_tools(chain(turns, (trace.turns for _, trace in traces)))
            self.tools = self.tools or None
        self.are_inferred = are_inferred and self.tools is not None
        self.are_traces = self.are_traces and (are_named or self.tools is not None)
        self.learns_texts = self.texts == "learnt" or (self.texts == "auto" and self.are_traces)
        self.are_unchecked = self.are_traces and self.verifies and not are_checked
        self._surveyed, self._traces_surveyed = path, some
        if are_checked and self.are_traces:
            lines = [*some]
            checks = checks or self._checks(some)
            doubts = checks.doubts()
            for doubt in doubts:
                self._doubts.setdefault(lines[doubt.conversation], []).append(doubt)
            if self.relabels:
                self.turn_checks = TurnChecks.of(checks, doubts)

    def begin(self, records: Iterable[tuple[str, Any]]) -> dict[str, Trace]:
        """Read the first records; tell by them which turns of a logged request are learnt.

        An agent asks once for each turn, with all before it. Where no row has the turns that others
        have before their last, each row is a whole conversation.

        Returns:
            The conversations by where they stand.
        """
        first = dict(self._traces(islice(records, _N_FIRST)))
        keys = [_keys(trace) for trace in first.values() if trace.about.only_last]
        rows = {own[-1] for own in keys if own}
        before = [own[-2] in rows for own in keys if len(own) > 1]
        are_often = len(before) > _OFTEN_BEHIND * len(first)
        self.are_whole = are_often and 2 * sum(before) < len(before)
        if self.are_whole:
            for trace in first.values():
                trace.about.only_last = trace.about.only_last and _n_said(trace) < 2
        return first

    def _checks(self, traces: Mapping[str, Trace]) -> TraceChecks:
        """Return the checks of conversations by the tools that they offer."""
        tools: dict[str, Tool] = {}
        for trace in traces.values():
            with suppress(ValueError):  # told where the row is read
                offered = self.tools if trace.tools is None else trace.tools
                tools |= {tool.name: tool for tool in tools_of(offered)}
        return TraceChecks([trace.turns for trace in traces.values()], [*tools.values()])

    def _traces(self, records: Iterable[tuple[str, Any]]) -> Iterator[tuple[str, Trace]]:
        """Yield the conversations of lines that can be read, as they are, by where they stand."""
        for line, data in records:
            with suppress(WrongRow, PassedOver, *OF_WRONG_TYPES):
                for where, part in [] if isinstance(data, Reason) else list(parts_of_row(data)):
                    if (trace := self.trace_of(part)) is not None:
                        yield line + where, trace

    def trace_of(self, data: Mapping[str, Any]) -> Trace | None:
        """Return the turns of a row; None of one that has its calls, or no messages."""
        row = dict(data)
        if find_field(row, self.names.calls) is not None:
            return None
        for theirs, ours in ((self.names.messages, "messages"), (self.names.tools, "tools")):
            if (key := find_field(row, theirs)) is not None:
                row.setdefault(ours, row[key])
        trace = trace_of_messages(row)
        if trace is None:
            return None
        if self.are_whole and _n_said(trace) > 1:
            trace.about.only_last = False
        turns = in_order(trace.turns, lambda t: [call.id for call in t.calls], _result_of)
        return replace(trace, turns=turns)

    def read(self, path: str, line: str, data: Mapping[str, Any]) -> Iterator[tuple[str, Record]]:
        """Yield where each row of a line stands with it, or with what is wrong."""
        is_surveyed = path == self._surveyed
        doubts = self._doubts if is_surveyed else {}
        try:
            parts = list(parts_of_row(data))
        except OF_WRONG_TYPES as error:
            yield line, FieldOfWrongType(cause(error))
            return
        for where, part in parts:
            trace = self._traces_surveyed.pop(line + where, None) if is_surveyed else None
            yield from self._records(line + where, part, doubts.get(line + where, ()), trace)

    def _records(
        self, line: str, data: Mapping[str, Any], doubts: Sequence[Doubt], trace: Trace | None
    ) -> Iterator[tuple[str, Record]]:
        try:
            trace = trace or self.trace_of(data)
            is_log = trace is not None and trace.about.only_last
            if trace is not None and (self.are_traces or is_log):
                yield from self._turns(line, trace, doubts)
                return
            fields = row_of(data, self.names)
            if not isinstance(fields, dict):
                yield line, fields
                return
            fields["question"] = self._redacted(fields["question"])
            number = take_in(self.alike, fields["question"], particulars("", data).session)
            yield line, self._row(line, fields, number)
        except UnansweredRow as error:
            yield line, Unanswered(Because(str(error)))
        except WrongRow as error:
            yield line, Because(str(error))
        except _OtherWorkload:
            self.n_other += 1
        except PassedOver as kind:
            self.passed[str(kind)] += 1
        except OF_WRONG_TYPES as error:
            yield line, FieldOfWrongType(cause(error))

    def _turns(
        self, line: str, trace: Trace, doubts: Sequence[Doubt]
    ) -> Iterator[tuple[str, Record]]:
        """Yield a row of each turn of the model; all of them are of one conversation.

        Raises:
            WrongRow: the turns are out of order.
            PassedOver: there is nothing to be learnt.
        """
        relabelled = _relabelled(trace, doubts) if self.relabels else {}
        logged = trace.turns
        if doubts:
            trace = replace(trace, turns=mended(trace.turns, doubts))
        conversation = conversation_of(trace.turns, trace.about)  # checks their order
        if self.workload is not None and workload_of(conversation).id != self.workload:
            raise _OtherWorkload
        self.doubtful += [
            DoubtfulTurn(f"{line}, message {doubt.turn + 1}", doubt, _logged(logged[doubt.turn]))
            for doubt in doubts
        ]
        tools = self._offered(trace)
        calls_of_turns = [
            [Call(call.name, json.loads(call.arguments)) for call in turn.calls]
            for turn in trace.turns
        ]
        messages = [*map(message_of, trace.turns, calls_of_turns)]
        lines = [*map(line_of, messages)]
        places = _answered(trace)
        # No key goes on behind the end of a line: what is clean as a whole is so up to any line.
        whole = question_with(tools, messages, lines)
        is_clean = redact_shapes(writable(whole)) == (whole, 0)
        number: int | None = None
        for index in sorted({*places, *relabelled}):
            turn = trace.turns[index]
            where = line if len(places) == 1 else f"{line}, message {index + 1}"
            after_results = any(before.role == "tool" for before in trace.turns[:index])
            if not turn.calls and not self.learns_texts and after_results:
                self.passed[TEXT_AFTER_RESULTS] += 1
                continue
            calls = calls_of_turns[index]
            question = question_with(tools, messages[:index], lines[:index])
            if index == 1 or not is_clean:  # a request alone is no line of JSON
                question = self._redacted(question)
            if index in relabelled:
                number = self._number_of(conversation, trace) if number is None else number
                unknown = {"question": question, "answer": "", "slice": slice_of(tools, [_ANY])}
                self.to_relabel.append((self._row(where, unknown, number), relabelled[index]))
                continue
            fields = answered(tools, question, calls)
            if isinstance(fields, Reason):
                yield where, fields
                continue
            if not calls and self.learns_texts:
                fields |= {"answer": turn.text.strip(), "slice": TEXT}
                self.n_texts += 1
            if number is None:
                number = self._number_of(conversation, trace)
            yield where, self._row(where, fields, number)
        self.n_logged += trace.about.only_last
        self.n_traces += not trace.about.only_last

    def _offered(self, trace: Trace) -> tuple[Tool, ...]:
        """Return the tools that a conversation offers.

        Raises:
            WrongRow: they cannot be read.
            PassedOver: there are none.
        """
        if trace.tools is None and self.tools is None:
            raise PassedOver(NO_TOOLS)
        try:
            return self._own_tools if trace.tools is None else tools_of(trace.tools)
        except ValueError as error:
            raise WrongRow(str(error)) from error

    @cached_property
    def _own_tools(self) -> tuple[Tool, ...]:
        """Tools of rows that name none; they are known from the first row on."""
        return tools_of(self.tools)

    def _number_of(self, conversation: Conversation, trace: Trace) -> int:
        """Take a conversation in; return its number."""
        users = "\n".join(turn.text for turn in trace.turns if turn.role == "user")
        text, _ = redact_shapes(writable(users))
        coded = (
            (message["role"], _encode([message["role"], message["content"].strip()]))
            for message in conversation.messages
        )
        last = "user" if trace.about.only_last else "assistant"
        session = session_of(trace.about.session)
        return self.alike.add(text, beginnings(coded, last), session)

    def _row(self, line: str, fields: dict[str, Any], number: int) -> Row:
        """Return a row of fields whose question has no secrets."""
        self.n_calling += fields["slice"] not in (TEXT, "irrelevant")
        answer = self._redacted(fields["answer"])
        options = tuple(map(self._redacted, fields.get("options", ())))
        provenance = Provenance(number, nan, "", "")
        return Row(line, fields["question"], answer, "", fields["slice"], options, provenance)

    def _redacted(self, text: str) -> str:
        redacted, n = redact_shapes(writable(text))
        self.n_secrets += n
        return redacted


def _logged(turn: Turn) -> str:
    """Return the answer of a turn as it was logged, without secrets."""
    calls = [f'{{"name": {json.dumps(call.name)}, "arguments": {call.arguments or "{}"}}}'
             for call in turn.calls]  # fmt: skip
    text, _ = redact_shapes(writable(f"[{', '.join(calls)}]" if calls else turn.text.strip()))
    return text


def most_frequent(rows: Sequence[Row]) -> Settled:
    """Return which of several answers to one question is taken: the most frequent, the first."""
    [(answer, n)] = Counter(row.answer for row in rows).most_common(1)
    return Settled(next(k for k, row in enumerate(rows) if row.answer == answer), n - 1)


def _relabelled(trace: Trace, doubts: Sequence[Doubt]) -> dict[int, Place]:
    """Return which turns a teacher is asked for, by their numbers once all are `mended`."""
    turns, first = trace.turns, _first(trace)
    turns_of_doubts, n_gone = dict[int, Place](), 0
    for doubt in doubts:
        if doubt.reason is TurnDoubt.REPEATED:
            n_gone += n_repeated(turns, doubt.turn)
        elif is_asked(doubt) and doubt.turn >= first and turns[doubt.turn].is_learnt:
            turns_of_doubts[doubt.turn - n_gone] = doubt.conversation, doubt.turn
    return turns_of_doubts


def _n_said(trace: Trace) -> int:
    return sum(turn.role == "assistant" for turn in trace.turns)


def _result_of(turn: Turn) -> str | None:
    return turn.result_of or None


def _keys(trace: Trace) -> list[int]:
    """Return for each turn of the model a hash of all up to it, but for the system's messages."""
    keys, so_far = list[int](), 0
    for turn in trace.turns:
        if turn.role != "system":
            calls = tuple((call.name, call.arguments) for call in turn.calls)
            so_far = hash((so_far, turn.role, turn.text.strip(), calls))
        if turn.role == "assistant":
            keys.append(so_far)
    return keys


def _answered(trace: Trace) -> list[int]:
    """Return the places of the turns that are learnt: of the model, behind one of the user."""
    first = _first(trace)
    return [
        index
        for index, turn in enumerate(trace.turns)
        if index >= first
        and turn.role == "assistant"
        and turn.is_learnt
        and (turn.calls or turn.text.strip())
    ]


def _first(trace: Trace) -> int:
    """Return the place from which on turns are learnt."""
    roles = [turn.role for turn in trace.turns]
    start = roles.index("user") if "user" in roles else len(roles)
    return len(roles) - 1 if trace.about.only_last else start


def message_of(turn: Turn, calls: Sequence[Call]) -> dict[str, Any]:
    """Return a turn as a message, given its calls with their arguments read."""
    message: dict[str, Any] = {"role": turn.role, "content": turn.text.strip()}
    if calls:
        message["tool_calls"] = [{"name": call.name, "arguments": call.arguments} for call in calls]
    return message
