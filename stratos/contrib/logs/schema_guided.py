"""Dialogues as Schema-Guided Dialogue (SGD) has them: turns of two speakers, with frames.

Rastogi et al., "Towards Scalable Multi-domain Conversational Agents" (AAAI 2020). A turn of the
system may call a method of a service, is told its results, and speaks then: three messages here.
MultiWOZ 2.2 has the same form without calls.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from stratos.contrib.logs.conversation import Call, Trace, Turn, WrongRow, particulars
from stratos.contrib.logs.exchanges import decoded, role_of

DIALOGUES = "schema-guided dialogues"


def read_dialogue(row: Mapping[str, Any]) -> Trace | None:
    """Return the conversation of `{"turns": [{"speaker": …, "utterance": …}]}`; None for others.

    Raises:
        WrongRow: a turn of it cannot be read.
    """
    turns = decoded(row.get("turns"))
    first = turns[0] if isinstance(turns, list) and turns else None
    if not isinstance(first, Mapping) or not {"speaker", "utterance"} <= first.keys():
        return None
    made = [turn for k, each in enumerate(turns, start=1) for turn in _turns(each, k)]
    return Trace(made, particulars(DIALOGUES, row))


def _turns(row: Any, number: int) -> Iterator[Turn]:
    """Yield what one turn is: calls, their results, and the text."""
    if not isinstance(row, Mapping) or not isinstance(row.get("utterance"), str):
        raise WrongRow(f"turn {number} has no utterance")
    speaker = str(row.get("speaker")).casefold()
    role = "assistant" if speaker == "system" else role_of(speaker, number)
    calling = [frame for frame in row.get("frames") or () if frame.get("service_call")]
    calls = tuple(
        Call(f"call_{number}_{k}", str(frame["service_call"]["method"]),
             json.dumps(frame["service_call"].get("parameters", {}), ensure_ascii=False))
        for k, frame in enumerate(calling)
    )  # fmt: skip
    if calls:
        yield Turn("assistant", "", calls)
    for call, frame in zip(calls, calling, strict=True):
        results = json.dumps(frame.get("service_results", []), ensure_ascii=False)
        yield Turn("tool", results, result_of=call.id)
    yield Turn(role, row["utterance"])
