"""Whether another answer to a doubtful turn of an agent's traces is doubtful, too.

Nothing is predicted anew: what such a place mostly calls is known from the checks that doubted the
turn, and so is how probably a value is wrong that nothing before says.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stratos.contrib.tools.calls import Call
from stratos.contrib.tools.grounding import is_grounded, text_of, times, tokens
from stratos.contrib.tools.signatures import messages_in
from stratos.contrib.tools.trace_checks import LEAST, Doubt, TraceChecks, floors_of, wrong_actions
from stratos.contrib.tools.trace_steps import TEXT
from stratos.contrib.tools.words import TurnDoubt

Place = tuple[int, int]
"""A conversation, and a turn of it, by their numbers."""
_NEVER_ASKED = TurnDoubt.REPEATED, TurnDoubt.RENAMED, TurnDoubt.FOREIGN
"""Nothing is due in place of a call that was made already, names are known, and of a conversation
with another service the tools are not."""


def is_asked(doubt: Doubt) -> bool:
    """Return whether somebody else may say what is right in the place of a turn."""
    return doubt.reason not in _NEVER_ASKED


@dataclass(frozen=True)
class TurnChecks:
    """What is usual in the places of doubtful turns."""

    actions: Sequence[str]
    floors: Sequence[float]
    """Of each action: see `floors_of`."""
    due: Mapping[Place, NDArray[np.float64]]
    """How probable each action is there."""
    unsaid: Mapping[tuple[str, str], float]
    """Of a tool's argument, how probably a value is wrong that nothing before says."""
    speech: frozenset[str]
    """Tools that speak to the user."""

    @classmethod
    def of(cls, checks: TraceChecks, doubts: Sequence[Doubt]) -> TurnChecks:
        """Take over what checks of traces found of the turns that they doubt."""
        doubted = {(doubt.conversation, doubt.turn) for doubt in doubts if is_asked(doubt)}
        predicted = checks.actions.of_actions
        due = {
            turn: predicted[k]
            for k, step in enumerate(checks.steps)
            if (turn := (step.conversation, step.turn)) in doubted
        }
        unsaid = checks.values.unsaid_wrongly()
        speech = frozenset(checks.speech)
        return cls(checks.actions.actions, floors_of(predicted), due, unsaid, speech)

    def doubt(self, turn: Place, question: str, calls: Sequence[Call]) -> TurnDoubt | None:
        """Return what is doubtful about an answer whose calls match the schema; None if nothing.

        Args:
            turn: that it is to replace.
            question: the conversation before it, as a model is asked.
            calls: that it makes; none where it is a text.
        """
        messages = messages_in(question)
        action = calls[0].name if calls else TEXT
        if action in self.actions:
            own = np.array([self.actions.index(action)])
            [wrong] = wrong_actions(self.due[turn][None], own, self.floors)
            if wrong >= LEAST:
                return TurnDoubt.OTHER_TOOL if calls else TurnDoubt.CALL_DUE
        before = next(message for message in reversed(messages) if message["role"] != "tool")
        made = [{"name": call.name, "arguments": call.arguments} for call in calls]
        if made and before.get("tool_calls") == made:
            return TurnDoubt.REPEATED
        words = {word for text in self._texts(messages) for word in (*tokens(text), *times(text))}
        context = dict.fromkeys(words)
        for call in calls:
            for name, value in call.arguments.items():
                is_open = isinstance(value, bool | None) or is_grounded(value, context)
                if not is_open and self.unsaid.get((call.name, name), 0.0) >= LEAST:
                    return TurnDoubt.NOT_SAID
        return None

    def _texts(self, messages: Sequence[Mapping[str, Any]]) -> list[str]:
        """Return what was said: messages, and what tools say to the user."""
        texts = [str(message["content"]) for message in messages]
        for message in messages:
            for call in message.get("tool_calls", ()):
                if call["name"] in self.speech:
                    texts += map(text_of, call["arguments"].values())
        return texts
