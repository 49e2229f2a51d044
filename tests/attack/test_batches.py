"""A batch is created once and paid once, whatever is lost between us and its provider."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from stratos.core.context import Context
from stratos.core.errors import BudgetError, OverspentError, TeacherError
from stratos.teachers import batch
from stratos.teachers.asking import stream_ask
from stratos.teachers.openai import OpenAITeacher
from tests.teachers.provider import Provider, Reply, always
from tests.teachers.questions import are_right, cached_ask, chats, questions

pytestmark = [pytest.mark.usefixtures("quick"), pytest.mark.slow]

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches are looked at every moment."""
    monkeypatch.setattr(batch, "_LOOKS_S", (0.0, 0.2, 0.2))


@pytest.fixture
def batching(teacher: Callable[..., OpenAITeacher], dear: Provider) -> Callable[..., OpenAITeacher]:
    """Return what makes a teacher of `dear` that asks in batches, at half the price."""
    prices = {
        "usd_per_million_batch_input_tokens": 0.5 * dear.bill.usd_per_million_input_tokens,
        "usd_per_million_batch_output_tokens": 0.5 * dear.bill.usd_per_million_output_tokens,
    }
    return lambda **changes: teacher(dear, batch=True, **prices, **changes)


@pytest.fixture
def abandoned(
    run: Callable[..., Context], batching: Callable[..., OpenAITeacher], dear: Provider
) -> Provider:
    """A provider with a batch of 40 questions whose run was ended by Ctrl-C behind its creation."""
    dear.batch_s = 60.0
    threading.Thread(target=ctrl_c_behind_a_batch, args=(dear,), daemon=True).start()
    with pytest.raises(KeyboardInterrupt):
        list(stream_ask(batching(), questions(40), run(9)))
    assert len(dear.batches) == 1
    dear.batch_s = 0.1
    return dear


def ctrl_c_behind_a_batch(provider: Provider) -> None:
    last = time.monotonic() + 60
    while not provider.batches and time.monotonic() < last:
        time.sleep(0.05)
    time.sleep(1.0)
    signal.raise_signal(signal.SIGINT)


def is_paid_once(context: Context, provider: Provider) -> bool:
    """Whether the ledger has what the provider bills, and nothing is set aside any more."""
    ledger = context.ledger
    return (ledger.spent_usd, ledger.reserved_usd) == (pytest.approx(provider.bill.usd), 0)


LOST = {
    "502": [Reply(status=502)],
    "503 twice": [Reply(status=503)] * 2,
    "cut": [Reply(wire="cut before")],
    "cut within": [Reply(wire="cut within")],
    "garbage": [Reply(body="garbage")],
    "late": [Reply(delay_s=3.0)],
}


@pytest.mark.parametrize("how", LOST)
def test_a_creation_whose_answer_is_lost_is_found_and_not_repeated(run, batching, dear, how):
    dear.creates = list(LOST[how])
    context = run(10.0)
    answers = cached_ask(batching(timeout_s=1.0), chats(30), 8, context)
    assert len(answers) == 30 and are_right(answers)
    assert len(dear.batches) == 1
    assert set(dear.tries.values()) == {1}
    assert is_paid_once(context, dear)


def test_minutes_of_502_while_polling_do_not_end_a_batch(run, batching, dear, warnings):
    dear.polls = lambda seconds: Reply(status=502) if 0 <= seconds < 3 else Reply()
    context = run(10.0)
    assert len(cached_ask(batching(max_retries=0), chats(30), 8, context)) == 30
    assert len(dear.batches) == 1 and is_paid_once(context, dear)
    (warning,) = warnings
    assert "(HTTP 502). It is asked again" in warning


def test_a_key_that_is_refused_while_polling_does(run, batching, dear):
    dear.polls = lambda seconds: Reply(status=401) if seconds > 0.1 else Reply()
    dear.batch_s = 60.0
    context, began = run(10.0), time.monotonic()
    with pytest.raises(TeacherError, match="wants a key"):
        cached_ask(batching(), chats(30), 8, context)
    assert time.monotonic() - began < 20
    # It goes on at the provider.
    assert context.ledger.spent_usd == 0 and context.ledger.reserved_usd > 0


def test_a_list_that_fails_in_passing_hides_no_earlier_batch(run, batching, abandoned):
    fails_until = time.monotonic() + 2
    abandoned.polls = lambda seconds: Reply(502 if time.monotonic() < fails_until else 200)
    context = run(9)
    assert context.ledger.reserved_usd > 0 == context.ledger.spent_usd
    assert len(cached_ask(batching(), chats(40), 8, context)) == 40
    assert len(abandoned.batches) == 1
    assert is_paid_once(context, abandoned)


def test_what_nobody_asks_any_more_of_a_batch_is_settled_at_its_price_too(run, batching, abandoned):
    context = run(9)
    assert len(cached_ask(batching(), chats(7), 8, context)) == 7
    assert abandoned.bill.n_answers == 40
    assert is_paid_once(context, abandoned)


def test_a_batch_that_is_gone_counts_in_full(run, batching, abandoned):
    abandoned.batches.clear()
    context = run(90)
    most = context.ledger.reserved_usd
    assert len(cached_ask(batching(), chats(7), 8, context)) == 7
    assert context.ledger.spent_usd == pytest.approx(most + abandoned.bill.usd)


def test_batches_of_answers_past_their_limit_end_with_what_is_passed(run, batching, dear):
    dear.rule = always(n_tokens=90)
    context = run(2.0)
    with pytest.raises(OverspentError, match=r"limits\.budget_usd=2 is passed by up to \$"):
        cached_ask(batching(), chats(40), 8, context)
    assert dear.bill.usd - 1e-9 <= context.ledger.spent_usd
    with pytest.raises(BudgetError):
        list(stream_ask(batching(), questions(1, start=98), run(2.0)))
    assert len(dear.batches) == 1


ASKER = """
import sys
from pathlib import Path
from stratos.core.context import Context
from stratos.ledger import Ledger
from tests.teachers.questions import cached_ask, chats, parrot
folder = Path(sys.argv[2])
teacher = parrot(
    sys.argv[1], model="parrot", api_key_env=None, batch=True,
    usd_per_million_input_tokens=1000.0, usd_per_million_output_tokens=10000.0,
    usd_per_million_batch_input_tokens=500.0, usd_per_million_batch_output_tokens=5000.0,
)
context = Context(folder, folder / "cache", Ledger(folder / "ledger.jsonl", 9.0))
cached_ask(teacher, chats(40), 8, context)
"""


@pytest.mark.kill
def test_killed_where_nothing_can_be_done_the_batch_is_paid_once(run, batching, dear, tmp_path):
    """kill -9 behind the creation; and again in the second run."""
    dear.batch_s = 60.0
    command: list[Any] = [sys.executable, "-c", ASKER, dear.base_url, tmp_path / "run"]
    for _ in range(2):
        n_polled = len(dear.keys)
        process = subprocess.Popen(command, cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"})
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and (not dear.batches or len(dear.keys) < n_polled + 4):
            time.sleep(0.05)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    dear.batch_s = 0.1
    context = run(9.0)
    assert len(cached_ask(batching(), chats(40), 8, context)) == 40
    assert len(dear.batches) == 1 and set(dear.tries.values()) == {1}
    assert is_paid_once(context, dear)
