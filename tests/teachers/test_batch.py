"""The batch API: half the price, answers in any order, and no batch handed in twice."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from batch_server import BatchServer
from cached_ask import cached_ask
from chat_server import KEY, ChatServer

from stratos.core.context import Context
from stratos.core.errors import BudgetError, TeacherError
from stratos.ledger import Ledger
from stratos.teachers.asking import cost_usd, stream_ask
from stratos.teachers.base import TOO_LONG, Question
from stratos.teachers.cost_estimate import expect
from stratos.teachers.openai import OpenAITeacher


def teacher_of(server: BatchServer, **changes) -> OpenAITeacher:
    prices = {
        "usd_per_million_input_tokens": 2.0, "usd_per_million_output_tokens": 8.0,
        "usd_per_million_batch_input_tokens": 1.0, "usd_per_million_batch_output_tokens": 4.0,
    }  # fmt: skip
    fields = {"model": "m", "api_key_env": None, "batch": True, **prices, **changes}
    return OpenAITeacher(name="batcher", base_url=server.base_url, **fields)


def chats(n: int) -> list[list[dict[str, str]]]:
    return [[{"role": "user", "content": f"word {i}"}] for i in range(n)]


def test_a_batch_costs_half_and_comes_back_in_order(context: Context) -> None:
    with BatchServer() as server:
        teacher = teacher_of(server)
        answers = cached_ask(teacher, chats(50), 8, context)
        assert [answer.text for answer in answers] == [f"WORD {i}" for i in range(50)]
        assert len(server.batches) == 1
        assert context.ledger.spent_usd == pytest.approx(50 * (20 * 1 + 5 * 4) / 1e6)
        assert cost_usd(teacher.card(), answers) == pytest.approx(context.ledger.spent_usd)
        assert context.ledger.reserved_usd == 0
        cached_ask(teacher, chats(60), 8, context)
        assert set(server.asked.values()) == {1}


def test_a_teacher_becomes_one_that_asks_in_batches(context: Context) -> None:
    with BatchServer() as server:
        teacher = teacher_of(server, batch=False)
        batched = teacher.as_batch()
        assert teacher.takes_batches and batched.identity() == teacher.identity()
        assert len(cached_ask(batched, chats(3), 8, context)) == len(server.batches) + 2 == 3
        assert context.ledger.spent_usd == pytest.approx(3 * (20 * 1 + 5 * 4) / 1e6)
        teacher.close()


def test_lines_that_fail_or_are_missing_go_into_the_next_batch(context: Context) -> None:
    with BatchServer() as server:
        server.faults = {"word 1": [500, 200], "word 2": ["missing", 429, 200]}
        answers = cached_ask(teacher_of(server), chats(4), 8, context)
        assert [answer.text for answer in answers] == [f"WORD {i}" for i in range(4)]
        assert [server.asked[f"word {i}"] for i in range(4)] == [1, 2, 3, 1]
        assert context.ledger.spent_usd == pytest.approx(4 * 40 / 1e6)


def test_what_is_too_long_stops_nothing_and_is_asked_again(context: Context) -> None:
    with BatchServer() as server:
        server.faults = {"word 1": [400]}
        server.says = "This model's maximum context length is 8 tokens."
        answers = cached_ask(teacher_of(server), chats(3), 8, context)
        assert [(one.text, one.finish == TOO_LONG) for one in answers] == [
            ("WORD 0", False), ("", True), ("WORD 2", False)
        ]  # fmt: skip
        assert context.ledger.spent_usd == pytest.approx(2 * 40 / 1e6)
        assert context.ledger.reserved_usd == 0


@pytest.mark.parametrize("how", ["upload", "batch"])
def test_what_is_refused_is_not_counted(context: Context, how: str) -> None:
    with BatchServer() as server:
        if how == "upload":
            server.http = 404
        else:
            server.refuses = "Billing hard limit has been reached"
        with pytest.raises(TeacherError):
            cached_ask(teacher_of(server), chats(40), 8, context)
        assert (context.ledger.spent_usd, context.ledger.reserved_usd) == (0, 0)
        server.http, server.refuses = 200, ""
        assert len(cached_ask(teacher_of(server), chats(40), 8, context)) == 40


@pytest.mark.slow
def test_what_batches_leave_of_their_money_pays_for_the_next(context: Context) -> None:
    """An answer costs a fraction of its ceiling; all are asked where the answers fit."""
    one = (20 * 1 + 5 * 4) / 1e6
    ledger = Ledger(context.run_dir / "tight.jsonl", 45 * one)
    tight = replace(context, ledger=ledger)
    with BatchServer() as server:
        questions = [Question(chat, 30) for chat in chats(40)]
        answers = list(stream_ask(teacher_of(server), questions, tight))
        assert [answer.text for answer in answers] == [f"WORD {i}" for i in range(40)]
        assert len(server.batches) > 1
        assert set(server.asked.values()) == {1}
        assert ledger.spent_usd == pytest.approx(40 * one)
        with pytest.raises(BudgetError):
            list(stream_ask(teacher_of(server), [Question(c, 30) for c in chats(90)[40:]], tight))


def test_a_provider_that_lists_something_else_has_no_earlier_batches(
    context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PARROT_KEY", KEY)
    with ChatServer() as server:  # its answer to every GET is its list of models
        teacher = teacher_of(server, api_key_env="PARROT_KEY")
        assert list(teacher.stream(iter(()), None)) == []


def test_what_is_refused_is_said(context: Context) -> None:
    with BatchServer() as server:
        server.faults = {"word 1": [400]}
        with pytest.raises(TeacherError, match=r"a question of a batch after 1 try \(HTTP 400\)"):
            cached_ask(teacher_of(server), chats(3), 8, context)
        server.refuses = "Too many enqueued tokens"
        with pytest.raises(TeacherError, match=r"refused a batch of 1 question \(Too many"):
            cached_ask(teacher_of(server), [[{"role": "user", "content": "new"}]], 8, context)
    with pytest.raises(ValueError, match="batch=true wants the price"):
        OpenAITeacher("x", "m", batch=True)


ASKER = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[3])
from types import SimpleNamespace
from test_batch import chats, teacher_of
from stratos.core.context import Context
from stratos.ledger import Ledger
from cached_ask import cached_ask
folder = Path(sys.argv[2])
context = Context(folder, folder, Ledger(folder / "ledger.jsonl"))
cached_ask(teacher_of(SimpleNamespace(base_url=sys.argv[1])), chats(20), 8, context)
"""


@pytest.mark.slow
@pytest.mark.kill
def test_a_batch_of_a_killed_run_is_waited_for_not_paid_again(tmp_path: Path) -> None:
    with BatchServer(seconds=6.0) as server:
        here = str(Path(__file__).parent)
        command = [sys.executable, "-c", ASKER, server.base_url, str(tmp_path), here]
        one = subprocess.Popen(command)
        deadline = time.monotonic() + 60
        while not server.batches and time.monotonic() < deadline:
            time.sleep(0.02)
        os.kill(one.pid, signal.SIGKILL)
        one.wait()
        server.seconds = 0.5
        ledger = Ledger(tmp_path / "ledger.jsonl")
        context = Context(tmp_path, tmp_path, ledger)
        # It goes on without the process: what was set aside for it stays so until it is fetched.
        assert ledger.spent_usd == 0 and ledger.reserved_usd > 20 * 40 / 1e6
        assert ledger.batches.n_under_way("teacher batcher") == 20
        told = expect(teacher_of(server), [Question(c, 8) for c in chats(22)], context)
        assert told.n_asked == 2
        answers = cached_ask(teacher_of(server), chats(22), 8, context)
        assert [answer.text for answer in answers] == [f"WORD {i}" for i in range(22)]
        assert set(server.asked.values()) == {1}
        assert len(server.batches) == 2
        assert ledger.spent_usd == pytest.approx(22 * 40 / 1e6)
        assert (ledger.reserved_usd, ledger.batches.n_under_way("teacher batcher")) == (0, 0)


STREAMER = """
import resource, sys
from pathlib import Path
sys.path.insert(0, sys.argv[3])
from types import SimpleNamespace
from test_batch import teacher_of
from stratos.core.context import Context
from stratos.ledger import Ledger
from stratos.teachers.asking import stream_ask
from stratos.teachers.base import Question
folder = Path(sys.argv[2])
teacher = teacher_of(SimpleNamespace(base_url=sys.argv[1]))
def ask(numbers, size):
    context = Context(folder, folder, Ledger(folder / "ledger.jsonl"))
    chats = ([{"role": "user", "content": f"{i} {'word ' * (size // 5)}"}] for i in numbers)
    answers = stream_ask(teacher, (Question(chat, 8) for chat in chats), context)
    for i, answer in zip(numbers, answers, strict=True):
        assert answer.text.startswith(f"{i} WORD ")
def most_mib():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
ask(range(200), 50)
before = most_mib()
ask(range(200, 600), 100_000)
print(most_mib() - before)
"""


@pytest.mark.slow
def test_a_batch_lies_on_disk_not_in_memory(tmp_path: Path) -> None:
    """400 questions of 0.1 MB and as long answers, which come in the reverse order."""
    with BatchServer() as server:
        here = str(Path(__file__).parent)
        command = [sys.executable, "-c", STREAMER, server.base_url, str(tmp_path), here]
        told = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300)
        assert len(server.batches) == 2
        n_bytes = sum(map(len, server.files.values()))
    assert n_bytes > 80e6
    assert float(told.stdout) < 16
