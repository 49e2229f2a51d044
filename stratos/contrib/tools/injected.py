"""Knowledge injection for tools: the call first, then the request for it, read back blindly."""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from stratos.contrib.tools.calls import Call, read, written
from stratos.contrib.tools.drawing import ENGLISH, CannotDrawError, Drawer
from stratos.contrib.tools.plain_requests import words_of
from stratos.contrib.tools.request_templates import Requests, flat_of, templates_of
from stratos.contrib.tools.signatures import Tool, question_of, request_in, tools_in
from stratos.contrib.tools.tool_rows import slice_of
from stratos.contrib.tools.words import MOST_NAMED, NeverDrawn, NoDraw, NotDrawn
from stratos.core.reasons import Reason
from stratos.tasks.base import Item, Message

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


def wording_of(item: Item) -> list[Message]:
    """Return the chat that asks for a request in other words.

    It shows the calls and their tools. Where no call is right, the request is said anew.
    """
    plain = request_in(item.question)
    names = {call.name for call in read(item.answer) or ()}
    if not names:
        return _chat(ENGLISH["for_none"], f"Request: {plain}\nNew request:")
    tools = "\n".join(tool.line for tool in tools_in(item.question) if tool.name in names)
    asked = f"Tools:\n{tools}\n\nCalls: {item.answer}\n\nA clumsy request: {plain}\nNew request:"
    return _chat(ENGLISH["for_calls"], asked)


def _chat(system: str, asked: str) -> list[Message]:
    return [{"role": "system", "content": system}, {"role": "user", "content": asked}]


def gives_away(text: str, item: Item) -> bool:
    """Return whether a text holds calls as they are written, or a name that nobody says."""
    called = read(item.answer) or ()
    names = {name for call in called for name in (call.name, *call.arguments)}
    return "{" in text or any(name in text for name in names if not name.isalpha())


_MOST_IN_VAIN = 500
"""Draws in a row that bring no new request, after which there are no more."""
_TRIES = 5
"""Draws of a request with so many calls: many calls are harder to read back, and not rarer."""
_LEAST = 0.1
"""Share of a slice at least, where its requests can be made."""
_OF_SCHEMAS = {"irrelevant": 0.12, "parallel": 0.15}
"""Share of these slices where no row says how many there are.

A request is written by templates, and real ones differ from them. So a student that often learns to
call nothing takes an unusual wording for a request that no tool fits.
"""
_SHARE_ALIKE = 0.5
"""Share of requests for several calls that are of one tool with the same arguments."""
_SHARE_FEWER, _LEAST_OFFERED = 0.5, 2
"""Share of long offers of which only some tools are shown: the request is then shorter to read."""
_LEAST_LETTERS = 4
_MOST_SHARED = 0.4
"""Share of its words that a tool which is not offered may have in common with one that is."""
_MOST_CALLS = 3


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
        said: list[tuple[str, Call, Tool]] = []
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
                said.append((request_in(item.question), call, by_name[call.name]))
        counts = Counter(item.slice for item in rows)
        shares = {name: n / max(1, len(rows)) for name, n in counts.items()}
        return cls(
            tuple(offers),
            shares,
            Drawer(seen),
            Requests(templates_of(said)),
        )

    @classmethod
    def of_schemas(cls, rows: Sequence[Item]) -> Injected:
        """Take the tools that rows offer, and neither their requests nor their calls."""
        offers = (tools_in(item.question) for item in rows)
        once = {tuple(tool.line for tool in tools): tools for tools in offers if tools}
        return cls(tuple(once.values()), _OF_SCHEMAS, Drawer(), Requests({}))

    def draw(self, n: int, seed: int) -> Iterator[tuple[str, list[Call], str]]:
        """Yield up to `n` different questions with their calls and their slice."""
        rng = random.Random(f"tools {seed}")
        known: set[str] = set()
        in_vain = 0
        while self.offers and len(known) < n and in_vain < _MOST_IN_VAIN:
            in_vain += 1
            n_calls = self._n_calls(rng)
            tries = (self._one(n_calls, rng) for _ in range(_TRIES))
            made = next((one for one in tries if one is not None), None)
            if made is not None and made[0] not in known:
                in_vain = 0
                self.draws.n_made.update({call.name for call in made[1]})
                known.add(made[0])
                yield made

    def _one(self, n_calls: int, rng: random.Random) -> tuple[str, list[Call], str] | None:
        offer = self._offer(rng)
        if not n_calls:
            return self._irrelevant(offer, rng)
        tools = [rng.choice(offer) for _ in range(n_calls)]
        if rng.random() < _SHARE_ALIKE:
            tools = tools[:1] * n_calls
        drawn = self._drawn(tools, offer, rng)
        if drawn is None:
            return None
        request, calls = drawn
        question = question_of(offer, [{"role": "user", "content": request}])
        return question, calls, slice_of(offer, calls)

    def _drawn(
        self, tools: Sequence[Tool], offer: Sequence[Tool], rng: random.Random
    ) -> tuple[str, list[Call]] | None:
        """Return a request for a call of each tool, with the calls; None where none was made.

        Only the calls can be read from it, of all those of the tools that are offered.
        """
        try:
            drawn = self.drawer.calls(tools, rng)
            calls = [
                flat.nested(flat.call(call))
                for flat, call in zip(map(flat_of, tools), drawn, strict=True)
            ]
            request = self.requests.write_all(calls, tools, rng)
        except CannotDrawError as error:
            self.draws.miss([error.tool], error.reason)
            return None
        if len({written([call]) for call in calls}) < len(calls):
            return None
        # The reading sees the request and what is offered, and not the calls.
        found = self.requests.read(request, offer)
        if [written(some) for some in found] != [written(calls)]:
            self.draws.miss({tool.name for tool in tools}, NotDrawn(NoDraw.NOT_READ))
            return None
        return request, calls

    def _offer(self, rng: random.Random) -> tuple[Tool, ...]:
        """Return the tools that a row offers, or some of them where there are many."""
        offer = rng.choice(self.offers)
        if len(offer) <= _LEAST_OFFERED + 1 or rng.random() >= _SHARE_FEWER:
            return offer
        kept = rng.sample(range(len(offer)), rng.randint(_LEAST_OFFERED, len(offer) - 1))
        return tuple(offer[k] for k in sorted(kept))

    def _n_calls(self, rng: random.Random) -> int:
        none, several = (
            max(_LEAST, self.slices.get(name, 0.0)) for name in ("irrelevant", "parallel")
        )
        place = rng.random()
        if place < none:
            return 0
        return rng.randint(2, _MOST_CALLS) if place < none + several else 1

    def _irrelevant(
        self, offer: Sequence[Tool], rng: random.Random
    ) -> tuple[str, list[Call], str] | None:
        """Return a request that none of the tools fits which are offered with it.

        It is one for a tool of another row, or for one that is taken away, unless a tool that is
        left does about the same.
        """
        others = offer if len(offer) > 1 and rng.random() < 0.5 else rng.choice(self.offers)
        tool = rng.choice(others)
        left = [one for one in offer if one.name != tool.name]
        if not left or any(_shared(tool, one) > _MOST_SHARED for one in left):
            return None
        drawn = self._drawn([tool], [tool], rng)
        if drawn is None or self.requests.read(request := drawn[0], left):
            return None
        return question_of(left, [{"role": "user", "content": request}]), [], "irrelevant"


def _shared(tool: Tool, other: Tool) -> float:
    """Return the share of the words of one tool that the other has, of the shorter one."""
    some, others = (_content_words(one.name, one.description) for one in (tool, other))
    return len(some & others) / max(1, min(len(some), len(others)))


@lru_cache(maxsize=65_536)
def _content_words(name: str, description: str) -> frozenset[str]:
    first = description.partition(". ")[0]
    words = re.findall(r"[a-z]+", f"{words_of(name.replace('.', ' '))} {first.lower()}")
    return frozenset(one.rstrip("s") for one in words if len(one) >= _LEAST_LETTERS)
