"""Knowledge injection for tools: the call first, then the request for it, read back blindly.

A request is written by the wording of a training row whose values can be exchanged, or in a plain
form: what the tool does, then each argument with its value. A teacher may say it in other words.
`read` tries all forms of all tools that are offered: a request counts if exactly one list of calls
is read from it, and it is the drawn one.
"""

from __future__ import annotations

import json
import random
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from itertools import pairwise, product
from typing import Any

from stratos.contrib.tools.calls import Call, CannotDrawError, Drawer, read, written
from stratos.contrib.tools.signatures import Tool, question_of, request_in, tools_in
from stratos.contrib.tools.tool_rows import slice_of
from stratos.contrib.tools.words import MOST_NAMED, NeverDrawn, NoDraw, NotDrawn
from stratos.core.reasons import Reason
from stratos.tasks.base import Item, Message
from stratos.tasks.schema.document import resolved

# --- the text of a request -----------------------------------------------------------------------

_LONGEST = 400
"""Characters of a request that becomes a template."""
_MOST_SLOTS = 6
_MOST_TEMPLATES = 200
"""Templates of one tool: each request is read by all of them."""
_SHARE_OF_TEMPLATES = 0.8
"""Share of requests in the wording of a row, where one fits."""
_JOIN = ". Also: "
_FIRST_SENTENCE = re.compile(r"(?<=[a-z\d)])\.(?:\s|$)|\n")
_NO_VALUE = object()


def words_of(name: str) -> str:
    """Return the words of a name."""
    spaced = re.sub(r"(?<=[a-z\d])(?=[A-Z])", " ", name)
    return " ".join(spaced.replace("_", " ").replace("-", " ").lower().split())


def _text_of(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _value_of(text: str, tool: Tool, name: str) -> Any:
    """Return the value that a text is by the argument's schema, or `_NO_VALUE`."""
    schema = tool.properties.get(name, True)
    values: list[Any] = [text]
    with suppress(ValueError, RecursionError):
        values.insert(0, json.loads(text))
    return next((value for value in values if tool.takes(schema, value)), _NO_VALUE)


def _phrase(tool: Tool) -> str:
    """Return what a tool does: the first sentence of its description, or its name."""
    return _FIRST_SENTENCE.split(tool.description, maxsplit=1)[0].strip(" .") or words_of(tool.name)


def plain_request(call: Call, tool: Tool) -> str:
    """Return the request that names what a tool does, and each argument with its value."""
    values = ", ".join(f"{words_of(name)} = {_text_of(v)}" for name, v in call.arguments.items())
    return f"{_phrase(tool)}: {values}" if values else _phrase(tool)


def _read_plain(request: str, tool: Tool) -> Call | None:
    phrase = _phrase(tool)
    if not request.startswith(phrase):
        return None
    rest = request.removeprefix(phrase).removeprefix(": ")
    names = {f"{words_of(name)} = ": name for name in tool.properties}
    texts: dict[str, str] = {}
    starts = "|".join(map(re.escape, names))
    for part in re.split(rf", (?={starts})", rest) if rest else ():
        start = max((name for name in names if part.startswith(name)), key=len, default=None)
        if start is None or names[start] in texts:
            return None
        texts[names[start]] = part.removeprefix(start)
    return _call_of(texts, tool)


def _call_of(
    texts: Mapping[str, str], tool: Tool, fixed: Iterable[tuple[str, Any]] = ()
) -> Call | None:
    """Return the call whose arguments are texts; None where one is none of its schema."""
    arguments = {name: _value_of(text, tool, name) for name, text in texts.items()}
    arguments |= dict(fixed)
    if _NO_VALUE in arguments.values() or tool.problem(arguments) is not None:
        return None
    return Call(tool.name, tool.ordered(arguments))


@dataclass(frozen=True)
class Template:
    """The request of a training row, with slots for the arguments of its call."""

    tool: str
    pieces: tuple[str, ...]
    """Texts before, between and behind the slots."""
    slots: tuple[str, ...]
    """Argument of each slot."""
    fixed: tuple[tuple[str, Any], ...] = ()
    """Arguments that the request says in other words."""

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        return re.compile("(.+?)".join(map(re.escape, self.pieces)), re.DOTALL)

    def fits(self, call: Call) -> bool:
        """Return whether a call can be written with this template."""
        fixed = dict(self.fixed)
        return call.arguments.keys() == {*self.slots, *fixed} and all(
            call.arguments[name] == value for name, value in fixed.items()
        )

    def fill(self, call: Call) -> str:
        """Return the request for a call that fits."""
        texts = [_text_of(call.arguments[name]) for name in self.slots]
        pairs = zip(texts, self.pieces[1:], strict=True)
        return self.pieces[0] + "".join(text + piece for text, piece in pairs)

    def read(self, request: str, tool: Tool) -> Call | None:
        """Return the call that a request makes by this template; None if it is another's."""
        match = self._pattern.fullmatch(request)
        if match is None:
            return None
        return _call_of(dict(zip(self.slots, match.groups(), strict=True)), tool, self.fixed)


def template_of(request: str, call: Call, tool: Tool) -> Template | None:
    """Return the template of a training row; None where its values are not in its request."""
    spans: list[tuple[int, int, str]] = []
    fixed: list[tuple[str, Any]] = []
    for name, value in call.arguments.items():
        pattern = rf"(?<![\w.]){re.escape(_text_of(value))}(?![\w]|\.\d)"
        matches = list(re.finditer(pattern, request))
        if len(matches) == 1:
            spans.append((*matches[0].span(), name))
        elif not matches and isinstance(value, str | bool) and _is_choice(tool, name):
            fixed.append((name, value))
        else:
            return None
    spans.sort()
    are_apart = all(before[1] < right[0] for before, right in pairwise(spans))
    if not spans or len(spans) > _MOST_SLOTS or not are_apart or len(request) > _LONGEST:
        return None
    ends = [0, *(end for _, end, _ in spans)]
    starts = [*(start for start, _, _ in spans), len(request)]
    pieces = tuple(request[a:b] for a, b in zip(ends, starts, strict=True))
    template = Template(tool.name, pieces, tuple(name for *_, name in spans), tuple(fixed))
    # One that does not read its own row back is of no use.
    again = template.read(request, tool)
    return template if again is not None and written([again]) == written([call]) else None


def _is_choice(tool: Tool, name: str) -> bool:
    schema = resolved(tool.parameters, tool.properties.get(name, True))
    return isinstance(schema, Mapping) and ("enum" in schema or schema.get("type") == "boolean")


@dataclass(frozen=True)
class Requests:
    """Writes requests for calls, and reads them without the calls."""

    templates: Mapping[str, Sequence[Template]] = field(default_factory=dict)
    """Of each tool those that its training rows gave."""

    @classmethod
    def learnt(cls, rows: Iterable[tuple[str, Call, Tool]]) -> Requests:
        """Learn the templates of training rows: request, call and tool; the commonest of many."""
        counts: dict[str, Counter[Template]] = {}
        for request, call, tool in rows:
            if (template := template_of(request, call, tool)) is not None:
                counts.setdefault(tool.name, Counter())[template] += 1
        return cls(
            {name: [t for t, _ in n.most_common(_MOST_TEMPLATES)] for name, n in counts.items()}
        )

    def write(self, calls: Sequence[Call], tools: Sequence[Tool], rng: random.Random) -> str:
        """Return a request for calls of these tools."""
        pairs = zip(calls, tools, strict=True)
        parts = [self._write(call, tool, rng) for call, tool in pairs]
        return _JOIN.join(part.rstrip(".?!") for part in parts) if parts[1:] else parts[0]

    def _write(self, call: Call, tool: Tool, rng: random.Random) -> str:
        fitting = [
            template for template in self.templates.get(tool.name, ()) if template.fits(call)
        ]
        if fitting and rng.random() < _SHARE_OF_TEMPLATES:
            return rng.choice(fitting).fill(call)
        return plain_request(call, tool)

    def read(self, request: str, tools: Sequence[Tool]) -> list[list[Call]]:
        """Return every list of calls that a request can be read as; [] where it is no call's.

        Args:
            request: what is asked for.
            tools: that are offered.
        """
        parts = [self._single(part, tools) for part in request.split(_JOIN)]
        readings = [list(calls) for calls in product(*parts)]
        return list({written(calls): calls for calls in readings}.values())

    def _single(self, request: str, tools: Sequence[Tool]) -> list[Call]:
        calls: dict[str, Call] = {}
        for tool in tools:
            by_rows = (
                template.read(request, tool) for template in self.templates.get(tool.name, ())
            )
            for call in (*by_rows, _read_plain(request, tool)):
                if call is not None:
                    calls[written([call])] = call
        return list(calls.values())


# --- in a teacher's words ------------------------------------------------------------------------

_FOR_CALLS = """\
You write what people ask an assistant. Write one request that makes it call exactly these tools \
with exactly these arguments. Say every argument's value, in the words of somebody who does not \
know the tools: name no tool, and no argument as it is spelled there. Write the request only."""
_FOR_NONE = """\
You write what people ask an assistant. Say the request in other words, as somebody would who \
knows nothing of tools. Keep its meaning, and all names, numbers and values in it. Write the \
request only."""


def wording_of(item: Item) -> list[Message]:
    """Return the chat that asks for a request in other words.

    It shows the calls and their tools. Where no call is right, the request is said anew.
    """
    plain = request_in(item.question)
    names = {call.name for call in read(item.answer) or ()}
    if not names:
        return _chat(_FOR_NONE, f"Request: {plain}\nNew request:")
    tools = "\n".join(tool.line for tool in tools_in(item.question) if tool.name in names)
    content = f"Tools:\n{tools}\n\nCalls: {item.answer}\n\nA clumsy request: {plain}\nNew request:"
    return _chat(_FOR_CALLS, content)


def _chat(system: str, content: str) -> list[Message]:
    return [{"role": "system", "content": system}, {"role": "user", "content": content}]


def gives_away(text: str, item: Item) -> bool:
    """Return whether a text holds calls as they are written, or a name that nobody says."""
    calls = read(item.answer) or ()
    names = {name for call in calls for name in (call.name, *call.arguments)}
    return "{" in text or any(name in text for name in names if not name.isalpha())


# --- draws ---------------------------------------------------------------------------------------

_LEAST_IN_VAIN = 5
"""Draws without a request, from which a tool is taken for one that has none."""


@dataclass
class Draws:
    """Counts draws by tool."""

    n_made: Counter[str] = field(default_factory=Counter)
    """Name of a tool to the requests that call it."""
    in_vain: Counter[tuple[str, Reason]] = field(default_factory=Counter)
    """Name of a tool, and why a draw of it made no request, to how many draws did not."""

    def miss(self, tools: Iterable[str], reason: Reason) -> None:
        """Count a draw that made no request for the tools of these names."""
        self.in_vain.update((name, reason) for name in tools)

    def by_tool(self) -> dict[str, int]:
        """Return how many draws made no request, by tool and reason, those of few as one."""
        named = self.in_vain.most_common(MOST_NAMED)
        counts = {f"{name}: {reason}": n for (name, reason), n in named}
        rest = self.in_vain.total() - sum(counts.values())
        return {**counts, "other tools": rest} if rest else counts

    def never(self) -> NeverDrawn | None:
        """Return for which tools nothing could be made, and why; None where there are none."""
        by_tool: dict[str, Counter[Reason]] = {}
        for (name, reason), n in self.in_vain.items():
            by_tool.setdefault(name, Counter())[reason] += n
        never = {
            name: reasons.most_common(1)[0][0]
            for name, reasons in by_tool.items()
            if not self.n_made[name] and reasons.total() >= _LEAST_IN_VAIN
        }
        return NeverDrawn(never, len(self.n_made.keys() | by_tool.keys())) if never else None


_MOST_IN_VAIN = 500
"""Draws in a row that bring no new request, after which there are no more."""
_TRIES = 5
"""Draws of a request with so many calls: many calls are harder to read back, and not rarer."""
_LEAST = 0.1
"""Share of a slice at least, where its requests can be made."""
_OF_SCHEMAS = {"irrelevant": 0.12, "parallel": 0.15}
"""Share of these slices where no row says how many there are.

A student that often learns to call nothing takes an unusual wording for a request that no tool
fits.
"""
_SHARE_ALIKE = 0.5
"""Share of requests for several calls that are of one tool."""
_SHARE_FEWER, _LEAST_OFFERED = 0.5, 2
"""Share of long offers of which only some tools are shown: the request is then shorter to read."""
_LEAST_LETTERS = 4
_MOST_SHARED = 0.4
"""Share of its words that a tool which is not offered may have in common with one that is."""
_MOST_CALLS = 3

_Drawn = tuple[str, list[Call]]


@dataclass(frozen=True)
class Injected:
    """What requests are made from: tools, and the values and wordings of training rows."""

    offers: tuple[tuple[Tool, ...], ...]
    """The list of tools of each row."""
    slices: Mapping[str, float]
    """Slice to its share of the training rows."""
    drawer: Drawer
    requests: Requests
    draws: Draws = field(default_factory=Draws)
    """Counts what was drawn."""

    @classmethod
    def of(cls, rows: Sequence[Item], gold_of: Callable[[Item], list[Call]]) -> Injected:
        """Learn values and wordings of training rows."""
        offers: list[tuple[Tool, ...]] = []
        seen: dict[tuple[str, str], list[Any]] = {}
        examples: list[tuple[str, Call, Tool]] = []
        for item in rows:
            tools = tools_in(item.question)
            offers += [tools] if tools else []
            by_name = {tool.name: tool for tool in tools}
            calls = gold_of(item)
            for call in calls:
                for name, value in call.arguments.items():
                    seen.setdefault((call.name, name), []).append(value)
            if len(calls) == 1:
                call = Call(calls[0].name, calls[0].arguments)
                examples.append((request_in(item.question), call, by_name[call.name]))
        counts = Counter(item.slice for item in rows)
        shares = {name: n / max(1, len(rows)) for name, n in counts.items()}
        return cls(tuple(offers), shares, Drawer(seen), Requests.learnt(examples))

    @classmethod
    def of_schemas(cls, rows: Sequence[Item]) -> Injected:
        """Take the tools that rows offer, and neither their requests nor their calls."""
        offers = (tools_in(item.question) for item in rows)
        once = {tuple(tool.line for tool in tools): tools for tools in offers if tools}
        return cls(tuple(once.values()), _OF_SCHEMAS, Drawer(), Requests())

    def draw(self, n: int, seed: int) -> Iterator[tuple[str, list[Call], str]]:
        """Yield up to `n` different questions with their calls and their slice."""
        rng = random.Random(f"tools {seed}")
        known: set[str] = set()
        in_vain = 0
        while self.offers and len(known) < n and in_vain < _MOST_IN_VAIN:
            in_vain += 1
            n_calls = self._n_calls(rng)
            tries = (self._question(n_calls, rng) for _ in range(_TRIES))
            drawn = next((question for question in tries if question is not None), None)
            if drawn is not None and drawn[0] not in known:
                in_vain = 0
                self.draws.n_made.update({call.name for call in drawn[1]})
                known.add(drawn[0])
                yield drawn

    def _question(self, n_calls: int, rng: random.Random) -> tuple[str, list[Call], str] | None:
        offer = self._offer(rng)
        if not n_calls:
            return self._irrelevant(offer, rng)
        tools = [rng.choice(offer) for _ in range(n_calls)]
        if rng.random() < _SHARE_ALIKE:
            tools = tools[:1] * n_calls
        if (drawn := self._drawn(tools, offer, rng)) is None:
            return None
        request, calls = drawn
        question = question_of(offer, [{"role": "user", "content": request}])
        return question, calls, slice_of(offer, calls)

    def _drawn(
        self, tools: Sequence[Tool], offer: Sequence[Tool], rng: random.Random
    ) -> _Drawn | None:
        """Return a request for a call of each tool, with the calls; None where none was made."""
        try:
            calls = [self.drawer.call(tool, rng) for tool in tools]
        except CannotDrawError as error:
            self.draws.miss([error.tool], error.reason)
            return None
        if len({written([call]) for call in calls}) < len(calls):
            return None
        request = self.requests.write(calls, tools, rng)
        # The reading sees the request and what is offered, and not the calls.
        readings = self.requests.read(request, offer)
        if [written(reading) for reading in readings] != [written(calls)]:
            self.draws.miss({tool.name for tool in tools}, NotDrawn(NoDraw.NOT_READ))
            return None
        return request, calls

    def _offer(self, rng: random.Random) -> tuple[Tool, ...]:
        """Return the tools that a row offers, or some of them where there are many."""
        offer = rng.choice(self.offers)
        if len(offer) <= _LEAST_OFFERED + 1 or rng.random() >= _SHARE_FEWER:
            return offer
        chosen = rng.sample(range(len(offer)), rng.randint(_LEAST_OFFERED, len(offer) - 1))
        return tuple(offer[k] for k in sorted(chosen))

    def _n_calls(self, rng: random.Random) -> int:
        none, several = (
            max(_LEAST, self.slices.get(name, 0.0)) for name in ("irrelevant", "parallel")
        )
        draw = rng.random()
        if draw < none:
            return 0
        return rng.randint(2, _MOST_CALLS) if draw < none + several else 1

    def _irrelevant(
        self, offer: Sequence[Tool], rng: random.Random
    ) -> tuple[str, list[Call], str] | None:
        """Return a request that none of the tools fits which are offered with it.

        It is one for a tool of another row, or for one that is taken away, unless a tool that
        stays does about the same.
        """
        candidates = offer if len(offer) > 1 and rng.random() < 0.5 else rng.choice(self.offers)
        tool = rng.choice(candidates)
        offered = [candidate for candidate in offer if candidate.name != tool.name]
        if not offered or any(_shared(tool, candidate) > _MOST_SHARED for candidate in offered):
            return None
        drawn = self._drawn([tool], [tool], rng)
        if drawn is None or self.requests.read(request := drawn[0], offered):
            return None
        return question_of(offered, [{"role": "user", "content": request}]), [], "irrelevant"


def _shared(tool: Tool, second: Tool) -> float:
    """Return the share of the words that two tools have in common, of the shorter one."""
    ours, theirs = (_content_words(each.name, each.description) for each in (tool, second))
    return len(ours & theirs) / max(1, min(len(ours), len(theirs)))


@lru_cache(maxsize=65_536)
def _content_words(name: str, description: str) -> frozenset[str]:
    first = description.partition(". ")[0]
    words = re.findall(r"[a-z]+", f"{words_of(name.replace('.', ' '))} {first.lower()}")
    return frozenset(word.rstrip("s") for word in words if len(word) >= _LEAST_LETTERS)
