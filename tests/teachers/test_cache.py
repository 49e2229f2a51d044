"""Answers are asked for once: across calls, processes, kills and corrupt files."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from stratos.core.context import Context
from stratos.core.errors import TeacherError
from stratos.ledger import Ledger
from stratos.tasks.base import Message
from stratos.teachers import cache
from stratos.teachers.base import Answer, Question
from stratos.teachers.cache import (
    FILE_NAME,
    FOLDER,
    AnswerCache,
    KeptAnswers,
    n_bytes,
    n_kept,
    question_key,
    restored,
)
from tests.teachers.echo_teacher import EchoTeacher
from tests.teachers.questions import cached_ask, chats

ROOT = Path(__file__).parents[2]


def answer_key(identity: str, chat: list[Message], max_tokens: int) -> str:
    return question_key(identity, Question(chat, max_tokens))


def test_the_second_time_nothing_is_asked(context, warnings):
    teacher = EchoTeacher()
    first = cached_ask(teacher, chats(5), 8, context)
    second = cached_ask(teacher, chats(7), 8, context)
    assert [answer.text for answer in second] == [f"word {i}" for i in range(7)]
    assert [answer.cached for answer in first] == [False] * 5
    assert [answer.cached for answer in second] == [True] * 5 + [False] * 2
    assert teacher.calls == [f"word {i}" for i in range(7)]
    assert warnings == []


def test_whatever_decides_an_answer_is_in_its_key():
    chat = [{"role": "user", "content": "a"}]
    keys = {
        answer_key("x", chat, 8),
        answer_key("y", chat, 8),
        answer_key("x", chat, 9),
        answer_key("x", [{"role": "system", "content": "a"}], 8),
        answer_key("x", [{"role": "user", "content": "a\ud800"}], 8),
    }
    assert len(keys) == 5
    assert answer_key("x", [{"content": "a", "role": "user"}], 8) in keys


def test_equal_questions_are_asked_once(context):
    teacher = EchoTeacher()
    answers = cached_ask(teacher, chats(2) + chats(2), 8, context)
    assert teacher.calls == ["word 0", "word 1"]
    assert [answer.cached for answer in answers] == [False, False, True, True]


def test_what_came_before_a_failure_is_kept(context):
    with pytest.raises(TeacherError):
        cached_ask(EchoTeacher(fails_at=3), chats(6), 8, context)
    teacher = EchoTeacher()
    cached_ask(teacher, chats(6), 8, context)
    assert teacher.calls == ["word 3", "word 4", "word 5"]


def test_a_corrupt_entry_is_asked_again_and_said(context, warnings):
    cached_ask(EchoTeacher(), chats(3), 8, context)
    file = context.cache_dir / FILE_NAME
    with sqlite3.connect(file) as db:
        db.execute("UPDATE answers SET answer = replace(answer, 'word 1', 'lies')")
    db.close()
    teacher = EchoTeacher()
    answers = cached_ask(teacher, chats(3), 8, context)
    assert [answer.text for answer in answers] == ["word 0", "word 1", "word 2"]
    assert teacher.calls == ["word 1"]
    assert warnings == [f"1 corrupt answer in {file} is asked for again."]


@pytest.mark.parametrize("where", ["head", "middle"])
def test_a_corrupt_file_is_set_aside_and_said(context, warnings, where):
    cached_ask(EchoTeacher(), chats(300), 8, context)
    file = context.cache_dir / FILE_NAME
    data = bytearray(file.read_bytes())
    start = 0 if where == "head" else 4096
    data[start : start + 20_000] = os.urandom(20_000)
    file.write_bytes(data)
    teacher = EchoTeacher()
    answers = cached_ask(teacher, chats(300), 8, context)
    assert [answer.text for answer in answers] == [f"word {i}" for i in range(300)]
    assert len(warnings) == 1
    assert warnings[0].startswith(f"{file} is corrupt (")
    assert "it is kept as teacher_answers.corrupt" in warnings[0]
    assert (context.cache_dir / "teacher_answers.corrupt").exists()
    again = EchoTeacher()
    cached_ask(again, chats(300), 8, context)
    assert again.calls == []


def test_a_folder_that_cannot_be_written_costs_the_cache_only(tmp_path, warnings):
    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    context = Context(tmp_path, blocked / "cache", Ledger(tmp_path / "l"), warn=warnings.append)
    answers = cached_ask(EchoTeacher(), chats(3), 8, context)
    assert [answer.text for answer in answers] == ["word 0", "word 1", "word 2"]
    assert len(warnings) == 1
    assert "neither finds nor keeps answers" in warnings[0]


def run_asker(folder: Path, *arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.teachers.echo_teacher", str(folder)]
    command += map(str, arguments)
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)


def test_many_processes_share_the_file(tmp_path):
    askers = [run_asker(tmp_path, 0, 200, 0.001) for _ in range(3)]
    outputs = [asker.communicate(timeout=60)[0] for asker in askers]
    assert [asker.returncode for asker in askers] == [0, 0, 0]
    assert all("warned" not in output for output in outputs)
    cache = AnswerCache(tmp_path, pytest.fail)
    keys = [answer_key("echo", chat, 8) for chat in chats(200)]
    answers = cache.get(keys)
    assert [answers[key].text for key in keys] == [f"word {i}" for i in range(200)]


def test_kept_answers_are_counted_wherever_they_are_among_the_questions(context):
    teacher = EchoTeacher()
    questions = [Question(chat, 8) for chat in chats(900)]
    assert n_kept(teacher, questions, context.cache_dir) == 0
    cached_ask(teacher, chats(10) + chats(10, 890), 8, context)
    assert n_kept(teacher, questions, context.cache_dir) == 20
    assert n_kept(teacher, questions[300:], context.cache_dir) == 0, "none among the first"


OPENERS = """
import multiprocessing, pathlib, sys, time
from stratos.teachers.cache import AnswerCache

def open_new(folder, start):
    time.sleep(max(0.0, start - time.time()))
    cache = AnswerCache(folder, print)
    cache.get(["a key"])
    cache.close()

fork = multiprocessing.get_context("fork")
for index in range(20):
    start = time.time() + 0.05
    folder = pathlib.Path(sys.argv[1], str(index))
    openers = [fork.Process(target=open_new, args=(folder, start)) for _ in range(3)]
    for opener in openers:
        opener.start()
    for opener in openers:
        opener.join()
"""


def test_a_new_file_is_opened_by_many_at_the_same_moment(tmp_path):
    command = [sys.executable, "-c", OPENERS, str(tmp_path)]
    assert subprocess.run(command, capture_output=True, text=True).stdout == ""
    assert len(list(tmp_path.glob(f"*/{FILE_NAME}"))) == 20


@pytest.mark.kill
def test_killed_in_the_middle_nothing_is_lost(tmp_path, context):
    asker = run_asker(tmp_path / "cache", 0, 10_000, 0.005)
    assert asker.stdout is not None
    n_known = next(int(line.split()[1]) for line in asker.stdout if line.startswith("kept 20"))
    os.kill(asker.pid, signal.SIGKILL)
    asker.wait()
    time.sleep(0.05)
    teacher = EchoTeacher()
    cached_ask(teacher, chats(n_known + 5_000), 8, context)
    assert f"word {n_known - 1}" not in teacher.calls
    assert 4_000 < len(teacher.calls) <= 5_000


def test_values_survive(tmp_path):
    cache = AnswerCache(tmp_path, pytest.fail)
    answer = Answer("ü\n\x1b[31m<b>\x00", 3, 4, 0.25)
    cache.put("k", answer)
    cache.close()
    assert AnswerCache(tmp_path, pytest.fail).get(["k", "absent"]) == {"k": answer}


# Answers that also lie in the run folder, and what another machine's cache takes of them.


def filled(run: Path, cache: Path, warnings: list[str], keys: range) -> None:
    """Answer questions as a command does, each with what it takes to be told apart."""
    answers = AnswerCache(cache, warnings.append, also=KeptAnswers(run / FOLDER, warnings.append))
    for i in keys:
        answers.put(f"key {i}", Answer(f"text {i}", i, 1, 0.5, finish="é"))
    answers.close()


def texts_in(cache: Path, n: int) -> list[str]:
    answers = AnswerCache(cache, lambda text: None)
    texts = answers.get([f"key {i}" for i in range(n)])
    answers.close()
    return [texts[key].text for key in sorted(texts)]


def test_another_cache_takes_over_what_is_whole(tmp_path):
    run, warnings = tmp_path / "run", list[str]()
    filled(run, tmp_path / "first", warnings, range(3))
    filled(run, tmp_path / "first", warnings, range(3, 5))
    last = sorted((run / FOLDER).iterdir())[-1]
    with last.open("ab") as file:  # and was killed in the midst of a line
        file.write(b'{"key": "key 5", "answer": "{')
    filled(run, tmp_path / "first", warnings, range(5, 6))
    damaged = sorted((run / FOLDER).iterdir())[0]
    damaged.write_bytes(damaged.read_bytes().replace(b"text 1", b"tixt 1"))
    assert restored(run, tmp_path / "second", warnings.append) == 5
    assert texts_in(tmp_path / "second", 6) == ["text 0", "text 2", "text 3", "text 4", "text 5"]
    assert restored(run, tmp_path / "second", warnings.append) == 0, "they are there"
    assert restored(run, tmp_path / "first", warnings.append) == 0
    assert restored(tmp_path / "none", tmp_path / "second", warnings.append) == 0
    assert warnings == []


def test_a_cache_that_has_some_of_a_file_takes_over_the_others(tmp_path):
    run, warnings = tmp_path / "run", list[str]()
    filled(run, tmp_path / "first", warnings, range(100))
    second = AnswerCache(tmp_path / "second", warnings.append)
    second.put("key 99", Answer("of its own", 1, 1, 0.5))  # the last row of the file
    second.close()
    assert restored(run, tmp_path / "second", warnings.append) == 99
    texts = texts_in(tmp_path / "second", 100)
    assert len(texts) == 100 and texts[-1] == "of its own"
    assert warnings == []


def test_files_are_parts_and_their_size_is_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr(cache, "_PART_BYTES", 1000)
    monkeypatch.setattr(cache, "MOST_BYTES", 4000)
    run, warnings = tmp_path / "run", list[str]()
    filled(run, tmp_path / "cache", warnings, range(100))
    parts = sorted((run / FOLDER).iterdir())
    assert len(parts) == 4 and 4000 <= n_bytes(run) < 5000
    assert len(warnings) == 1 and "in the cache of this machine alone" in warnings[0]
    assert len(texts_in(tmp_path / "cache", 100)) == 100
