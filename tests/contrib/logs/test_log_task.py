"""Logs as a task: split by time, doubtful answers found."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from log_rows import EXTRACT, SORT, WORDS, extractions, labels, row, write

from stratos.contrib.logs.chat_task import ChatTask
from stratos.contrib.logs.log_task import LogTask
from stratos.contrib.logs.words import (
    AnswersNotUsed,
    CallsNotLearnt,
    DatedSystems,
    Doubt,
    LaterRowsRepeat,
    OtherWorkloads,
    SecretsReplaced,
)
from stratos.tasks.base import Item, Split
from stratos.tasks.doubts import REPEAT


def every_item(task: LogTask) -> list[Item]:
    splits: tuple[Split, ...] = ("train", "validation", "test")
    return [item for split in splits for item in task.items(split, 999)]


def times(task: LogTask) -> dict[str, list[float]]:
    return {
        split: [one.provenance.time_s for one in rows if one.provenance]
        for split, rows in task.splits.rows.items()
    }


def test_every_row_of_a_log_is_in_one_count(tmp_path: Path) -> None:
    rows = extractions(200)
    later = [{**one, "created": one["created"] + 10**6} for one in rows[:30]]
    contradicting = [{**one, "response": "No."} for one in rows[:4]]
    task = LogTask(write(tmp_path / "a.jsonl", [*rows, *later, *later[:7], *contradicting]))
    used = sum(map(len, task.splits.rows.values()))
    assert used + sum(task.left_out.values()) == 241
    assert task.left_out[REPEAT] == 37
    assert any(f"{REPEAT}: 37" in note for note in task.notes)


def test_prompts_that_differ_in_a_date_are_one(tmp_path: Path) -> None:
    rows = extractions(120)
    for k, one in enumerate(rows):
        first = one["messages"][0]
        one["messages"][0] = {**first, "content": f"{first['content']} Today is 2026-09-{k % 28}."}
    path = write(tmp_path / "a.jsonl", rows)
    assert DatedSystems(path, 120, 120) in LogTask(path).complaints
    task = LogTask(path, instruction="Extract the order.")
    assert not any(isinstance(one, DatedSystems) for one in task.complaints)
    item = task.items("test", 1)[0]
    assert [one["role"] for one in task.student_messages(item)] == ["user"]
    assert task.messages(item, "zero_shot")[0]["content"] == "Extract the order."


def test_what_is_counted_is_of_the_workload(tmp_path: Path) -> None:
    calls = [{"id": "1", "function": {"name": "f", "arguments": "{}"}}]
    other = [
        {
            "created": 1_760_000_000 + k,
            "request": {"messages": [
                {"role": "system", "content": "You call the tools of the office for whoever asks "
                 "you, and you say nothing else at all."},
                {"role": "user", "content": f"sk-{'a1B2' * 8} {k}"}]},
            "response": {"choices": [{"finish_reason": "stop", "message":
                {"role": "assistant", "content": None, "tool_calls": calls}}]},
        }
        for k in range(30)
    ]  # fmt: skip
    path = write(tmp_path / "a.jsonl", [*extractions(120), *other])
    workload = LogTask(path).splits.rows["train"][0].provenance
    assert workload is not None
    task = LogTask(path, workload=workload.workload)
    assert not any(isinstance(one, CallsNotLearnt) for one in task.complaints)
    assert task.left_out == {}
    assert str(OtherWorkloads(path, workload.workload, 30)) in task.notes
    assert CallsNotLearnt(path, 30) in LogTask(path).complaints
    assert str(SecretsReplaced(30)) in LogTask(path).notes
    assert str(SecretsReplaced(30)) not in task.notes


def test_what_is_trained_on_came_before_what_is_tested(tmp_path: Path) -> None:
    rows = extractions(200)
    random.Random(3).shuffle(rows)
    task = LogTask(write(tmp_path / "a.jsonl", rows))
    found = times(task)
    assert {split: len(one) for split, one in found.items()} == {
        "train": 120,
        "validation": 30,
        "test": 50,
    }
    assert max(found["train"]) < min(found["validation"]) <= max(found["validation"])
    assert max(found["validation"]) < min(found["test"])
    assert "(2025-10-09 08:53 to 2025-10-14 07:53)" in task.notes[1]


def test_what_repeats_an_earlier_row_is_in_no_later_split(tmp_path: Path) -> None:
    rows = extractions(200)
    for k in range(180, 190):  # nearly the same as in training, with the same numbers
        early = rows[k - 170]
        asked = early["messages"][1]["content"].replace("is late", "comes late")
        rows[k] = row(EXTRACT, asked, early["response"], k)
    task = LogTask(write(tmp_path / "a.jsonl", rows))
    n = task.left_out["near duplicate of an earlier row, or of its session"]
    assert 8 <= n <= 10  # MinHash misses one now and then
    assert task.n_test == 50 - n


SPOILT: dict[Doubt, Callable[[dict[str, Any]], str]] = {
    Doubt.NO_JSON: lambda said: json.dumps(said)[:-1],
    Doubt.FIELDS: lambda said: json.dumps({"item": said["product"], "order": said["order"]}),
    Doubt.TYPES: lambda said: json.dumps({**said, "order": str(said["order"])}),
    Doubt.NOT_SAID: lambda said: json.dumps({**said, "order": said["order"] + 1}),
    Doubt.REFUSED: lambda said: "I'm sorry, but I can't help with that.",
    Doubt.LOOPS: lambda said: "the order of the mug is " * 30,
}


@pytest.mark.parametrize("why", SPOILT, ids=lambda doubt: doubt.name)
def test_a_doubtful_answer_is_found_and_no_other(why: Doubt, tmp_path: Path) -> None:
    rows = extractions(400)
    spoilt = random.Random(5).sample(range(400), 6)
    for k in spoilt:
        rows[k]["response"] = SPOILT[why](json.loads(rows[k]["response"]))
    task = LogTask(write(tmp_path / "a.jsonl", rows))
    assert {one.line: reason for reason, one in task.doubtful} == {
        f"line {k + 1}": why for k in spoilt
    }
    assert task.complaints[0] == AnswersNotUsed(task.path, {why: 6})
    trusted = LogTask(write(tmp_path / "a.jsonl", rows), answers="trust")
    assert not trusted.doubtful and trusted.n_train + trusted.n_test == 240 + 100


def test_a_label_that_hardly_any_other_is_is_doubtful(tmp_path: Path) -> None:
    rows = labels(300)
    rows[7]["response"] = "postive"
    rows[9]["response"] = "The review is positive, since the customer says so twice in it."
    task = LogTask(write(tmp_path / "a.jsonl", rows))
    assert {(why, one.line) for why, one in task.doubtful} == {
        (Doubt.RARE, "line 8"),
        (Doubt.RARE, "line 10"),
    }


def test_workloads_of_one_file_are_checked_apart(tmp_path: Path) -> None:
    task = LogTask(write(tmp_path / "a.jsonl", [*extractions(100), *labels(100)]))
    assert not task.doubtful


def test_texts_that_differ_are_not_doubtful(tmp_path: Path) -> None:
    rng = random.Random(0)
    rows = [
        row(
            EXTRACT,
            " ".join(rng.choices(WORDS, k=9)),
            " ".join(rng.choices(WORDS, k=k % 40 + 1)),
            k,
        )
        for k in range(300)
    ]
    assert not LogTask(write(tmp_path / "a.jsonl", rows)).doubtful


def test_apologies_tables_rules_and_indents_are_not_doubtful(tmp_path: Path) -> None:
    rng = random.Random(0)
    forms = [
        "I'm sorry, but your parcel {} is late; it comes on Monday.",
        "Report {}\n" + "-" * 40 + "\nAll is well.",
        "| a | b | c | d | e |\n" + "|----------" * 5 + "|\n| {} | n/a | n/a | n/a | n/a |",
        "def f{}():\n" + " " * 40 + "return 1",
        "Fine {}. Unfortunately I am unable to say when it comes: ask the carrier.",
    ]
    rows = [
        row("You answer the messages of customers of a shop in full.",
            " ".join(rng.choices(WORDS, k=12)), forms[0 if k % 9 == 0 else 1 + k % 4].format(k), k)
        for k in range(200)
    ]  # fmt: skip
    assert LogTask(write(tmp_path / "a.jsonl", rows)).left_out == {}
    broken = ("I’m sorry, but I can’t help with that.", "As an AI, I have no order.",
              "I am unable to comply with it.", "Sure. " + "and so on, " * 60)  # fmt: skip
    for k, said in enumerate(broken):
        rows[k]["response"] = said
    found = [why for why, _ in LogTask(write(tmp_path / "b.jsonl", rows)).doubtful]
    assert Counter(found) == {Doubt.REFUSED: 3, Doubt.LOOPS: 1}


def test_the_answer_that_most_have_to_one_request_is_taken(tmp_path: Path) -> None:
    rows = labels(100)
    asked = rows[0]["messages"][1]["content"]
    for hour, said in ((1.5, "positive"), (1.6, "Positive"), (1.7, "negative")):
        rows.append(row(SORT, asked, said, hour))
    rows[0]["response"] = "positive"
    tied = rows[2]["messages"][1]["content"]
    rows[2]["response"] = "positive"
    rows.append(row(SORT, tied, "negative", 1.8))
    task = LogTask(write(tmp_path / "a.jsonl", rows))
    assert Counter(why for why, _ in task.doubtful) == {Doubt.CONTRADICTED: 3}
    every = every_item(task)
    assert [one.answer for one in every if one.question == asked] == ["Positive"]
    assert not [one for one in every if one.question == tied]
    trusted = LogTask(write(tmp_path / "b.jsonl", rows), answers="trust")
    assert len([one for one in every_item(trusted) if one.question == tied]) == 1


def test_doubtful_answers_of_the_time_of_training_go_to_a_teacher(tmp_path: Path) -> None:
    rows = extractions(400)
    for k in (10, 20, 390):
        rows[k]["response"] = rows[k]["response"][:-1]
    task = LogTask(write(tmp_path / "a.jsonl", rows), answers="relabel")
    items = task.unlabelled(10)
    asked = {rows[k]["messages"][1]["content"] for k in (10, 20)}
    assert {one.question for one in items} == asked and {one.answer for one in items} == {""}
    made = task.labelled(items[0], '{"product": "mug", "order": 1}')
    assert made is not None and made.answer == '{"product": "mug", "order": 1}'
    assert task.as_row(made, made.answer)["messages"][-1]["content"] == made.answer


def test_rows_without_times_are_refused_or_counted(tmp_path: Path) -> None:
    rows = extractions(100)
    del rows[3]["created"]
    assert LogTask(write(tmp_path / "a.jsonl", rows)).left_out["row without a time"] == 1
    for one in rows[10:]:
        del one["created"]
    with pytest.raises(ValueError, match=r"91 of 100 rows have no time.*Type \+task=chat"):
        LogTask(write(tmp_path / "b.jsonl", rows))


@pytest.mark.parametrize("time", [float("inf"), 1e300, 10**400, -5, True, "yesterday", [1]])
def test_what_is_no_time_is_none(time: Any, tmp_path: Path) -> None:
    rows = extractions(100)
    rows[3]["created"] = time
    task = LogTask(write(tmp_path / "a.jsonl", rows))
    assert task.left_out["row without a time"] == 1 and "(2025-" in task.notes[1]


def test_half_characters_and_controls_are_text_like_any_other(tmp_path: Path) -> None:
    rows = labels(100)
    for k, text in ((3, "half \ud83d of one"), (4, "a nul \0, a bell \7, an escape \x1b[2J")):
        rows[k]["messages"][1]["content"] = text
    rows[5] |= {"model": "m\ud800", "response": "positive \udfff"}
    task = LogTask(write(tmp_path / "a.jsonl", rows))
    asked = {one.question for one in every_item(task)}
    assert "half ? of one" in asked and {one.line for _, one in task.doubtful} == {"line 6"}


def test_answers_that_do_not_match_a_schema_are_doubtful_and_the_others_scored_by_it(
    tmp_path: Path,
) -> None:
    fields = {"product": {"enum": ["mug", "lamp", "chair"]}, "order": {"type": "integer"}}
    schema = tmp_path / "schema.json"
    schema.write_text(
        json.dumps({"type": "object", "properties": fields, "required": ["product", "order"]})
    )
    rows = extractions(100)
    for k in (5, 6, 7):  # one of them is in the message, but not what the schema lists
        rows[k]["response"] = rows[k]["response"].replace('"product": "', '"product": "x')
    rows[5]["messages"][1]["content"] += " xmug xlamp xchair"
    path = write(tmp_path / "a.jsonl", rows)
    task = LogTask(path, schema=str(schema))
    assert {one.line for _, one in task.doubtful} == {"line 6", "line 7", "line 8"}
    assert (Doubt.NO_MATCH, "line 6") in {(why, one.line) for why, one in task.doubtful}
    assert task.metric_name == "exact"
    [item] = task.items("test", 1)
    assert task.score(f"```json\n{item.answer}\n```", item).exact == 1
    assert task.answer_schema(item) is not None
    assert set(task.field_scores(item, item.answer).values()) == {1.0}
    with pytest.raises(ValueError, match="broken line"):
        LogTask(path, schema=str(schema), answers="trust")


def test_a_page_shows_the_doubtful_answers(tmp_path: Path) -> None:
    from stratos.contrib.logs.command import write_page

    rows = extractions(100)
    rows[5]["response"] = "<script>alert(1)</script>\x1b[31m"
    task = LogTask(write(tmp_path / "a.jsonl", rows))
    assert write_page(task, tmp_path / "page.html") == 1
    text = (tmp_path / "page.html").read_text()
    assert "1: no JSON object" in text and "<td><pre>line 6</pre></td>" in text
    assert "&lt;script&gt;" in text and "<script>" not in text and "\x1b" not in text


def test_rows_of_long_sessions_are_in_no_later_split_and_that_is_said(tmp_path: Path) -> None:
    rows = [{**one, "session_id": k % 10} for k, one in enumerate(extractions(400))]
    path = write(tmp_path / "a.jsonl", rows)
    task = LogTask(path)
    assert (task.n_train, task.n_test) == (240, 0)
    assert "160 later rows are left out" in task.notes[1]
    assert task.refusals() == [LaterRowsRepeat(path, 160, 400)]
    chat = ChatTask(path)
    families = {
        split: {item.family for item in chat.items(split, 400)}
        for split in ("train", "validation", "test")
    }
    assert sum(map(len, families.values())) == len(set().union(*families.values())) == 10


def test_rows_that_differ_in_numbers_alone_are_counted(tmp_path: Path) -> None:
    rows = extractions(200)
    for k in range(150, 200):
        asked = rows[k - 140]["messages"][1]["content"].rpartition("order")[0]
        said = json.dumps({**json.loads(rows[k - 140]["response"]), "order": 10**7 + k})
        rows[k] = row(EXTRACT, f"{asked}order {10**7 + k} is late", said, k)
    task = LogTask(write(tmp_path / "a.jsonl", rows))
    assert task.n_test == 50
    told = "50 of 50 test rows differ from a training row"
    assert told in task.notes[1] and "No later row was found" in task.notes[1]
