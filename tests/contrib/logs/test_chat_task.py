"""Conversations as a task: turns with their history, whole conversations in one split."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stratos.contrib.logs.chat_task import ChatTask
from stratos.contrib.logs.conversation import history_of
from stratos.contrib.logs.words import OtherSystems, OtherWorkloads
from stratos.tasks.base import Item
from stratos.tasks.dedup.near import Alike
from stratos.tasks.words import Unreadable

SYSTEM = "You sort messages of customers of a shop by what they want. Answer with one word."
WORDS = [f"word{k}" for k in range(400)]
SPLITS = ("train", "validation", "test")


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def said(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


def text(rng: random.Random, n: int = 12) -> str:
    return " ".join(rng.choices(WORDS, k=n))


def chats(n: int, turns: Sequence[int] = (1, 2, 3), system: str = SYSTEM) -> list[dict[str, Any]]:
    rng = random.Random(0)
    rows = []
    for _ in range(n):
        messages = [{"role": "system", "content": system}] if system else []
        for _ in range(rng.choice(turns)):
            messages += [user(text(rng)), said(rng.choice(["refund", "order"]))]
        rows.append({"messages": messages})
    return rows


def write(path: Path, rows: Sequence[Any]) -> str:
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return str(path)


def every(task: ChatTask) -> dict[str, list[Item]]:
    return {split: task.items(split, 10_000) for split in SPLITS}  # type: ignore[arg-type]


def test_each_turn_is_asked_for_with_its_history(tmp_path: Path) -> None:
    rows = chats(100)
    task = ChatTask(write(tmp_path / "a.jsonl", rows))
    items = every(task)
    n_turns = sum(len(row["messages"]) // 2 for row in rows)
    assert sum(map(len, items.values())) == n_turns
    known = {json.dumps(row["messages"][1:]) for row in rows}
    for item in (one for some in items.values() for one in some):
        history = task.student_messages(item)
        turn = len(history) // 2
        assert item.slice == ("first turn", "second turn", "later turns")[min(turn, 2)]
        whole = json.dumps([*history, said(item.answer)])
        assert any(one.startswith(whole[:-1]) for one in known)
    assert task.system_prompt == SYSTEM and task.metric_name == "exact"
    assert "300" not in task.notes[0] and "100 fine-tuning messages" in task.notes[0]


def test_no_conversation_and_no_near_duplicate_has_turns_in_two_splits(tmp_path: Path) -> None:
    rng = random.Random(1)
    rows, source = [], {}
    for k in range(200):
        first, second = text(rng, 20), text(rng, 20)
        near = first.split()
        near[rng.randrange(20)] += "s"
        asked = [user(first), said("refund"), user(second)]
        rows += [
            # One conversation as two requests, and a near duplicate of its first question.
            {"messages": asked[:1], "response": "refund"},
            {"messages": asked, "response": "order"},
            {"messages": [user(" ".join(near))], "response": "refund"},
        ]
        source |= {first: k, " ".join(near): k}
    task = ChatTask(write(tmp_path / "a.jsonl", rows))
    splits: dict[int, set[str]] = {}
    for split, items in every(task).items():
        for item in items:
            asked_first = history_of(item.question)[0]["content"]
            splits.setdefault(source[asked_first], set()).add(split)
    assert len(splits) == 200
    # A word of twenty changes three triples of eighteen: MinHash misses a few of such pairs.
    assert sum(len(found) > 1 for found in splits.values()) <= 10
    firsts = {row["messages"][0]["content"] for row in rows[::3]}
    for items in every(task).values():
        histories = [history_of(item.question) for item in items]
        of_first = {one[0]["content"] for one in histories if len(one) == 1}
        of_second = {one[0]["content"] for one in histories if len(one) > 1}
        assert of_first & firsts == of_second, "a conversation is divided"


def test_sessions_and_equal_questions_are_groups_and_common_beginnings_are_none() -> None:
    alike = Alike()
    for k in range(100):
        alike.add(f"question {text(random.Random(k))}", (7,))  # all begin with one phrase
    first, second = alike.add("An apple!", (1,)), alike.add("a pear", (1,))
    third, fourth = alike.add("an  apple"), alike.add("a plum")
    groups = alike.groups()
    assert groups[first] == groups[second] == groups[third] != groups[fourth]
    assert len(np.unique(groups[:100])) == 100
    keys = alike.keys()
    assert keys[first] == keys[third] != keys[fourth]


def test_a_template_that_all_share_makes_no_duplicates() -> None:
    alike = Alike()
    told = "Read the following review of a customer with care and say whether it is good: "
    for k in range(300):
        alike.add(told + text(random.Random(k)))
    assert len(np.unique(alike.groups())) == 300


def test_numbers_tell_questions_apart() -> None:
    alike = Alike()
    for k in (17, 18):
        alike.add(f"{text(random.Random(3), 40)} how much is {k} times two")
    assert len(np.unique(alike.groups())) == 2


def test_the_split_does_not_depend_on_the_order_of_the_file(tmp_path: Path) -> None:
    rows = chats(150)
    one = every(ChatTask(write(tmp_path / "a.jsonl", rows)))
    random.Random(2).shuffle(rows)
    other = every(ChatTask(write(tmp_path / "b.jsonl", rows)))
    for split in SPLITS:
        assert {item.id for item in one[split]} == {item.id for item in other[split]}


def test_a_teacher_is_asked_as_logged_or_with_examples(tmp_path: Path) -> None:
    task = ChatTask(write(tmp_path / "a.jsonl", chats(100)))
    item = next(one for one in task.items("test", 200) if one.slice == "second turn")
    logged = task.messages(item, "zero_shot")
    assert [one["role"] for one in logged] == ["system", "user", "assistant", "user"]
    assert logged[0]["content"] == SYSTEM
    shown = task.messages(item)
    assert shown[0] == logged[0] and shown[-3:] == logged[1:] and len(shown) == 4 + 2 * 4


def test_a_letter_is_asked_for_behind_the_history(tmp_path: Path) -> None:
    rows = chats(100)
    for k, row in enumerate(rows):
        row["messages"][-1]["content"] = f"label {k % 5}"
    task = ChatTask(write(tmp_path / "a.jsonl", rows))
    item = next(one for one in task.items("test", 200) if one.choices)
    asked = task.choice_messages(item)
    assert asked[:-1] == task.messages(item, "zero_shot")[:-1]
    assert asked[-1]["content"].endswith("Answer with one letter.")
    assert f") {item.answer}" in asked[-1]["content"]


def test_another_system_prompt_stays_in_its_history(tmp_path: Path) -> None:
    rows = [*chats(80), *chats(10, system="Something else.")[5:]]
    for k, row in enumerate(rows[80:]):
        row["messages"][1]["content"] += f" other {k}"
    task = ChatTask(write(tmp_path / "a.jsonl", rows))
    own = [
        item
        for some in every(task).values()
        for item in some
        if history_of(item.question)[0]["role"] == "system"
    ]
    assert own and all(
        task.messages(item, "zero_shot")[0]["content"] == "Something else." for item in own
    )
    assert OtherSystems(task.path, 5, 85) in task.complaints


@pytest.mark.parametrize(
    ("answers", "metric"),
    [
        (["yes", "no", "maybe"], "exact"),
        (['{"a": 1}', '```json\n{"a": 2}\n```'], "exact"),
        ([f"summary number {k} of it" for k in range(60)], "f1"),
        ([f"2020-01-{k}" for k in range(60)], "exact"),
        (["A sentence of many words that nobody would ever call a label.", "yes"], "f1"),
    ],
)
def test_the_metric_fits_the_answers(answers: list[str], metric: str, tmp_path: Path) -> None:
    rows = [
        {"prompt": text(random.Random(k)), "completion": answers[k % len(answers)]}
        for k in range(60)
    ]
    assert ChatTask(write(tmp_path / "a.jsonl", rows)).metric_name == metric


def test_answers_are_compared_whole(tmp_path: Path) -> None:
    rows = [
        {"prompt": text(random.Random(k)), "completion": f"{text(random.Random(-k), 9)}\n\nBye."}
        for k in range(60)
    ]
    task = ChatTask(write(tmp_path / "a.jsonl", rows))
    [item] = task.items("test", 1)
    assert task.score(item.answer, item).exact == 1
    assert task.score(f"<think>so</think>\n{item.answer}", item).exact == 1
    assert task.score("Bye.", item).exact == 0 < task.score("Bye.", item).f1
    assert not task.score("  ", item).parsed
    exact = ChatTask(write(tmp_path / "b.jsonl", chats(60)))
    [item] = exact.items("test", 1)
    assert exact.score(f"Answer: {item.answer.upper()}", item).exact == 1
    assert exact.score("neither", item).exact == 0
    for before in ("other\nthird\n", "Not this:\n\n", "I think\nAnswer: "):
        assert exact.score(f"{before}{item.answer}", item).exact == 0


def test_two_answers_to_one_request_are_said_and_the_rest_is_used(tmp_path: Path) -> None:
    rows = chats(60, turns=[1])
    rows.append({"messages": [*rows[4]["messages"][:-1], said("something else")]})
    path = write(tmp_path / "a.jsonl", rows)
    with pytest.raises(ValueError, match="line 5 and line 61: one question with 2 different"):
        ChatTask(path)
    task = ChatTask(path, on_error="skip")
    assert task.left_out["broken line"] == 2
    assert sum(map(len, every(task).values())) == 59


def test_a_file_of_no_format_says_what_to_type(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", [{"a": 1, "b": 2}] * 3)
    with pytest.raises(ValueError) as error:
        ChatTask(path)
    assert "has no format that is known; it has a, b" in str(error.value)
    assert "task.messages_key=… task.answer_key=…" in str(error.value)
    with pytest.raises(ValueError, match="lacks the field turns"):
        ChatTask(path, messages_key="turns")


def test_a_workload_is_read_alone(tmp_path: Path) -> None:
    from stratos.contrib.logs.conversation import Conversation
    from stratos.contrib.logs.turn_rows import Seen, read_conversations, workload_of

    other = chats(60, system="Translate the text that the user sends into French, and say no more.")
    path = write(tmp_path / "a.jsonl", [*chats(40), *other])
    ids = [
        workload_of(found).id
        for _, found in read_conversations(path, Seen())
        if isinstance(found, Conversation)
    ]
    assert len(set(ids)) == 2
    task = ChatTask(path, workload=ids[-1], on_error="skip")
    assert task.system_prompt.startswith("Translate")
    assert task.left_out == {}
    assert str(OtherWorkloads(path, ids[-1], 40)) in task.notes
    task = ChatTask(path, workload=ids[0], on_error="skip")
    assert task.system_prompt == SYSTEM
    with pytest.raises(ValueError, match=r"task.workload=w0: none of 100 .*stratos logs"):
        ChatTask(path, workload="w0")


def test_replies_of_the_model_that_repeat_are_no_leaks(tmp_path: Path) -> None:
    from stratos.tasks.dedup.copies import HeldOut

    canned = (
        "Please open the settings, choose security, and press the button to reset your password."
    )
    rows = []
    for row in chats(200, turns=[3]):
        for one in row["messages"]:
            if one["role"] == "assistant":
                one["content"] = canned
        row["messages"][3]["content"] += " thanks"
        rows.append(row)
    task = ChatTask(write(tmp_path / "a.jsonl", rows))
    held = HeldOut(task.held_out(), task.items("train", 1000), task.own_words)
    train = task.items("train", 1000)
    assert not [item for item in train if held.leak(item, item.answer)]
    [item] = task.items("test", 1)
    assert held.leak(item) is not None


def test_text_that_tries_to_be_more_stays_text(tmp_path: Path) -> None:
    odd = 'x \x1b[31mred\x1b[0m {{ 7*7 }} <script>alert(1)</script> [{"role":"system"'
    rows = [*chats(60), {"messages": [user(odd), said("refund")]}]
    task = ChatTask(write(tmp_path / "a.jsonl", rows))
    found = [item for some in every(task).values() for item in some if "7*7" in item.question]
    assert [history_of(item.question)[-1]["content"] for item in found] == [odd]


def test_a_chat_of_a_student_is_the_item_that_it_asks(tmp_path: Path) -> None:
    task = ChatTask(write(tmp_path / "a.jsonl", chats(60, turns=[2])))
    for item in task.items("validation", 4):
        found = task.item_of_chat(task.student_messages(item))
        assert found is not None and found.question == item.question and not found.answer
        # A teacher is asked by it as by the item itself.
        for prompt in task.prompts:
            assert task.messages(found, prompt)[-1] == task.messages(item, prompt)[-1]
        assert task.refute(item, " \n") == Unreadable() and task.refute(item, "yes") is None
