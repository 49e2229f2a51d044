"""One model in several places: shared evenly, outliving what dies, and one teacher to the cache."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from cached_ask import cached_ask
from chat_server import KEY, ChatServer
from fault_server import Fault, FaultServer

from stratos.core.context import Context
from stratos.core.errors import TeacherError
from stratos.deploy.server import free_port
from stratos.ledger import Ledger
from stratos.teachers import scheduler
from stratos.teachers.asking import stream_ask
from stratos.teachers.base import TOO_LONG, Answer, Question
from stratos.teachers.cost_estimate import expect
from stratos.teachers.openai import OpenAITeacher
from stratos.teachers.words import NoConnection, WrongKey

AGAIN = " Its questions go to the other endpoints. It is tried again now and then."


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scheduler, "_SHORTEST_WAIT_S", 0.02)
    monkeypatch.setenv("PARROT_KEY", KEY)


def parrot(*urls: str, **changes) -> OpenAITeacher:
    fields = {"model": "parrot-large", "api_key_env": None, "timeout_s": 10.0, "concurrency": 4}
    return OpenAITeacher(name="parrot", base_url=urls, **fields | changes)


def chats(n: int, start: int = 0) -> list[list[dict[str, str]]]:
    return [[{"role": "user", "content": f"word {i}"}] for i in range(start, start + n)]


def after(seconds: float) -> Callable[[str, int], Fault]:
    return lambda text, n_tries: Fault(delay_s=seconds)


def are_right(answers: list[Answer]) -> bool:
    return [answer.text for answer in answers] == [f"WORD {i}" for i in range(len(answers))]


@contextmanager
def process(log: Path, *arguments: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A server that can be killed; gives it and its URL."""
    script = Path(__file__).parent / "fault_server.py"
    command = [sys.executable, str(script), "--log", str(log), *arguments]
    running = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert running.stdout is not None
        yield running, running.stdout.readline().strip()
    finally:
        running.kill()
        running.wait()


def test_endpoints_share_evenly_with_all_of_their_room_in_use(context: Context) -> None:
    all_at_once = threading.Barrier(3 * 4, timeout=60)

    def gate(number: int) -> None:
        if number > 1:  # the first try at each goes alone
            all_at_once.wait()

    with ExitStack() as stack:
        servers = [stack.enter_context(ChatServer()) for _ in range(3)]
        for server in servers:
            server.gate = gate
        urls = [server.base_url for server in servers]
        teacher = parrot(*urls, api_key_env="PARROT_KEY", timeout_s=60)
        assert are_right(cached_ask(teacher, chats(3 + 2 * 12), 8, context))
        assert [server.most_in_flight for server in servers] == [4, 4, 4]
        assert [len(server.requests) for server in servers] == [9, 9, 9]


def test_the_slow_one_is_asked_less(context: Context) -> None:
    with ChatServer() as slow, ChatServer() as fast:

        def gate(number: int) -> None:
            while len(fast.requests) < 30:
                time.sleep(0.01)

        slow.gate = gate
        urls = slow.base_url, fast.base_url
        teacher = parrot(*urls, api_key_env="PARROT_KEY", timeout_s=60)
        assert are_right(cached_ask(teacher, chats(40), 8, context))
        assert len(fast.requests) >= 30 and len(fast.requests) + len(slow.requests) == 40


@pytest.mark.kill
@pytest.mark.parametrize("max_retries", [0, 8])
@pytest.mark.parametrize("n_servers", [2, 3])
def test_one_is_killed_in_the_middle(
    tmp_path: Path, context: Context, said: list[str], n_servers: int, max_retries: int
) -> None:
    n, log = 200, tmp_path / "tried"
    context = replace(context, ledger=Ledger(tmp_path / "ledger.jsonl", 1.0))
    with ExitStack() as stack:
        killed, url = stack.enter_context(process(log, "--delay-s", "0.03"))
        others = [
            stack.enter_context(FaultServer(after(0.03))) for _ in range(n_servers - 1)
        ]  # fmt: skip
        teacher = parrot(
            url,
            *(server.base_url for server in others),
            max_retries=max_retries,
            usd_per_million_input_tokens=1.0,
            usd_per_million_output_tokens=1.0,
        )
        answers = []
        for answer in stream_ask(teacher, [Question(chat, 8) for chat in chats(n)], context):
            answers.append(answer)
            if len(answers) == 60:
                killed.kill()
    assert len(answers) == n and are_right(answers)
    tried = log.read_text().splitlines()
    assert len(tried) == len(set(tried)) > 10
    # At the others each question was asked once; what the dead one had answered was not.
    asked = sum((server.tries for server in others), start=type(others[0].tries)())
    assert set(asked.values()) == {1}
    assert len(set(tried) & asked.keys()) <= 4
    # What was cut counts at its ceiling; all else is paid once.
    paid = n * 25e-6
    assert paid - 1e-9 <= context.ledger.spent_usd <= paid + 4 * 40e-6
    assert context.ledger.reserved_usd == 0
    [told] = said
    assert told.startswith(f"Teacher parrot: {url} keeps failing (") and told.endswith(AGAIN)


def test_a_pause_that_one_asks_for_holds_back_that_one(context: Context, said: list[str]) -> None:
    times: list[list[float]] = [[], []]

    def busy(text: str, n_tries: int) -> Fault:
        times[0].append(time.monotonic())
        return Fault(status=429, retry_after="1.5") if len(times[0]) == 1 else Fault(delay_s=0.01)

    def idle(text: str, n_tries: int) -> Fault:
        times[1].append(time.monotonic())
        return Fault(delay_s=0.01)

    with FaultServer(busy) as one, FaultServer(idle) as two:
        teacher = parrot(one.base_url, two.base_url, concurrency=1)
        questions = (Question(chat, 8) for chat in chats(5000))
        with closing(stream_ask(teacher, questions, context)) as asking:
            for number, answer in enumerate(asking):
                assert answer.text == f"WORD {number}"
                if len(times[0]) > 1:
                    break
        teacher.close()
    began, ended = times[0][:2]
    assert ended - began >= 1.5
    assert sum(began < when < ended for when in times[1]) >= 4
    assert said == []


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (404, "has the model parrot-large, and answers 404 to the request. Check"),
        (401, "refused the key in PARROT_KEY. Type: export PARROT_KEY=<a valid key>"),
    ],
)
def test_one_that_refuses_key_or_model_is_left_out(
    context: Context, said: list[str], status: int, words: str
) -> None:
    with ChatServer() as good, ChatServer() as bad:
        good.delay_s = 0.01
        bad.faults.extend([status] * 50)
        teacher = parrot(bad.base_url, good.base_url, api_key_env="PARROT_KEY")
        assert are_right(cached_ask(teacher, chats(40), 8, context))
        assert are_right(cached_ask(teacher, chats(60), 8, context))
        # Its list of models, which is right, may have opened it; what follows finds it left out.
        assert len(bad.requests) <= 4 and len(good.requests) == 60
    [told] = said
    assert told.startswith(f"Teacher parrot: {bad.base_url} {words[:20]}")
    assert told.endswith("questions go to the other endpoints.")


def test_all_that_refuse_the_key_stop_the_run_after_one_try_each(context: Context) -> None:
    with ChatServer() as one, ChatServer() as two:
        teacher = parrot(one.base_url, two.base_url, api_key_env=None)
        assert teacher.unreachable() == WrongKey(one.base_url, None)
        with pytest.raises(TeacherError, match=r"wants a key\. Name its variable"):
            cached_ask(teacher, chats(40), 8, context)
        assert len(one.requests) == len(two.requests) == 1


def test_a_refused_prompt_is_no_fault_of_the_endpoint(context: Context) -> None:
    with ChatServer() as one, ChatServer() as two:
        one.faults.append(400)
        two.faults.append(400)
        teacher = parrot(one.base_url, two.base_url, api_key_env="PARROT_KEY")
        with pytest.raises(TeacherError, match="refused a prompt of 6 bytes"):
            cached_ask(teacher, chats(1), 8, context)
        assert len(one.requests) + len(two.requests) == 1


def test_what_one_endpoint_finds_too_long_another_may_read(
    context: Context, said: list[str]
) -> None:
    short = (400, {}, "This model's maximum context length is 8 tokens.")
    with ChatServer() as one, ChatServer() as two:
        one.faults.extend([short] * 100)
        teacher = parrot(one.base_url, two.base_url, api_key_env="PARROT_KEY")
        answers = cached_ask(teacher, chats(20), 8, context)
        assert [answer.text for answer in answers] == [f"WORD {i}" for i in range(20)]
        assert one.requests and said == []
        two.faults.extend([short] * 100)
        both = cached_ask(teacher, chats(20, 100), 8, context)
        assert {answer.finish for answer in both} == {TOO_LONG}
        assert len(said) == 1


def test_all_down_is_said_after_the_retries(context: Context) -> None:
    def down(text: str, n_tries: int) -> Fault:
        return Fault(status=503)

    with FaultServer(down) as one, FaultServer(down) as two:
        with pytest.raises(TeacherError) as caught:
            cached_ask(parrot(one.base_url, two.base_url, max_retries=2), chats(500), 8, context)
        text = str(caught.value)
        assert "after 3 tries (1 other endpoint neither)" in text
        assert sum((one.tries + two.tries).values()) <= 2 * 2 * 3


def test_one_that_is_down_at_first_is_left_out_and_comes_back(
    tmp_path: Path, context: Context, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scheduler, "_SHORTEST_PAUSE_S", 0.2)
    port = free_port()
    url = f"http://127.0.0.1:{port}/v1"
    with FaultServer(after(0.02)) as up:
        teacher = parrot(url, up.base_url, concurrency=2)
        assert teacher.unreachable() is None
        assert are_right(cached_ask(teacher, chats(10), 8, context))
        assert said == [f"Teacher parrot: {NoConnection(url)}{AGAIN}"]
        with FaultServer(after(0.02), port=port) as back:
            assert are_right(cached_ask(teacher, chats(200), 8, context))
        assert sum(back.tries.values()) > 20
    assert len(said) == 1


def test_places_of_one_model_are_one_teacher_to_the_cache(context: Context) -> None:
    """What was kept under one place is found under each that was ever named beside it."""
    with ExitStack() as stack:
        a, b, c = [stack.enter_context(FaultServer(after(0))) for _ in range(3)]

        def n_asked(n: int, *servers: FaultServer) -> int:
            before = sum(sum(one.tries.values()) for one in (a, b, c))
            teacher = parrot(*(server.base_url for server in servers))
            questions = [Question(chat, 8) for chat in chats(n)]
            told = expect(replace(teacher, usd_per_million_input_tokens=1.0), questions, context)
            assert are_right(cached_ask(teacher, chats(n), 8, context))
            n_now = sum(sum(one.tries.values()) for one in (a, b, c)) - before
            assert told.n_asked == n_now
            teacher.close()
            return n_now

        assert n_asked(10, a) == 10
        assert n_asked(5, b) == 5  # nobody has said yet that they serve the same
        assert n_asked(20, a, b) == 10
        assert n_asked(20, b, a) == 0
        assert n_asked(20, a) == 0
        assert n_asked(20, b) == 0
        assert n_asked(20, c) == 20
        assert n_asked(30, c, b) == 10
        assert n_asked(30, a) == 0
        elsewhere = parrot(a.base_url, model="parrot-small")
        cached_ask(elsewhere, chats(3), 8, context)
    assert a.tries["word 0"] == 2


def test_settings_are_checked() -> None:
    with pytest.raises(ValueError, match="base_url wants one URL, or a list of several"):
        parrot("http://a/v1", "http://a/v1/")
    with pytest.raises(ValueError, match="base_url wants one URL"):
        parrot()
    with pytest.raises(ValueError, match="batch=true hands questions in at one endpoint"):
        parrot("http://a/v1", "http://b/v1", batch=True)
    teacher = parrot("http://b/v1", "http://a/v1", max_requests_per_minute=60.0)
    assert teacher.card().max_requests_per_minute == 120.0
    assert teacher.identity() == parrot("http://a/v1").identity()
