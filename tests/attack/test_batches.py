"""A batch is created once and paid once, whatever is lost between us and its provider."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from cached_ask import cached_ask
from server import Bill, Deed, Provider

from stratos.core.errors import BudgetError, OverspentError, TeacherError
from stratos.teachers import batch_api
from stratos.teachers.asking import stream_ask
from stratos.teachers.base import Question

pytestmark = [pytest.mark.usefixtures("quick"), pytest.mark.slow]


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch_api, "_LOOKS_S", (0.0, 0.2, 0.2))


def chats(n: int, start: int = 0) -> list[list[dict[str, str]]]:
    return [[{"role": "user", "content": f"word {i}"}] for i in range(start, start + n)]


def batching(teacher, provider: Provider, **changes):
    share = provider.batch_share
    return teacher(
        provider,
        batch=True,
        usd_per_million_batch_input_tokens=share * provider.bill.usd_per_million_input_tokens,
        usd_per_million_batch_output_tokens=share * provider.bill.usd_per_million_output_tokens,
        **changes,
    )


def ctrl_c_behind_a_batch(provider: Provider) -> None:
    """End what waits for a batch as Ctrl-C does, once the batch is there and is asked for."""

    def press() -> None:
        last = time.monotonic() + 60
        while not provider.batches and time.monotonic() < last:
            time.sleep(0.05)
        time.sleep(1.0)
        signal.raise_signal(signal.SIGINT)

    threading.Thread(target=press, daemon=True).start()


LOST = {
    "502": [Deed(status=502)],
    "503 twice": [Deed(status=503)] * 2,
    "cut": [Deed(wire="cut before")],
    "cut within": [Deed(wire="cut within")],
    "garbage": [Deed(body="garbage")],
    "late": [Deed(delay_s=3.0)],
}


@pytest.mark.parametrize("how", LOST)
def test_a_creation_whose_answer_is_lost_is_found_and_not_repeated(run, teacher, how: str) -> None:
    with Provider(bill=Bill(1_000.0, 10_000.0), creates=list(LOST[how])) as provider:
        context = run(10.0)
        asked = batching(teacher, provider, timeout_s=1.0)
        answers = cached_ask(asked, chats(30), 8, context)
        assert [answer.text for answer in answers] == [f"WORD {i}" for i in range(30)]
        assert len(provider.batches) == 1
        assert set(provider.tries.values()) == {1}
        assert context.ledger.spent_usd == pytest.approx(provider.bill.usd)
        assert context.ledger.reserved_usd == 0


def test_minutes_of_502_while_polling_do_not_end_a_batch(run, teacher, said) -> None:
    def polls(seconds: float) -> Deed:
        return Deed(status=502) if 0 <= seconds < 3 else Deed()

    with Provider(bill=Bill(1_000.0, 10_000.0), polls=polls) as provider:
        context = run(10.0)
        answers = cached_ask(batching(teacher, provider, max_retries=0), chats(30), 8, context)
        assert len(answers) == 30 and len(provider.batches) == 1
        assert context.ledger.spent_usd == pytest.approx(provider.bill.usd)
    (warning,) = said
    assert "(HTTP 502). It is asked again" in warning


def test_a_key_that_is_refused_while_polling_does(run, teacher) -> None:
    def polls(seconds: float) -> Deed:
        return Deed(status=401) if seconds > 0.1 else Deed()

    with Provider(bill=Bill(1_000.0, 10_000.0), polls=polls, batch_s=60.0) as provider:
        context = run(10.0)
        began = time.monotonic()
        with pytest.raises(TeacherError, match="wants a key"):
            cached_ask(batching(teacher, provider), chats(30), 8, context)
        assert time.monotonic() - began < 20
        # It goes on at the provider.
        assert context.ledger.spent_usd == 0 and context.ledger.reserved_usd > 0


def test_a_list_that_fails_in_passing_hides_no_earlier_batch(run, teacher) -> None:
    with Provider(bill=Bill(1_000.0, 10_000.0), batch_s=60.0) as provider:
        first = stream_ask(batching(teacher, provider), [Question(c, 8) for c in chats(30)], run(9))
        ctrl_c_behind_a_batch(provider)
        with pytest.raises(KeyboardInterrupt):
            list(first)
        assert len(provider.batches) == 1
        provider.batch_s = 0.1
        fails_until = time.monotonic() + 2
        provider.polls = lambda seconds: Deed(status=502 if time.monotonic() < fails_until else 200)
        context = run(9)
        assert context.ledger.reserved_usd > 0 == context.ledger.spent_usd
        assert len(cached_ask(batching(teacher, provider), chats(30), 8, context)) == 30
        assert len(provider.batches) == 1
        assert context.ledger.spent_usd == pytest.approx(provider.bill.usd)
        assert context.ledger.reserved_usd == 0


def test_what_nobody_asks_any_more_of_a_batch_is_settled_at_its_price_too(run, teacher) -> None:
    """Some answers of it are kept by another run, and one question is left out."""
    with Provider(bill=Bill(1_000.0, 10_000.0), batch_s=60.0) as provider:
        asking = stream_ask(
            batching(teacher, provider), [Question(c, 8) for c in chats(40)], run(9)
        )
        ctrl_c_behind_a_batch(provider)
        with pytest.raises(KeyboardInterrupt):
            list(asking)
        provider.batch_s = 0.1
        context = run(9)
        assert len(cached_ask(batching(teacher, provider), chats(7), 8, context)) == 7
        assert provider.bill.n_answers == 40
        assert context.ledger.spent_usd == pytest.approx(provider.bill.usd)
        assert context.ledger.reserved_usd == 0


def test_a_batch_that_is_gone_counts_in_full(run, teacher) -> None:
    with Provider(bill=Bill(1_000.0, 10_000.0), batch_s=60.0) as provider:
        asking = stream_ask(
            batching(teacher, provider), [Question(c, 8) for c in chats(40)], run(9)
        )
        ctrl_c_behind_a_batch(provider)
        with pytest.raises(KeyboardInterrupt):
            list(asking)
        provider.batches.clear()
        provider.batch_s = 0.1
        context = run(90)
        most = context.ledger.reserved_usd
        assert len(cached_ask(batching(teacher, provider), chats(7), 8, context)) == 7
        assert context.ledger.spent_usd == pytest.approx(most + provider.bill.usd)


def test_batches_of_answers_past_their_limit_end_with_what_is_passed(run, teacher) -> None:
    deed = Deed(n_tokens=90)
    with Provider(lambda text, n: deed, bill=Bill(1_000.0, 10_000.0)) as provider:
        context = run(2.0)
        with pytest.raises(OverspentError, match=r"limits\.budget_usd=2 is passed by up to \$"):
            cached_ask(batching(teacher, provider), chats(40), 8, context, cut=True)
        assert provider.bill.usd - 1e-9 <= context.ledger.spent_usd
        again = run(2.0)
        with pytest.raises(BudgetError):
            list(stream_ask(batching(teacher, provider), [Question(chats(99)[98], 8)], again))
        assert len(provider.batches) == 1


ASKER = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[3])
from test_batches import chats
from stratos.core.context import Context
from stratos.ledger import Ledger
from stratos.teachers.asking import ask_questions
from stratos.teachers.base import Question
from stratos.teachers.openai import OpenAITeacher
folder = Path(sys.argv[2])
teacher = OpenAITeacher(
    "parrot", "parrot", base_url=sys.argv[1], api_key_env=None, batch=True,
    usd_per_million_input_tokens=1000.0, usd_per_million_output_tokens=10000.0,
    usd_per_million_batch_input_tokens=500.0, usd_per_million_batch_output_tokens=5000.0,
)
context = Context(folder, folder / "cache", Ledger(folder / "ledger.jsonl", 9.0))
ask_questions(teacher, [Question(one, 8) for one in chats(40)], context)
"""


@pytest.mark.slow
@pytest.mark.kill
def test_killed_where_nothing_can_be_done_the_batch_is_paid_once(
    run, teacher, tmp_path: Path
) -> None:
    """kill -9 behind the creation; and again in the second run."""
    folder = tmp_path / "run"
    with Provider(bill=Bill(1_000.0, 10_000.0), batch_s=60.0) as provider:
        here = str(Path(__file__).parent)
        command = [sys.executable, "-c", ASKER, provider.base_url, str(folder), here]
        for _ in range(2):
            n_polled = len(provider.keys)
            one = subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": "1"})
            deadline = time.monotonic() + 60
            while time.monotonic() < deadline and (
                not provider.batches or len(provider.keys) < n_polled + 4
            ):
                time.sleep(0.05)
            os.kill(one.pid, signal.SIGKILL)
            one.wait()
        provider.batch_s = 0.1
        context = run(9.0)
        assert len(cached_ask(batching(teacher, provider), chats(40), 8, context)) == 40
        assert len(provider.batches) == 1 and set(provider.tries.values()) == {1}
        assert context.ledger.spent_usd == pytest.approx(provider.bill.usd)
        assert context.ledger.reserved_usd == 0
