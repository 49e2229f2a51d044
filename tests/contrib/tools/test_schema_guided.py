"""Dialogues in the form of Schema-Guided Dialogue are conversations of an agent."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from stratos.contrib.logs.conversation import WrongRow
from stratos.contrib.logs.row_formats import trace_in
from stratos.contrib.logs.schema_guided import DIALOGUES
from stratos.contrib.tools.tools_task import ToolsTask
from tests.in_process import stratos

CITIES = ("San Jose", "Oakland", "Napa", "Fremont", "Concord")
NAMES = ("Billy Berk's", "Sino", "La Victoria", "Olla", "Nemea")


def dialogue(k: int) -> dict[str, Any]:
    rng = random.Random(k)
    city, name, people = rng.choice(CITIES), rng.choice(NAMES), str(rng.randint(1, 6))
    result = {"city": city, "restaurant_name": name, "phone_number": f"408-{rng.randrange(10**4)}"}

    def turn(speaker: str, utterance: str, **frame: Any) -> dict[str, Any]:
        frames = [{"service": "Restaurants_1", "slots": [], "actions": [], **frame}]
        return {"speaker": speaker, "utterance": utterance, "frames": frames}

    return {
        "dialogue_id": f"1_{k:05d}",
        "services": ["Restaurants_1"],
        "turns": [
            turn("USER", f"I am looking for a place to eat in {city}, number {k}",
                 state={"active_intent": "FindRestaurants"}),
            turn("SYSTEM", f"I found {name} in {city}.", service_results=[result],
                 service_call={"method": "FindRestaurants", "parameters": {"city": city}}),
            turn("USER", f"Book it for {people}"),
            turn("SYSTEM", "Your table is reserved.", service_results=[{"party_size": people}],
                 service_call={"method": "ReserveRestaurant",
                               "parameters": {"restaurant_name": name, "party_size": people}}),
        ],
    }  # fmt: skip


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "dialogues_001.json"
    path.write_text(json.dumps([dialogue(k) for k in range(60)]))
    return path


def test_a_call_its_results_and_the_text_are_three_messages() -> None:
    trace = trace_in(dialogue(1))
    assert trace.about.format == DIALOGUES
    roles = [turn.role for turn in trace.turns]
    assert roles == ["user", "assistant", "tool", "assistant"] * 2
    call = trace.turns[1].calls[0]
    assert call.name == "FindRestaurants" and list(json.loads(call.arguments)) == ["city"]
    assert trace.turns[2].result_of == call.id and json.loads(trace.turns[2].text)[0]["city"]


def test_a_file_of_the_set_is_learnt_turn_by_turn(path: Path) -> None:
    task = ToolsTask(str(path), compares_words=False)
    reader = task.content.reader
    assert (reader.n_traces, reader.n_texts) == (60, 120)
    assert {tool["function"]["name"] for tool in reader.tools or ()} == {
        "FindRestaurants", "ReserveRestaurant",
    }  # fmt: skip
    walks = task.conversations()
    assert walks is not None and {len(each.turns) for each in walks.recorded} <= {3, 4}


def test_a_look_names_the_task_and_ends_with_0(path: Path) -> None:
    done = stratos("look", path.name, cwd=path.parent)
    assert done.returncode == 0 and "+task=tools" in done.stdout
    looked = json.loads(stratos("look", path.name, "--json", cwd=path.parent).stdout)
    assert looked["next"] == f"python -m stratos +task=tools task.path={path.name}"
    assert "60 conversations" in looked["rows"][1]


def test_a_turn_without_a_text_is_named() -> None:
    broken = dialogue(1)
    del broken["turns"][2]["utterance"]
    with pytest.raises(WrongRow, match="turn 3"):
        trace_in(broken)
