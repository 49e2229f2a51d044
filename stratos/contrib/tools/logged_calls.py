"""A row of a log, a request with its response, as a row of calls."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import nan
from typing import Any

from stratos.contrib.logs.messages.conversation import PassedOver, Turn, UnansweredRow, WrongRow
from stratos.contrib.logs.messages.exchanges import exchange_in
from stratos.contrib.logs.messages.message_file import OF_WRONG_TYPES
from stratos.contrib.logs.messages.ordered import conversation_of
from stratos.contrib.logs.messages.particulars import particulars
from stratos.contrib.logs.messages.workload import workload_of
from stratos.contrib.logs.words import FieldOfWrongType
from stratos.contrib.tools.families import take_in
from stratos.contrib.tools.tool_rows import Names, row_of
from stratos.core.foreign import cause
from stratos.core.reasons import Because, Reason
from stratos.core.redact import redact_shapes
from stratos.tasks.near_duplicates import Alike
from stratos.tasks.rows import Unanswered, find_field, writable
from stratos.tasks.table import Provenance, Row

NO_TOOLS = "requests without tools"
TEXT_AFTER_RESULTS = "answers in text to results of tools"
"""Nothing says that no call would have been right."""
_OWN = Names("question", "messages", "tools", "calls")


class _OtherWorkload(Exception):
    """A row is of another workload than the one that is read."""


@dataclass
class ToolRowReader:
    """Reads rows of either form, and counts what is left out though nothing is wrong with it."""

    names: Names
    workload: str | None = None
    """Id of the only workload that is read of a log; None reads all."""
    n_logged: int = 0
    """Rows that were requests with responses."""
    n_other: int = 0
    """Rows of other workloads."""
    n_secrets: int = 0
    """Keys and tokens that were replaced."""
    passed: Counter[str] = field(default_factory=Counter)
    alike: Alike = field(default_factory=Alike)
    """Tells which requests belong together."""

    def read(self, line: str, data: Mapping[str, Any]) -> Row | Unanswered | Reason | None:
        """Return a row, or what is wrong with it; None of one that is left out."""
        try:
            own = self._of_log(data)
            found = row_of(data, self.names) if own is None else row_of(own, _OWN)
            session = particulars("", data).session
        except UnansweredRow as error:
            return Unanswered(Because(str(error)))
        except WrongRow as error:
            return Because(str(error))
        except _OtherWorkload:
            self.n_other += 1
            return None
        except PassedOver as kind:
            self.passed[str(kind)] += 1
            return None
        except OF_WRONG_TYPES as error:
            return FieldOfWrongType(cause(error))
        return self._row(line, found, session) if isinstance(found, dict) else found

    def _row(self, line: str, fields: dict[str, Any], session: str) -> Row:
        question, answer = self._redacted(fields["question"]), self._redacted(fields["answer"])
        number = take_in(self.alike, question, session)
        options = tuple(map(self._redacted, fields.get("options", ())))
        provenance = Provenance(number, nan, "", "")
        return Row(line, question, answer, "", fields["slice"], options, provenance)

    def _of_log(self, data: Mapping[str, Any]) -> dict[str, Any] | None:
        """Return messages, tools and calls of a request with its response; None of another row."""
        if find_field(dict(data), self.names.calls) is not None:
            return None
        found = exchange_in(data)
        if found is None:
            return None
        conversation = conversation_of(found.turns, found.about)  # checks their order
        if self.workload is not None and workload_of(conversation).id != self.workload:
            raise _OtherWorkload
        if found.tools is None:
            raise PassedOver(NO_TOOLS)
        *before, answer = found.turns
        if not answer.calls and any(turn.role == "tool" for turn in before):
            raise PassedOver(TEXT_AFTER_RESULTS)
        self.n_logged += 1
        return {
            "messages": [_message(turn) for turn in before],
            "tools": found.tools,
            "calls": _calls(answer),
        }

    def _redacted(self, text: str) -> str:
        found, n = redact_shapes(writable(text))
        self.n_secrets += n
        return found


def _message(turn: Turn) -> dict[str, Any]:
    message = {"role": turn.role, "content": turn.text}
    return {**message, "tool_calls": _calls(turn)} if turn.calls else message


def _calls(turn: Turn) -> list[dict[str, Any]]:
    return [{"name": one.name, "arguments": json.loads(one.arguments)} for one in turn.calls]
