"""Whole conversations of a log, walked with a model's own answers.

The tools are simulated: a call that is right by the task's rule has the result that the log has
behind it, and what the user says next is what the log has, too. Any other answer ends the
conversation, since nobody knows what would have followed.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence, Set
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from stratos.contrib.tools.calls import calls_of, read
from stratos.contrib.tools.signatures import Tool, messages_in, question_of, tools_in
from stratos.contrib.tools.tool_rows import TEXT, answered
from stratos.core.intervals import wilson
from stratos.core.reasons import Reason
from stratos.records import Interval, Replay
from stratos.tasks.base import Item, Score
from stratos.tasks.dedup.hashes import content_hash, content_id, id_of, normalised, order_key
from stratos.tasks.table import Rows

_MOST_ROWS, _MOST_CONVERSATIONS = 20_000, 200
"""Test rows among which conversations are looked for, and conversations that are walked."""


@dataclass(frozen=True)
class Recorded:
    """A conversation of the log."""

    tools: tuple[Tool, ...]
    messages: tuple[dict[str, Any], ...]
    """The last one is of the model."""
    turns: tuple[int, ...]
    """Places of the model's messages that are test rows. The others stand as recorded: they are
    probably wrong, or a training row has the same beginning."""
    learns_texts: bool

    def item(self, position: int, before: Sequence[dict[str, Any]]) -> Item | None:
        """Return what the model is asked at a position; None where its message is no valid answer.

        Args:
            position: of its message.
            before: the messages up to there, with the model's own in place of the recorded.
        """
        message, question = self.messages[position], question_of(self.tools, before)
        calls = calls_of(message.get("tool_calls", []))
        if not calls and self.learns_texts:
            return Item(content_id(question), TEXT, question, message["content"])
        fields = answered(self.tools, question, calls)
        if isinstance(fields, Reason):
            return None
        return Item(content_id(question), fields["slice"], question, fields["answer"])

    def own(self, item: Item, position: int, text: str) -> dict[str, Any]:
        """Return a right answer as a message."""
        recorded = self.messages[position]
        if item.slice == TEXT:
            return {**recorded, "content": text.strip()}
        calls = read(text)
        if not calls or len(calls) > 1:  # a text is left to somebody; results are in recorded order
            return recorded
        plain = [{"name": call.name, "arguments": call.arguments} for call in calls]
        return {"role": "assistant", "content": "", "tool_calls": plain}


@dataclass(frozen=True)
class Conversations:
    """Conversations of the test split, each of which is walked turn by turn."""

    recorded: tuple[Recorded, ...]
    score: Callable[[str, Item], Score]

    @cached_property
    def items(self) -> list[Item]:
        """The test items that a walk reads, as they are behind the recorded messages."""
        items = [
            conversation.item(position, conversation.messages[:position])
            for conversation in self.recorded
            for position in conversation.turns
        ]
        return [*{item.id: item for item in items if item is not None}.values()]

    def replay(self, answer: Callable[[Sequence[Item]], Sequence[str]]) -> Replay:
        """Walk them with the answers of a model.

        Args:
            answer: returns the texts that it gives to items.
        """
        n_right = self._walked(answer, passes_texts=False)
        n_right_calls = self._walked(answer, passes_texts=True)
        n_turns = [len(conversation.turns) for conversation in self.recorded]
        n = len(n_turns)
        return Replay(
            n, _whole(n_right, n_turns), sum(n_right) / n, sum(n_turns) / n,
            _whole(n_right_calls, n_turns),
        )  # fmt: skip

    def _walked(
        self, answer: Callable[[Sequence[Item]], Sequence[str]], *, passes_texts: bool
    ) -> list[int]:
        """Return how many turns of each conversation are right before the first that is not."""
        n_right = [0] * len(self.recorded)
        heard = [[*conversation.messages] for conversation in self.recorded]
        live = [*range(len(self.recorded))]
        while live:
            due = [
                (k, position, item)
                for k in live
                if n_right[k] < len(self.recorded[k].turns)
                and (position := self.recorded[k].turns[n_right[k]])
                and (item := self.recorded[k].item(position, heard[k][:position])) is not None
            ]
            texts = answer([item for *_, item in due]) if due else ()
            live = []
            for (k, position, item), text in zip(due, texts, strict=True):
                is_right = self.score(text, item).exact == 1
                if passes_texts and item.slice == TEXT:
                    is_right = bool(text.strip()) and not read(text)
                if is_right:
                    heard[k][position] = self.recorded[k].own(item, position, text)
                    n_right[k] += 1
                    live.append(k)
        return n_right


def _whole(n_right: Sequence[int], n_turns: Sequence[int]) -> Interval:
    return wilson(sum(a == b for a, b in zip(n_right, n_turns, strict=True)), len(n_turns))


def conversations_in(
    rows: Rows, score: Callable[[str, Item], Score], seed: int, *, learns_texts: bool
) -> Conversations | None:
    """Return conversations of the test rows, drawn by the seed; None where there is none.

    Args:
        rows: of the test split.
        score: tells which answers are right.
        seed: of the draw.
        learns_texts: whether a turn in text is answered with a text, and not with no call.
    """
    some = [*_recorded(rows, learns_texts)]
    some.sort(key=lambda pair: order_key(pair[0], seed))
    chosen = tuple(conversation for _, conversation in some[:_MOST_CONVERSATIONS])
    return Conversations(chosen, score) if chosen else None


def _recorded(rows: Rows, learns_texts: bool) -> Iterator[tuple[str, Recorded]]:
    """Yield each conversation once, with an id: a row holds all that was said before it."""
    of_test, covered = set(rows.column("ids").tolist()), set[int]()
    longest_first = sorted(
        range(min(len(rows), _MOST_ROWS)), key=lambda k: -rows[k].question.count("\n")
    )
    for k in longest_first:
        row = rows[k]
        own = content_hash(normalised(row.question))
        if own in covered:
            continue
        tools, before = tools_in(row.question), messages_in(row.question)
        last: dict[str, Any] = {"role": "assistant", "content": row.answer}
        if row.slice != TEXT:
            last = {"role": "assistant", "content": "", "tool_calls": json.loads(row.answer)}
        recorded = Recorded(tools, (*before, last), (), learns_texts)
        positions = [at for at, message in enumerate(before) if message["role"] == "assistant"]
        turns = [*_test_turns(recorded, positions, of_test, covered), len(before)]
        covered.add(own)
        yield id_of(own), Recorded(tools, recorded.messages, tuple(turns), learns_texts)


def _test_turns(
    recorded: Recorded, positions: Sequence[int], of_test: Set[int], covered: set[int]
) -> Iterator[int]:
    """Yield the positions whose question is a test row's; note the questions."""
    for position in positions:
        if not any(message["role"] == "user" for message in recorded.messages[:position]):
            continue  # a greeting
        item = recorded.item(position, recorded.messages[:position])
        if item is not None and int(item.id, 16) in of_test:
            covered.add(int(item.id, 16))
            yield position
