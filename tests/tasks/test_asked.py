"""What a served chat asks is found again, and answers are refuted without the right one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from stratos.tasks.base import Task
from stratos.tasks.jsonl import JsonlTask
from stratos.tasks.mahjong import MahjongTask
from stratos.tasks.mahjong.engine import BreaksRules
from stratos.tasks.math import MathTask
from stratos.tasks.words import Unreadable, WrongStep


def written(folder: Path, rows: list[dict[str, object]]) -> str:
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def tasks(folder: Path) -> list[Task]:
    rows = [{"question": f"What is {i} + 1?", "answer": str(i + 1)} for i in range(60)]
    return [MahjongTask(), JsonlTask(path=written(folder, rows))]


def test_a_chat_of_a_student_is_the_item_that_it_asks(tmp_path):
    for task in tasks(tmp_path):
        for item in task.items("validation", 4):
            found = task.item_of_chat(task.student_messages(item))
            assert found is not None and found.question == item.question and not found.answer
            # A teacher is asked by it as by the item itself.
            for prompt in task.prompts:
                last = task.messages(item, prompt)[-1]
                assert task.messages(found, prompt)[-1] == last
    two = [{"role": "system", "content": "x"}, {"role": "user", "content": "1z"}]
    assert MahjongTask().item_of_chat(two) is None


def test_what_is_wrong_is_seen_without_the_right_answer(tmp_path):
    mahjong = MahjongTask()
    one, other = mahjong.items("validation", 2)
    asked = mahjong.item_of_chat(mahjong.student_messages(one))
    assert asked is not None
    assert mahjong.refute(asked, mahjong.completion(one)) is None
    assert one.answer != other.answer
    wrong = mahjong.completion(one).replace(one.answer, other.answer)
    assert mahjong.refute(asked, wrong) == BreaksRules()
    assert mahjong.refute(asked, "") == Unreadable()
    rows = [
        {"question": f"What is {i} + 1?", "answer": f"{i} + 1 = {i + 1}\n#### {i + 1}"}
        for i in range(60)
    ]
    math = MathTask(path=written(tmp_path, rows), split_answer="####")
    item = math.items("validation", 1)[0]
    assert math.refute(item, "3 + 1 = 4\n#### 4") is None
    assert math.refute(item, "3 + 1 = 5\n#### 5") == WrongStep("3 + 1", "5")


@pytest.mark.parametrize("text", ["", " \n"])
def test_no_answer_is_refuted(text, tmp_path):
    for task in tasks(tmp_path):
        item = task.items("validation", 1)[0]
        assert task.refute(item, text) is not None
