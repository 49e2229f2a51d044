"""A student that calls tools: it copies values, leaves out what nobody names, and is served."""

from __future__ import annotations

import json
import time
import tracemalloc
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from agent_traces import SYSTEM, TOOLS, call, lines, result, user
from hydra.types import RunMode
from starlette.testclient import TestClient

from stratos.cli.build import build
from stratos.cli.compose import hydra_for
from stratos.contrib.tools.call_learner import (
    CallerLearner,
    States,
    conversations_of,
    folds_of,
    learn,
    year_in,
)
from stratos.contrib.tools.call_student import Caller, state_of
from stratos.contrib.tools.call_texts import Neighbours, filled, template_of
from stratos.contrib.tools.call_values import offered
from stratos.contrib.tools.calls import Call, calls_of, written
from stratos.contrib.tools.grounding import foreign_facts, stated_in
from stratos.contrib.tools.signatures import question_of, tools_of
from stratos.contrib.tools.tools_task import ToolsTask
from stratos.core.errors import ForeignFileError
from stratos.deploy.engines.predictor_server import application
from stratos.models.kinds import load_predictor
from stratos.models.kinds.base import FILE
from stratos.models.kinds.student_kinds import KINDS
from stratos.tasks.base import Item, Task
from stratos.tasks.classify import ClassifyTask

N = 100


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> str:
    file = tmp_path_factory.mktemp("traces") / "traces.jsonl"
    file.write_text(lines("openai", N))
    return str(file)


@pytest.fixture(scope="module")
def task(path: str) -> ToolsTask:
    return ToolsTask(path, compares_words=False)


def fitted(items: list[Item]) -> Caller:
    answers = [item.answer for item in items]
    year = year_in(answers)
    return learn([state_of(item.question, year) for item in items], answers, year)


@pytest.fixture(scope="module")
def student(task: ToolsTask) -> Caller:
    return fitted(task.items("train", 9999))


def right(task: Task, items: list[Item], answers: list[str]) -> float:
    scores = [task.score(text, item).exact for text, item in zip(answers, items, strict=True)]
    return sum(scores) / len(scores)


def test_calls_of_other_conversations_are_right_with_values_that_no_row_has(
    task: ToolsTask, student: Caller
) -> None:
    items = [item for item in task.items("test", 9999) if item.slice != "text"]
    assert len(items) > 40
    given = [prediction.text for prediction in student.predict([i.question for i in items])]
    assert right(task, items, given) > 0.9
    assert right(task, items, task.lookup(task.items("train", 9999), items)) < 0.3
    learnt = " ".join(item.answer for item in task.items("train", 9999))
    codes = [c.arguments["code"] for text in given for c in calls_of(text) if "code" in c.arguments]
    assert codes and not any(code in learnt for code in codes)


def test_texts_have_the_values_of_their_own_conversation(task: ToolsTask, student: Caller) -> None:
    items = [item for item in task.items("test", 9999) if "reserved, the code" in item.answer]
    given = [prediction.text for prediction in student.predict([i.question for i in items])]
    codes = [item.answer.rpartition(" ")[2] for item in items]
    same = [code in text for code, text in zip(codes, given, strict=True)]
    assert len(items) > 10 and sum(same) > 0.9 * len(same)


def test_its_probability_and_accuracy_are_those_of_conversations_that_it_has_not_seen(
    task: ToolsTask,
) -> None:
    items = task.items("train", 9999)
    texts, answers = (tuple(getattr(i, name) for i in items) for name in ("question", "answer"))
    fit = CallerLearner().fit(texts, answers, task)
    test = task.items("test", 9999)
    given = fit.student.predict([item.question for item in test])
    share = right(task, test, [prediction.text for prediction in given])
    assert fit.accuracy.low - 0.05 < share < fit.accuracy.high + 0.05
    assert sum(p.probability for p in given) / len(given) == pytest.approx(share, abs=0.1)
    of_calls = [p.probability for p in given if p.text[:1] == "["]
    assert sum(of_calls) / len(of_calls) > 0.8


def test_the_training_takes_what_the_probe_has_fitted(task: ToolsTask) -> None:
    items = task.items("train", 60)
    rows = tuple(item.question for item in items), tuple(item.answer for item in items)
    first = CallerLearner().fit(*rows, task)
    assert CallerLearner().fit(*map(tuple, map(list, rows)), replace(task)) is first
    assert CallerLearner().fit(*rows, task, seed=1) is not first


def test_a_folder_gives_the_same_answers_and_one_that_is_damaged_none(
    task: ToolsTask, student: Caller, tmp_path: Path
) -> None:
    student.save(tmp_path)
    questions = [item.question for item in task.items("test", 30)]
    loaded = load_predictor(tmp_path)
    given, before = loaded.predict(questions), student.predict(questions)
    assert [p.text for p in given] == [p.text for p in before]
    expected = [p.probability for p in before]
    assert [p.probability for p in given] == pytest.approx(expected, abs=1e-4)
    assert not list(tmp_path.glob("*.pkl"))
    described = json.loads((tmp_path / FILE).read_text())
    described["features"]["values"].pop()
    (tmp_path / FILE).write_text(json.dumps(described))
    with pytest.raises(ForeignFileError):
        load_predictor(tmp_path)


def test_it_is_served_with_the_calls_of_the_api(student: Caller) -> None:
    client = TestClient(application(student, "agent", 4))

    def answer(messages: list[dict[str, Any]], tools: list[Any]) -> Any:
        body = {"model": "agent", "messages": messages, "tools": tools, "logprobs": True}
        return client.post("/v1/chat/completions", json=body)

    messages = [{"role": "system", "content": SYSTEM}, user("Find me somewhere vegan to eat, Cork")]
    choice = answer(messages, TOOLS).json()["choices"][0]
    assert choice["finish_reason"] == "tool_calls" and choice["message"]["content"] is None
    [made] = choice["message"]["tool_calls"]
    assert made["function"]["name"] == "find_restaurant"
    arguments = json.loads(made["function"]["arguments"])
    assert arguments == {"city": "Cork", "cuisine": "vegan"}
    messages += [call(1, "find_restaurant", **arguments),
                 result(1, names=["The Quay", "Iris"], rating=4.1)]  # fmt: skip
    choice = answer(messages, TOOLS).json()["choices"][0]
    assert choice["finish_reason"] == "stop" and "tool_calls" not in choice["message"]
    assert "reserve" in choice["message"]["content"]
    wrong = answer(messages, [{"type": "function", "function": {"description": "no name"}}])
    assert wrong.status_code == 400 and "name" in wrong.json()["error"]["message"]
    without = answer(messages, [])
    assert without.status_code == 400 and "tools" in without.json()["error"]["message"]


def test_single_requests_are_answered_with_as_many_calls_as_they_need() -> None:
    weather = tools_of(
        [
            {
                "name": "weather",
                "parameters": {
                    "type": "object",
                    "required": ["city"],
                    "properties": {"city": {"type": "string"}},
                },
            }
        ]
    )
    cities = [
        f"{a}{b}" for a in ("Ro", "Pa", "Lis", "Be", "To", "Mi") for b in ("me", "ris", "bon")
    ]

    def item(request: str, *named: str) -> Item:
        question = question_of(weather, [user(request)])
        answer = json.dumps([{"name": "weather", "arguments": {"city": city}} for city in named])
        return Item(request, "simple", question, answer)

    rows = [item(f"How warm is it in {city}?", city) for city in cities]
    rows += [item(f"Compare the weather in {a} and {b}", a, b)
             for a, b in pairwise(cities)]  # fmt: skip
    rows += [item(f"Sing me the song number {k}") for k in range(20)]
    student = fitted(rows)
    test = [item("How warm is it in Graz?", "Graz"), item("Sing me the song number 77"),
            item("Compare the weather in Graz and Oslo", "Graz", "Oslo")]  # fmt: skip
    given = [p.text for p in student.predict([each.question for each in test])]
    assert [calls_of(text) for text in given] == [calls_of(each.answer) for each in test]


@pytest.mark.parametrize(
    ("said", "value"),
    [
        ("at half past seven in the evening", "19:30"),
        ("at 7:15 pm", "19:15"),
        ("on the 3rd of May", "2026-05-03"),
        ("on May 3, 2027", "2027-05-03"),
        ("for two people", 2),
        ("code #W77-1,", "#W77-1"),
    ],
)
def test_values_that_are_said_in_other_forms_are_candidates(said: str, value: Any) -> None:
    assert (
        json.dumps(value)
        in offered([{"role": "user", "content": f"Book it {said}"}], "2026").values
    )


def test_results_are_read_as_json_and_as_lines() -> None:
    def values(text: str) -> dict[str, list[str]]:
        messages = [user("go"), {"role": "assistant", "content": "", "tool_calls": [
            {"name": "list", "arguments": {}}]}, {"role": "tool", "content": text}]  # fmt: skip
        return {key: found.origins for key, found in offered(messages, "2026").values.items()}

    assert values('{"rows": [{"id": "a7"}]}')['"a7"'] == ["r=list.rows.id"]
    cut = values('{"rows": [{"id": "a7"}, {"id": "b8"}, {"na…')
    assert cut['"b8"'] == ["r=list.id"]
    assert '"pod-1"' in values("NAME STATUS\npod-1 Running")


def test_it_is_a_feature_whether_a_number_of_a_result_is_zero() -> None:
    def features(fines: float) -> set[str]:
        called = {
            "role": "assistant",
            "content": "",
            "tool_calls": [{"name": "fines", "arguments": {}}],
        }
        messages = [user("Any fines?"), called, result(0, due=fines)]
        names = state_of(question_of(tools_of(TOOLS), messages), "2026").features
        return {name for name in names if name.startswith("zero:")}

    assert features(0) == features(0.0) != features(3.5) == features(7)


def test_a_value_is_known_by_what_stands_beside_it_and_by_its_place() -> None:
    found = json.dumps([{"id": "d1", "name": "Dr. Sato"}, {"id": "d2", "name": "Dr. Weber"}])
    messages = [user("go"), {"role": "assistant", "content": "", "tool_calls": [
        {"name": "list", "arguments": {}}]}, {"role": "tool", "content": found}]  # fmt: skip

    def marks(request: str) -> list[set[str]]:
        values = offered([*messages, user(request)], "2026").values
        return [values[f'"{id}"'].features & {"ref=best", "nth=yes"} for id in ("d1", "d2")]

    assert marks("with Weber please") == [set(), {"ref=best"}]
    assert marks("the first one") == [{"nth=yes"}, set()]


def test_a_text_states_nothing_of_another_conversation() -> None:
    dated = [["renew"], template_of("Done. It is due on 4 May.", offered([], "2026"))]
    titled = [
        (["renew", "due"], template_of(f"Done. {title} is due soon.", offered([], "2026")))
        for title in ("The Zora", "The Last Island", "The Quay")
    ]
    wording = [(["renew"], template_of("Shall I renew it?", offered([], "2026")))]
    texts = Neighbours.of({"": [tuple(dated), *titled, *wording]})
    assert texts.templates[""] == [["Shall I renew it?"]]
    assert len(Neighbours.of({"": titled}).templates[""]) == 3, "nothing else is there"


@pytest.mark.parametrize("separators", [(", ", ": "), (",", ":")])
def test_a_fact_is_foreign_if_neither_a_text_nor_a_value_of_json_states_it(
    separators: tuple[str, str],
) -> None:
    result = {"hire": "H-52239", "ends": "2027-03-05", "place": "Bar\nOslo", "price": 12.5}
    content = json.dumps(result, separators=separators)
    stated = stated_in([user("For Ms Weber"), {"role": "tool", "content": content}])
    known = "It is H-52239 in Oslo until 2027-03-05 for Weber, at 12.50 or 12.5."
    assert foreign_facts(known, stated) == 0
    assert foreign_facts("It is H-52240 in Rome until 2027-03-06.", stated) == 3


@pytest.mark.parametrize(
    ("text", "value", "n"),
    [
        ("Due on March 5.", "2026-03-05", 0),
        ("Due on the 5th of March.", "2026-03-05", 0),
        ("Due on March 6.", "2026-03-05", 1),
        ("It leaves at 3:30pm.", "15:30", 0),
        ("It leaves at 3:30am.", "15:30", 1),
        ("It costs €1.200,00 or 4,50.", [1200, 4.5], 0),
        ("It costs 1,200 in all, 5%.", [1200, 5], 0),
        ("It costs 30.50.", [30, 50], 1),
    ],
)
def test_a_fact_in_another_form_is_stated_and_parts_of_a_number_state_none(
    text: str, value: Any, n: int
) -> None:
    content = json.dumps({"value": value})
    assert foreign_facts(text, stated_in([{"role": "tool", "content": content}])) == n


def test_of_texts_that_are_as_near_the_one_that_states_nothing_foreign_is_taken() -> None:
    values = offered([user("go"), {"role": "tool", "content": "{}"}], "2026")
    texts = [(["due"], [f"You owe {n} euros."]) for n in (5, 5, 5, 9, 9, 9)]
    near = Neighbours.of({"": texts})
    assert near.text("", ["due"], values, {"9"})[0] == "You owe 9 euros."
    assert near.text("", ["due"], values, {"5"})[0] == "You owe 5 euros."


def test_a_value_has_a_form_of_the_rows_where_these_have_few() -> None:
    codes = [f"AB{k} {k}CD" for k in range(30)]
    tool = {"name": "move", "parameters": {
        "type": "object", "properties": {"code": {"type": "string"}},
        "required": ["code"]}}  # fmt: skip

    def asked(text: str) -> Any:
        return state_of(question_of(tools_of([tool]), [user(text)]), "2026")

    answers = [written([Call("move", {"code": code})]) for code in codes]
    rows = [*map(asked, [f"Please move it to {code}" for code in codes])]
    texts = [asked(f"Please move it, said {name}") for name in ("Ann", "Bob", "Cem") * 9]
    student = learn([*rows, *texts], [*answers, *["Where to?"] * len(texts)], "2026")
    assert student.arguments["move"]["code"].forms == {"a9 9a"}
    assert student.answer(asked("Please move it to AB7000000 1XY"))[0] == written(
        [Call("move", {"code": "AB7000000 1XY"})]
    )
    assert student.answer(asked("Please move it to Rome by Ann"))[0] == "Where to?"


def test_a_text_names_each_value_of_a_list_once() -> None:
    def listed(*ids: str) -> Any:
        return offered([user("go"), {"role": "assistant", "content": "", "tool_calls": [
            {"name": "list", "arguments": {}}]},
            {"role": "tool", "content": json.dumps({"ids": ids})}], "2026")  # fmt: skip

    template = template_of("Is it #A1 or #B2?", listed("#A1", "#B2"))
    assert filled(template, listed("#C3", "#D4")) == ("Is it #C3 or #D4?", 0)
    assert filled(template, listed("#C3")) == ("Is it #C3 or #C3?", 1)
    assert filled(template, listed("#C3", "#D4", "#E5")) == ("Is it #C3 or #D4?", 1)
    twice = template_of("#A1? Is it #A1?", listed("#A1", "#B2"))
    assert filled(twice, listed("#C3", "#D4")) == ("#C3? Is it #C3?", 0)
    assert filled(template, offered([user("go")], "2026")) is None


def test_a_text_names_what_the_user_named_first_if_a_tool_has_it_too() -> None:
    def held(title: str, copies: int, loans: int) -> Any:
        results = [{"title": title, "copies": copies}, {"loans": loans}]
        calls = [{"name": "find", "arguments": {"title": title}},
                 {"name": "loans", "arguments": {}}]  # fmt: skip
        return offered([user(f"Have you got {title}?"),
                        {"role": "assistant", "content": "", "tool_calls": calls},
                        *({"role": "tool", "content": json.dumps(some)} for some in results),
                        ], "2026")  # fmt: skip

    template = template_of("The Red Door is in: 4 copies.", held("The Red Door", 4, 7))
    assert filled(template, held("The Old Sea", 2, 9)) == ("The Old Sea is in: 2 copies.", 0)
    # Nothing tells which of two results a digit is of.
    assert template_of("4 copies.", held("The Red Door", 4, 4)) == ["4 copies."]


def test_tasks_of_calls_measure_it_beside_others_and_no_other_task_does(
    path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    lines = ["+task=tools", f"task.path={path}", "paths.run_dir=run", "paths.cache_dir=cache",
             "logger=none"]  # fmt: skip
    with hydra_for(None) as hydra:
        config = build(hydra.compose_config("config", lines, RunMode.RUN, True))
    assert config.students[0].kind == "caller"
    assert KINDS["caller"].does(config.task) and not KINDS["nearest"].does(config.task)
    Path("rows.jsonl").write_text(
        "".join(json.dumps({"text": f"a {k}", "label": "ab"[k % 2]}) + "\n" for k in range(40))
    )
    assert not KINDS["caller"].does(ClassifyTask("rows.jsonl"))


def requests(tool: dict[str, Any], *rows: tuple[str, dict[str, Any]]) -> Caller:
    """Return a student of requests, each with the arguments of its call."""
    tools = tools_of([tool])
    items = [Item(text, "simple", question_of(tools, [user(text)]),
                  json.dumps([{"name": tool["name"], "arguments": arguments}]))
             for text, arguments in rows]  # fmt: skip
    return fitted(items)


def tool_of(name: str, required: list[str], **properties: Any) -> dict[str, Any]:
    parameters = {"type": "object", "required": required, "properties": properties}
    return {"name": name, "parameters": parameters}


COUNT = tool_of("count", ["n"], n={"type": "integer"}, on={"type": "string", "format": "date"})


@pytest.fixture(scope="module")
def counting() -> Caller:
    days = [k % 28 + 1 for k in range(40)]
    rows = ((f"count {k} on May {day}", {"n": k, "on": f"2026-05-{day:02d}"})
            for k, day in enumerate(days))  # fmt: skip
    return requests(COUNT, *rows)


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("count 7 on ſep 5", "{}"),
        ("count 7 at ſix", "{}"),
        ("count ٧ on 2025-٠٣-٠١", "{}"),
        ("count 7", '{"n": 1e400, "m": NaN, "list": [1, -1e400]}'),
        ("count 7", f'{{"n": 1{"0" * 400}}}'),
        ("count it", f'{{"n": 1{"0" * 400}}}'),
    ],
)
def test_no_letter_and_no_number_of_a_conversation_stops_it(
    counting: Caller, text: str, result: str
) -> None:
    called = {"role": "assistant", "content": "", "tool_calls": [{"name": "count",
              "arguments": {"n": 10**400, "on": float("inf")}}]}  # fmt: skip
    messages = [user(text), called, {"role": "tool", "content": result}]
    question = question_of(tools_of([COUNT]), messages)
    [given] = counting.predict([question])
    assert "Infinity" not in given.text and "NaN" not in given.text
    learn([state_of(question, "2026")], ['[{"name": "count", "arguments": {"n": 7}}]'], "2026")


def test_a_long_message_takes_no_longer_for_each_of_its_numbers(counting: Caller) -> None:
    def seconds(n: int) -> float:
        question = question_of(tools_of([COUNT]), [user("7 5 " * n)])
        began = time.process_time()
        counting.predict([question])
        return time.process_time() - began

    assert seconds(20_000) < 20 * seconds(1000) + 1


def test_calls_match_the_schemas_of_their_tools_or_are_not_made(counting: Caller) -> None:
    tool = tools_of([COUNT])[0]

    def calls(text: str) -> Any:
        [given] = counting.predict([question_of([tool], [user(text)])])
        return calls_of(given.text)

    assert [call.arguments for call in calls("count 9 on May 4")] == [{"n": 9, "on": "2026-05-04"}]
    [call] = calls("count 9 on Monday at 7:15")
    assert tool.problem(call.arguments) is None, "no time is a date"
    assert calls("count") == [], "there is nothing to count"


def search_of(k: int) -> tuple[list[dict[str, Any]], str]:
    """Return what a user and a tool say, and the id of the person who is meant."""
    names, cities = ("Ada", "Ben", "Cleo", "Dan"), ("Rome", "Oslo", "Kyiv", "Lima", "Cork")
    people = [
        {"id": f"p{7919 * k + i}", "name": f"{names[(k + i) % 4]} Kim", "city": cities[(k + i) % 5]}
        for i in range(3)
    ]
    i = k % 3
    ways = ("first", "second", "third")[i], people[i]["name"].split()[0], people[i]["city"]
    messages = [
        user("Find Kim"),
        {"role": "assistant", "content": "", "tool_calls": [{"name": "search", "arguments": {}}]},
        {"role": "tool", "content": json.dumps({"people": people})},
        {"role": "assistant", "content": "Which of them?"},
        user(f"open {ways[k // 3 % 3]} please"),
    ]
    return messages, people[i]["id"]


def test_of_a_list_the_object_is_taken_that_the_user_names_or_counts() -> None:
    tools = tools_of([tool_of("open", ["id"], id={"type": "string"}), {"name": "search"}])
    items = []
    for k in range(90):
        messages, id = search_of(k)
        answer = json.dumps([{"name": "open", "arguments": {"id": id}}])
        items.append(Item(str(k), "simple", question_of(tools, messages), answer))
    given = fitted(items[:60]).predict([item.question for item in items[60:]])
    same = [p.text == item.answer for p, item in zip(given, items[60:], strict=True)]
    assert sum(same) > 0.9 * len(same)


def test_a_text_that_the_user_dictates_is_copied_whatever_its_case() -> None:
    note = tool_of("note", ["text"], text={"type": "string"})
    words = "the roof leaks since the storm of last week and wets all the new beds".split()  # noqa: SIM905
    said = [" ".join(words[k % 5 :: 1 + k % 2]) + f" in house {k}" for k in range(40)]
    student = requests(note, *((f"Note: {text}", {"text": text[0].upper() + text[1:]})
                               for text in said))  # fmt: skip
    text = "my neighbour wants two more keys for the cellar"
    [given] = student.predict([question_of(tools_of([note]), [user(f"Note: {text}")])])
    assert [call.arguments for call in calls_of(given.text)] == [{"text": text}]


def test_what_it_learns_from_is_not_all_in_memory() -> None:
    tools = tools_of([tool_of(f"do_{k}", ["on"], on={"type": "string"}) for k in range(12)])
    rows = []
    for k in range(60):
        words = " ".join(f"w{hash((k, i)) % 997}" for i in range(60))
        question = question_of(tools, [user(f"{words} do_{k % 6} on x{k}")])
        rows.append((question, json.dumps([{"name": f"do_{k % 6}", "arguments": {"on": f"x{k}"}}])))
    questions, answers = zip(*rows, strict=True)

    def mebibytes(n: int) -> float:
        tracemalloc.start()
        learn(States(questions[:n], "2026"), answers[:n], "2026")
        peak = tracemalloc.get_traced_memory()[1] / 2**20
        tracemalloc.stop()
        return peak

    learn(States(questions, "2026"), answers, "2026")  # fills caches
    assert (mebibytes(60) - mebibytes(20)) / 40 < 0.1, "MiB of each row"


def test_no_turn_of_a_conversation_is_held_out_while_others_are_learnt() -> None:
    tools = tools_of([COUNT])
    questions = []
    for k in range(40):
        messages = [
            user(f"count {k}"),
            {"role": "assistant", "content": f"{k}?"},
            user("yes"),
            user("go"),
        ]
        questions += [question_of(tools, messages[:n]) for n in (1, 3, 4)]
    folds = folds_of(conversations_of(questions), 0).reshape(40, 3)
    assert (folds == folds[:, :1]).all() and {*folds.ravel()} == {0, 1, 2, 3}
