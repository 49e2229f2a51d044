"""Knowledge injection for agents' traces: from few conversations more, with other goals and words.

A goal is drawn first: new values of the variables, from enumerations, from the values of the other
conversations, and from lists that fit the names of the arguments. Then a simulated user and
simulated tools walk the dialogue: between two calls they say what a recorded conversation has there
that calls the same tools then and later, in its words and the shape of its results, with the values
of the goal. A conversation counts if replaying it shows that its calls are valid and say what was
said before them, and if no check of noisy logs doubts any of its turns.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from functools import cached_property
from typing import Any

from stratos.contrib.tools.call_values import as_json
from stratos.contrib.tools.calls import (
    Call,
    calls_of_or_none,
    why_invalid,
    written,
)
from stratos.contrib.tools.grounding import is_grounded, times, tokens
from stratos.contrib.tools.signatures import messages_in, question_of, tools_in
from stratos.contrib.tools.trace_checks import TraceChecks
from stratos.contrib.tools.trace_goals import Goal, filled, worded
from stratos.contrib.tools.trace_steps import speech_tools
from stratos.contrib.tools.trace_variables import (
    Kind,
    Message,
    Part,
    Recorded,
    leaves_of,
    turns_of,
)

_MOST_FEW, _MOST_TURNS, N_MADE = 30, 1000, 60
"""Conversations and turns up to which more are made of them, and how many conversations."""
_FEWEST_MESSAGES = 3
"""Of a conversation: a request that is answered at once is none."""
_OWN = 0.5
"""Share of the parts of a dialogue that stay those of the conversation that it is drawn from."""
_TRIES = 20
_END = ("(end)",)


def recorded_of(texts: Sequence[str], answers: Sequence[str]) -> list[Recorded]:
    """Return the conversations whose turns are rows: the question and the answer of each turn.

    There are none where there are many, of which no more need to be made.
    """
    if len(texts) > _MOST_TURNS:
        return []
    rows = sorted(
        ((messages_in(text), k) for k, text in enumerate(texts)), key=lambda row: -len(row[0])
    )
    longest: list[tuple[int, list[Message], set[int]]] = []
    for before, k in rows:
        message, n = _answer(answers[k]), len(before)
        for _, messages, learnt in longest:
            if n < len(messages) and messages[n] == message and messages[:n] == before:
                learnt.add(n)
                break
        else:
            longest.append((k, [*before, message], {n}))
    some = [
        (tools_in(texts[k]), messages, frozenset(learnt))
        for k, messages, learnt in longest
        if len(messages) >= _FEWEST_MESSAGES
    ]
    if len(some) > _MOST_FEW:
        return []
    speech = speech_tools([turns_of(messages) for _, messages, _ in some])
    return [Recorded(*parts, speech) for parts in some]


def made_of(texts: Sequence[str], answers: Sequence[str], seed: int) -> list[tuple[str, str]]:
    """Return question and answer of each turn of conversations made of the few that rows are."""
    return TraceDrawer(recorded_of(texts, answers)).rows(N_MADE, seed)


def _answer(answer: str) -> dict[str, Any]:
    calls = calls_of_or_none(answer) if answer[:1] == "[" else None
    if not calls:
        return {"role": "assistant", "content": "" if calls == [] else answer}
    named = [{"name": call.name, "arguments": call.arguments} for call in calls]
    return {"role": "assistant", "content": "", "tool_calls": named}


# --- dialogues -----------------------------------------------------------------------------------


def _question(messages: Sequence[Message], start: int, index: int) -> int:
    """Return where the agent asks what leads to the call of a message; `start` where it does not.

    Between them stands the answer of the user alone.
    """
    roles = [message["role"] for message in messages[start:index]]
    if len(roles) > 2 and roles[-2:] == ["assistant", "user"]:
        return index - 2
    return start


def parts_of(recorded: Recorded) -> list[Part]:
    """Return the parts of a conversation in order."""
    messages = recorded.messages
    calls = [
        (index, names)
        for index, message in enumerate(messages)
        if (names := tuple(call["name"] for call in message.get("tool_calls", ())
                           if call["name"] not in recorded.speech))
    ]  # fmt: skip
    parts, start, before = list[Part](), 0, _END
    for k, (index, names) in enumerate(calls):
        end = index + 1
        while end < len(messages) and messages[end]["role"] == "tool":
            end += 1
        later = frozenset(name for _, some in calls[k + 1 :] for name in some)
        middle = _question(messages, start, index)
        if middle > start:
            parts.append(Part(recorded, start, middle, (before, names, later)))
        # What the user answers to a question may lead to another call, if the next one is alike.
        follows = calls[k + 1][1] if k + 1 < len(calls) and calls[k + 1][0] == end else ("", *names)
        key = ("answer", follows) if middle < index else (before, names, later)
        parts.append(Part(recorded, middle, end, key))
        start, before = end, names
    if start < len(messages):
        parts.append(Part(recorded, start, len(messages), (before, _END, frozenset())))
    return parts


class TraceDrawer:
    """Draws conversations like those that were recorded."""

    def __init__(self, recorded: Sequence[Recorded]) -> None:
        """Learn the parts and values of conversations."""
        self.recorded = [each for each in recorded if each.tools]
        self.parts = [parts_of(each) for each in self.recorded]
        self.alike: dict[tuple[Any, ...], list[Part]] = defaultdict(list)
        for part in (part for parts in self.parts for part in parts):
            self.alike[part.key].append(part)

    @cached_property
    def seen(self) -> dict[str, list[str]]:
        """Name of an argument or field to the texts that the conversations have there."""
        seen: dict[str, dict[str, None]] = defaultdict(dict)
        for variable in (variable for each in self.recorded for variable in each.variables):
            if isinstance(variable.value, str):
                seen[variable.name][variable.value] = None
        return {name: [*texts] for name, texts in seen.items()}

    def rows(self, n: int, seed: int) -> list[tuple[str, str]]:
        """Return question and answer of each turn of `n` conversations that pass all checks."""
        made = [*self.conversations(n, seed)]
        if not made:
            return []
        tools = {tool.name: tool for each in made for tool in each.tools}
        turns = [each.turns for each in (*self.recorded, *made)]
        doubted = {doubt.conversation - len(self.recorded)
                   for doubt in TraceChecks(turns, [*tools.values()]).doubts()}  # fmt: skip
        return [
            row
            for number, each in enumerate(made)
            if number not in doubted
            for row in _rows_of(each)
        ]

    def conversations(self, n: int, seed: int) -> Iterator[Recorded]:
        """Yield up to `n` conversations whose replay holds, drawn from each recorded one alike."""
        rng = random.Random(f"traces {seed}")
        for number in range(n if self.recorded else 0):
            plan = self.parts[number % len(self.parts)]
            for _ in range(_TRIES):
                made = self._walked(plan, rng)
                if made is not None:
                    yield made
                    break

    def _walked(self, plan: Sequence[Part], rng: random.Random) -> Recorded | None:
        """Return a conversation with the calls of a recorded one; None where it does not hold."""
        goal = Goal(rng, self.seen)
        messages, learnt = list[Message](), set[int]()
        for own in plan:
            part = own if rng.random() < _OWN else rng.choice(self.alike[own.key])
            recorded = part.recorded
            variables = [v for v in recorded.variables if v.first < part.end]
            variables.sort(key=lambda v: (v.kind is Kind.ID, len(v.words)))  # the simpler before
            for variable in variables:
                if not goal.bind(variable, part) and variable in part.variables:
                    return None
            for index in range(part.start, part.end):
                if index in recorded.learnt:
                    learnt.add(len(messages))
                messages.append(_message(recorded, index, goal))
        first = plan[0].recorded
        made = Recorded(first.tools, messages, frozenset(learnt), first.speech)
        return made if _holds(made, {*map(as_json, goal.values.values())}) else None


def _message(recorded: Recorded, index: int, goal: Goal) -> Message:
    """Return a message of a conversation with the values of a goal."""
    message = recorded.messages[index]
    role = message["role"]
    text = worded(message["content"], recorded.spans[index], goal, role)
    made = {**message, "content": filled(text, goal.rng) if role == "user" else text}
    if "tool_calls" in message:
        made["tool_calls"] = [
            {"name": call["name"], "arguments": _mapped(
                call["arguments"], lambda value: _argument(recorded, value, goal))}
            for call in message["tool_calls"]
        ]  # fmt: skip
    return made


def _mapped(value: Any, change: Callable[[Any], Any]) -> Any:
    if isinstance(value, Mapping):
        return {key: _mapped(inner, change) for key, inner in value.items()}
    if isinstance(value, list):
        return [_mapped(inner, change) for inner in value]
    return change(value)


def _argument(recorded: Recorded, value: Any, goal: Goal) -> Any:
    if value is None or isinstance(value, bool):
        return value
    variable = recorded.of_value(value)
    if variable is not None and variable in goal.values:
        return goal.values[variable]
    if not isinstance(value, str):
        return value
    return worded(value, recorded.spans_in(value), goal, "assistant")


# --- replay --------------------------------------------------------------------------------------


def _holds(made: Recorded, drawn: Set[str]) -> bool:
    """Return whether calls are valid, and no drawn value is called that nothing before it says."""
    context: dict[str, None] = {}
    for message in made.messages:
        texts = [message["content"]]
        for call in message.get("tool_calls", ()):
            if why_invalid([Call(call["name"], call["arguments"])], made.tools) is not None:
                return False
            for _, value in leaves_of(call["arguments"]):
                if call["name"] in made.speech:
                    texts.append(str(value))
                elif as_json(value) in drawn and not is_grounded(value, context):
                    return False
        for text in texts:
            context |= dict.fromkeys((*tokens(text), *times(text)))
    return True


def _rows_of(made: Recorded) -> Iterator[tuple[str, str]]:
    by_name = {tool.name: tool for tool in made.tools}
    for index in sorted(made.learnt):
        message = made.messages[index]
        calls = [
            Call(call["name"], by_name[call["name"]].ordered(call["arguments"]))
            for call in message.get("tool_calls", ())
        ]
        answer = written(calls) if calls or not message["content"] else message["content"]
        yield question_of(made.tools, made.messages[:index]), answer
