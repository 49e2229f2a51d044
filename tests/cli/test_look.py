"""`stratos look` and `stratos init`, as they are typed."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml

from stratos.models.kinds import student_kinds
from stratos.probe.look import read_facts
from stratos.probe.look.measure import task_of
from tests.in_process import Done, stratos
from tests.probe.test_look import table, texts

TASK = "conf/task/tickets.yaml"


@pytest.fixture(autouse=True)
def linear_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have no weights of encoders and tables: they take most of the seconds."""
    monkeypatch.setattr(student_kinds, "has_weights", lambda student: student.kind == "linear")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    table(tmp_path / "tickets.csv", "text,label", texts(120))
    return tmp_path


def init(folder: Path, *words: str) -> Done:
    return stratos("init", *words, cwd=folder)


def task(folder: Path, name: str) -> dict[str, Any]:
    """Return the task of a name as a run in that folder has it."""
    done = stratos("run", "--cfg", "job", f"+task={name}", cwd=folder)
    assert done.returncode == 0, done.stderr
    composed: dict[str, Any] = yaml.safe_load(done.stdout)["task"]
    return composed


def test_a_look_is_printed_and_is_json(folder):
    done = stratos("look", "tickets.csv", cwd=folder)
    assert done.returncode == 0 and not done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) <= 25 and max(map(len, lines)) <= 100
    assert lines[0].startswith("file") and lines[-1].startswith("took")
    looked = json.loads(stratos("look", "tickets.csv", "--json", cwd=folder).stdout)
    assert looked["facts"]["kind"] == "labels" and looked["facts"]["n_labelled"] == 120
    assert looked["measured"]["students"][0]["name"] == "linear"
    assert looked["next"] in done.stdout


def test_conversations_are_read_by_the_task_that_learns_them(folder):
    tool = {"name": "weather", "parameters": {"properties": {"city": {"type": "string"}}}}
    rows = [
        {"tools": [{"type": "function", "function": tool}],
         "messages": [
             {"role": "user", "content": f"What is it like in {city} on day {day}?"},
             {"role": "assistant", "content": None, "tool_calls": [
                 {"id": "1", "type": "function",
                  "function": {"name": "weather", "arguments": json.dumps({"city": city})}}]},
         ]}
        for city in ("Rome", "Oslo", "Lima", "Bern", "Cork") for day in range(12)
    ]  # fmt: skip
    (folder / "agent.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    done = stratos("look", "agent.jsonl", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("rows       ") and "next       " in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 100
    looked = json.loads(stratos("look", "agent.jsonl", "--json", cwd=folder).stdout)
    assert looked["next"] == "python -m stratos +task=tools task.path=agent.jsonl"
    assert any("to train" in note for note in looked["rows"])


def test_a_file_that_cannot_be_looked_at_ends_with_2(folder):
    for verb in ("look", "init"):
        done = stratos(verb, "ticket.csv", cwd=folder)
        assert done.returncode == 2 and "Did you mean tickets.csv" in done.stderr
        assert not done.stdout and "Traceback" not in done.stderr


@pytest.mark.parametrize("name", ["tickets.csv", "my file, of (May) 'x' \"y\" {z}.csv"])
@pytest.mark.parametrize("columns", ["text,label", "my body,the = queue"])
def test_the_command_that_is_printed_composes(tmp_path, name, columns):
    table(tmp_path / name, columns, texts(120))
    looked = json.loads(stratos("look", name, "--json", cwd=tmp_path).stdout)
    verb, *words = shlex.split(looked["next"])[1:]
    done = stratos(verb, "--cfg", "job", *words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    composed = yaml.safe_load(done.stdout)["task"]
    assert composed["path"] == name
    if columns != "text,label":
        assert [composed["question"], composed["answer"]] == columns.split(",")


def test_a_task_is_written_that_the_next_run_knows(folder):
    done = init(folder, "tickets.csv")
    assert done.returncode == 0, done.stderr
    assert "stratos run +task=tickets" in done.stdout
    composed = task(folder, "tickets")
    assert (composed["name"], composed["path"]) == ("tickets", "tickets.csv")
    assert "tickets" in stratos("--help", cwd=folder).stdout


def test_a_task_of_other_columns_reads_the_rows_that_were_looked_at(tmp_path):
    rows = [(t, x, "") for t, x in texts(60)] + [("", "login", ""), ("a text", "", "")]
    path = table(tmp_path / "rows.csv", "body,queue,note", rows)
    assert init(tmp_path, "rows.csv", "--name", "mine").returncode == 0
    composed = task(tmp_path, "mine")
    assert [composed[key] for key in ("question", "answer", "on_error")] == [
        "body", "queue", "skip"
    ]  # fmt: skip
    facts = read_facts(path)
    made = task_of(facts)
    n = made.n_train + len(made.items("validation", 99)) + made.n_test
    assert n == facts.n_labelled == 60


def test_a_task_is_overwritten_by_force_alone(folder):
    init(folder, "tickets.csv")
    (folder / TASK).write_text("mine")
    done = init(folder, "tickets.csv")
    assert done.returncode == 2 and "--force" in done.stderr
    assert (folder / TASK).read_text() == "mine"
    assert init(folder, "tickets.csv", "--force").returncode == 0
    assert (folder / TASK).read_text() != "mine"


@pytest.mark.parametrize("name", ["classify", "reasoning_gym", "../up", "With Space", "1st"])
def test_a_name_that_cannot_be_is_refused_with_another(folder, name):
    done = init(folder, "tickets.csv", "--name", name)
    assert done.returncode == 2 and "Type: stratos init tickets.csv --name " in done.stderr
    assert not (folder / "conf").exists()


def test_a_terminal_is_asked_for_what_was_not_given(folder, monkeypatch):
    table(folder / "two.csv", "text,label,team", [(t, x, x[:3]) for t, x in texts(60)])
    replies = iter(["", "team", "by_team"])
    prompts: list[str] = []
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("builtins.input", lambda prompt: prompts.append(prompt) or next(replies))
    assert init(folder, "two.csv").returncode == 0
    assert [prompt.rpartition(" [")[2] for prompt in prompts] == ["text]: ", "label]: ", "two]: "]
    assert task(folder, "by_team")["answer"] == "team"
    assert init(folder, "tickets.csv", "--yes").returncode == 0
    assert len(prompts) == 3


def test_a_wrong_reply_is_asked_again(folder, monkeypatch):
    rows = [(f"{t} sk-proj-{'a1b2c3d4e5f6' * 4}", x, x[:3], "") for t, x in texts(60)]
    table(folder / "two.csv", "note,team,site,free", rows)
    replies = iter(["bodi", "note", "", "tem", "note", "free", "TEAM", "classify", "by_team"])
    prompts: list[str] = []
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("builtins.input", lambda prompt: prompts.append(prompt) or next(replies))
    done = init(folder, "two.csv")
    assert done.returncode == 0, done.stderr
    columns = [line.split() for line in done.stdout.splitlines()[:4]]
    assert [words[0] for words in columns] == ["note", "team", "site", "free"]
    assert len(columns[0]) > 2 and columns[1:] == [
        ["team", rows[0][1]], ["site", rows[0][2]], ["free"]
    ]  # fmt: skip
    assert "a1b2c3d4" not in done.stdout
    assert [prompt.partition(" [")[0].rstrip(": ") for prompt in prompts] == [
        *["Column with the text"] * 2,
        *["Column with the answer"] * 5,
        *["Name of the task"] * 2,
    ]
    assert [task(folder, "by_team")[key] for key in ("question", "answer")] == ["note", "team"]


def test_a_terminal_that_ends_is_told_what_to_type(folder, monkeypatch):
    def ended(prompt: str) -> str:
        raise EOFError

    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("builtins.input", ended)
    done = init(folder, "tickets.csv")
    assert done.returncode == 2 and "--yes" in done.stderr and "Traceback" not in done.stderr


def test_a_folder_that_was_named_goes_before_the_own(folder):
    init(folder, "tickets.csv")
    (folder / "theirs").mkdir()
    done = stratos("run", "--config-dir", "theirs", "--cfg", "job", "+task=tickets", cwd=folder)
    assert done.returncode != 0 and "tickets" in done.stderr
