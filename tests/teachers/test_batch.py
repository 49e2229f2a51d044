"""The batch API: half the price, answers in any order, and no batch handed in twice."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from stratos.core.context import Context
from stratos.core.errors import BudgetError, TeacherError
from stratos.ledger import Ledger
from stratos.teachers.asking import cost_usd, stream_ask
from stratos.teachers.base import TOO_LONG
from stratos.teachers.cost_estimate import expect
from stratos.teachers.openai import OpenAITeacher
from tests.teachers.provider import Bill, Provider, Reply
from tests.teachers.questions import are_right, cached_ask, chat, chats, parrot, questions

ROOT = Path(__file__).parents[2]
PRICES = {
    "usd_per_million_input_tokens": 2.0, "usd_per_million_output_tokens": 8.0,
    "usd_per_million_batch_input_tokens": 1.0, "usd_per_million_batch_output_tokens": 4.0,
}  # fmt: skip
USD = (6 * 1 + 2 * 4) / 1e6
"""Of one answer in a batch."""


@pytest.fixture
def provider() -> Iterator[Provider]:
    with Provider(bill=Bill(2.0, 8.0)) as running:
        yield running


def batcher(provider: Any, **changes: Any) -> OpenAITeacher:
    return parrot(provider, **{"api_key_env": None, "batch": True, **PRICES, **changes})


def statuses(**of_questions: list[int]) -> Any:
    """Return a rule: the statuses of the tries of "word 1" are w1, one a try; 0 leaves it out."""

    def rule(text: str, n_tries: int) -> Reply:
        status = of_questions.get(f"w{text.split()[1]}", [])[n_tries - 1 : n_tries]
        return Reply(*status) if status != [0] else Reply(body="nothing")

    return rule


def test_a_batch_costs_half_and_comes_back_in_order(provider, context):
    teacher = batcher(provider)
    answers = cached_ask(teacher, chats(50), 8, context)
    assert len(answers) == 50 and are_right(answers)
    assert len(provider.batches) == 1
    assert context.ledger.spent_usd == pytest.approx(50 * USD) == pytest.approx(provider.bill.usd)
    assert cost_usd(teacher.card(), answers) == pytest.approx(context.ledger.spent_usd)
    assert context.ledger.reserved_usd == 0
    cached_ask(teacher, chats(60), 8, context)
    assert set(provider.tries.values()) == {1}


def test_a_teacher_becomes_one_that_asks_in_batches(provider, context):
    teacher = batcher(provider, batch=False)
    batched = teacher.as_batch()
    assert teacher.takes_batches and batched.identity() == teacher.identity()
    assert len(cached_ask(batched, chats(3), 8, context)) == len(provider.batches) + 2 == 3
    assert context.ledger.spent_usd == pytest.approx(3 * USD)
    teacher.close()


def test_lines_that_fail_or_are_missing_go_into_the_next_batch(provider, context):
    provider.rule = statuses(w1=[500], w2=[0, 429])
    answers = cached_ask(batcher(provider), chats(4), 8, context)
    assert len(answers) == 4 and are_right(answers)
    assert [provider.tries[f"word {i}"] for i in range(4)] == [1, 2, 3, 1]
    assert context.ledger.spent_usd == pytest.approx(4 * USD)


def test_what_is_too_long_stops_nothing_and_is_asked_again(provider, context):
    provider.rule = statuses(w1=[400])
    provider.refusal = "This model's maximum context length is 8 tokens."
    answers = cached_ask(batcher(provider), chats(3), 8, context)
    assert [(answer.text, answer.finish == TOO_LONG) for answer in answers] == [
        ("WORD 0", False), ("", True), ("WORD 2", False)
    ]  # fmt: skip
    assert context.ledger.spent_usd == pytest.approx(2 * USD)
    assert context.ledger.reserved_usd == 0


@pytest.mark.parametrize(
    "changes",
    [{"uploads": Reply(404)}, {"batch_failure": "Billing hard limit has been reached"}],
    ids=["upload", "batch"],
)
def test_what_is_refused_is_not_counted(provider, context, changes):
    for name, value in changes.items():
        setattr(provider, name, value)
    with pytest.raises(TeacherError):
        cached_ask(batcher(provider), chats(40), 8, context)
    assert (context.ledger.spent_usd, context.ledger.reserved_usd) == (0, 0)
    provider.uploads, provider.batch_failure = Reply(), ""
    assert len(cached_ask(batcher(provider), chats(40), 8, context)) == 40


@pytest.mark.slow
def test_what_batches_leave_of_their_money_pays_for_the_next(provider, context):
    """An answer costs a fraction of its ceiling; all are asked where the answers fit."""
    ledger = Ledger(context.run_dir / "tight.jsonl", 45 * USD)
    tight = replace(context, ledger=ledger)
    answers = list(stream_ask(batcher(provider), questions(40), tight))
    assert len(answers) == 40 and are_right(answers)
    assert len(provider.batches) > 1
    assert set(provider.tries.values()) == {1}
    assert ledger.spent_usd == pytest.approx(40 * USD)
    with pytest.raises(BudgetError):
        list(stream_ask(batcher(provider), questions(50, start=40), tight))


def test_a_provider_that_lists_something_else_has_no_earlier_batches(server):
    """Its answer to every GET is its list of models."""
    teacher = batcher(server, api_key_env="PARROT_KEY")
    assert list(teacher.stream(iter(()), None)) == []


def test_what_is_refused_is_said(provider, context):
    provider.rule = statuses(w1=[400])
    with pytest.raises(TeacherError, match=r"a question of a batch after 1 try \(HTTP 400\)"):
        cached_ask(batcher(provider), chats(3), 8, context)
    provider.batch_failure = "Too many enqueued tokens"
    with pytest.raises(TeacherError, match=r"refused a batch of 1 question \(Too many"):
        cached_ask(batcher(provider), [chat("new")], 8, context)
    with pytest.raises(ValueError, match="batch=true wants the price"):
        OpenAITeacher("x", "m", batch=True)


ASKER = """
import sys
from pathlib import Path
from stratos.core.context import Context
from stratos.ledger import Ledger
from tests.teachers.questions import cached_ask, chats
from tests.teachers.test_batch import batcher
folder = Path(sys.argv[2])
context = Context(folder, folder, Ledger(folder / "ledger.jsonl"))
cached_ask(batcher(sys.argv[1]), chats(20), 8, context)
"""


@pytest.mark.slow
@pytest.mark.kill
def test_a_batch_of_a_killed_run_is_waited_for_not_paid_again(provider, tmp_path):
    provider.batch_s = 6.0
    command = [sys.executable, "-c", ASKER, provider.base_url, str(tmp_path)]
    process = subprocess.Popen(command, cwd=ROOT)
    deadline = time.monotonic() + 60
    while not provider.batches and time.monotonic() < deadline:
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    provider.batch_s = 0.5
    ledger = Ledger(tmp_path / "ledger.jsonl")
    context = Context(tmp_path, tmp_path, ledger)
    # It goes on without the process: what was set aside for it stays so until it is fetched.
    assert ledger.spent_usd == 0 and ledger.reserved_usd > 20 * USD
    assert ledger.batches.n_under_way("teacher parrot") == 20
    assert expect(batcher(provider), questions(22), context).n_asked == 2
    answers = cached_ask(batcher(provider), chats(22), 8, context)
    assert len(answers) == 22 and are_right(answers)
    assert set(provider.tries.values()) == {1}
    assert len(provider.batches) == 2
    assert ledger.spent_usd == pytest.approx(22 * USD)
    assert (ledger.reserved_usd, ledger.batches.n_under_way("teacher parrot")) == (0, 0)


STREAMER = """
import resource, sys
from pathlib import Path
from stratos.core.context import Context
from stratos.ledger import Ledger
from stratos.teachers.asking import stream_ask
from stratos.teachers.base import Question
from tests.teachers.questions import chat
from tests.teachers.test_batch import batcher
folder, teacher = Path(sys.argv[2]), batcher(sys.argv[1])
def ask(numbers, size):
    context = Context(folder, folder, Ledger(folder / "ledger.jsonl"))
    chats = (chat(f"{i} {'word ' * (size // 5)}") for i in numbers)
    answers = stream_ask(teacher, (Question(chat, size) for chat in chats), context)
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
def test_a_batch_takes_no_more_memory_than_its_files(provider, tmp_path):
    """400 questions of 0.1 MB and as long answers, which come in the reverse order."""
    command = [sys.executable, "-c", STREAMER, provider.base_url, str(tmp_path)]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=300
    )
    assert len(provider.batches) == 2
    n_bytes = sum(map(len, provider.files.values()))
    assert n_bytes > 80e6
    assert float(done.stdout) < 2 * n_bytes / 2**20
