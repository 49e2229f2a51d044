"""A prompt that tells confused labels apart: tried on other items, taken only where it helps."""

from __future__ import annotations

import json
from dataclasses import dataclass, make_dataclass
from pathlib import Path
from typing import Any

import pytest
from pupil import Pupil, World

from stratos.config import ProbeConfig
from stratos.probe.words import LabelsConfused
from stratos.records import ConfusedLabels, Probe, from_json, to_json
from stratos.tasks.classify import ClassifyTask, most_alike
from stratos.teachers.prompting import with_repaired_prompts

LABELS = ("card lost", "card stolen", "refund")


class Tickets(World):
    """Tickets of three labels, with rows that have none."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        rows = [{"text": f"{LABELS[i % 3]}, case {i}", "label": LABELS[i % 3]} for i in range(600)]
        _write(folder / "tickets.jsonl", rows)
        _write(folder / "more.jsonl", [{"text": f"case {i}"} for i in range(1000, 1020)])
        self.task = ClassifyTask(
            str(folder / "tickets.jsonl"), unlabelled_path=str(folder / "more.jsonl")
        )

    def config(self, *teachers: Any, **changes: Any) -> Any:
        found = super().config(
            *teachers, **{"probe": ProbeConfig(n_items=60, n_trial_items=8), **changes}
        )
        return make_dataclass("Settings", vars(found))(**vars(found))


def _write(path: Path, rows: list[dict[str, str]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


@dataclass
class Confused(Pupil):
    """Takes every stolen card for a lost one, until its prompt shows how they differ."""

    learns: bool = True

    def identity(self) -> str:
        return f"{self.name} {self.learns}"

    def reply(self, chat: Any) -> str:
        label = chat[-1]["content"].split(",")[0]
        is_shown = "easily confused" in chat[0]["content"]
        return "card lost" if label == "card stolen" and not (is_shown and self.learns) else label


def test_a_repaired_prompt_that_helps_is_taken(tmp_path):
    world, teacher = Tickets(tmp_path), Confused()
    record = world.probe(teacher)
    (found,) = record.teachers
    [pair] = found.confused
    assert pair == ConfusedLabels(("card lost", "card stolen"), pair.n) and pair.n >= 15
    repair = found.repair
    assert repair is not None and repair.is_taken and repair.pairs == (pair.labels,)
    assert (repair.n_items, repair.n_right, repair.only_base) == (30, 30, 0)
    assert (found.prompt, found.n_items, found.exact.mean) == (repair.prompt, 30, 1.0)
    # The items that named the pair are not those that were asked again, and none is an example.
    again = [chat for chat in teacher.chats_seen if "easily confused" in chat[0]["content"]]
    asked = {chat[-1]["content"] for chat in again}
    train = {item.question for item in world.task.items("train", 1000)}
    assert len(asked) >= 30 and not asked & train
    assert all(text not in chat[0]["content"] for chat in again for text in asked)
    # Later stages ask with it, from the record alone.
    later = with_repaired_prompts(world.config(), from_json(to_json(record), Probe)).task
    assert later.messages(later.items("validation", 1)[0], found.prompt)[0] == again[0][0]
    assert repair.prompt not in world.task.prompts


def test_one_that_does_not_help_is_not(tmp_path):
    world = Tickets(tmp_path)
    record = world.probe(Confused(learns=False))
    (found,) = record.teachers
    assert found.repair is not None and not found.repair.is_taken
    assert (found.prompt, found.n_items) == (found.repair.base, 60)
    assert with_repaired_prompts(world.config(), record).task is world.task


def test_nothing_is_tried_where_no_row_lacks_its_label(tmp_path):
    world = Tickets(tmp_path)
    world.task = ClassifyTask(str(tmp_path / "tickets.jsonl"))
    (found,) = world.probe(Confused()).teachers
    assert found.repair is None and found.confused


@pytest.mark.parametrize("learns", [True, False])
def test_in_words(tmp_path, learns, snapshot):
    (found,) = Tickets(tmp_path).probe(Confused(learns=learns)).teachers
    assert str(LabelsConfused("t", found.confused, found.repair)) == snapshot


def test_examples_are_the_rows_most_like_the_other_label():
    one = ["my card is lost", "hello there", "lost at sea"]
    other = ["my card is stolen", "thieves"]
    assert most_alike(one, other, 1) == (["my card is lost"], ["my card is stolen"])
