"""Knowledge injection for tools: the call first, then the request for it, read back blindly."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from stratos.tasks.base import Item
from stratos.tasks.tools.calls import Call, written
from stratos.tasks.tools.drawing import CannotDrawError, Drawer
from stratos.tasks.tools.request_templates import JOINS, Requests, templates_of
from stratos.tasks.tools.signatures import Tool, question_of, request_in, tools_in
from stratos.tasks.tools.tool_rows import slice_of

_MOST_IN_VAIN = 500
"""Draws in a row that bring no new request, after which there are no more."""
_LEAST = 0.1
"""Share of a slice at least, where its requests can be made."""
_OF_SCHEMAS = {"irrelevant": 0.2, "parallel": 0.2}
"""Share of these slices where no row says how many there are."""
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
            made = self._one(rng)
            if made is not None and made[0] not in known:
                in_vain = 0
                known.add(made[0])
                yield made

    def _one(self, rng: random.Random) -> tuple[str, list[Call], str] | None:
        offer = rng.choice(self.offers)
        n_calls = self._n_calls(rng, len(offer))
        try:
            if not n_calls:
                return self._irrelevant(offer, rng)
            tools = [rng.choice(offer) for _ in range(n_calls)]
            calls = [self.drawer.call(tool, rng) for tool in tools]
        except CannotDrawError:
            return None
        if len({written([call]) for call in calls}) < n_calls:
            return None
        parts = [
            self.requests.write(call, tool, rng) for call, tool in zip(calls, tools, strict=True)
        ]
        request = rng.choice(JOINS).join(
            part.rstrip(".?!") if n_calls > 1 else part for part in parts
        )
        # The reading sees the request and what is offered, and not the calls.
        found = self.requests.read(request, offer)
        if [written(some) for some in found] != [written(calls)]:
            return None
        question = question_of(offer, [{"role": "user", "content": request}])
        return question, calls, slice_of(offer, calls)

    def _n_calls(self, rng: random.Random, n_tools: int) -> int:
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

        It is one for a tool of another row, or for one that is taken away.
        """
        others = rng.choice(self.offers)
        tool = rng.choice(others)
        left = [one for one in offer if one.name != tool.name]
        if not left:
            return None
        request = self.requests.write(self.drawer.call(tool, rng), tool, rng)
        if self.requests.read(request, left):
            return None
        return question_of(left, [{"role": "user", "content": request}]), [], "irrelevant"
