"""One model in several places: shared evenly, outliving what dies, and one teacher to the cache."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from stratos.core.errors import BudgetError, TeacherError
from stratos.deploy.bundle_server import serve_arguments
from stratos.deploy.server import HOST, free_port, serving
from stratos.ledger import Ledger
from stratos.records import ModelCard
from stratos.teachers import scheduler
from stratos.teachers.asking import going_down, stream_ask, stream_down
from stratos.teachers.base import LENGTH, TOO_LONG, Answer, Question
from stratos.teachers.cost_estimate import expect
from stratos.teachers.openai import OpenAITeacher
from stratos.teachers.reply import to_answer
from stratos.teachers.words import NoConnection, WrongKey
from tests.teachers.chat_server import ChatServer
from tests.teachers.echo_teacher import EchoTeacher
from tests.teachers.provider import EVERY_FAULT, Provider, Reply, always
from tests.teachers.questions import are_right, cached_ask, chat, chats, parrot, questions
from tests.teachers.real_teacher import needs_smollm2, smollm2

AGAIN = " Its questions go to the other endpoints. It is tried again now and then."


@contextmanager
def process(log: Path, *arguments: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A server that can be killed; gives it and its URL."""
    script = Path(__file__).parent / "provider.py"
    command = [sys.executable, str(script), "--log", str(log), *arguments]
    running = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert running.stdout is not None
        yield running, running.stdout.readline().strip()
    finally:
        running.kill()
        running.wait()


@pytest.fixture
def pair() -> Iterator[tuple[ChatServer, ChatServer]]:
    with ChatServer() as first, ChatServer() as second:
        yield first, second


def test_endpoints_share_evenly_with_all_of_their_room_in_use(context):
    all_at_once = threading.Barrier(3 * 4, timeout=60)

    def gate(number: int) -> None:
        if number > 1:  # the first try at each goes alone
            all_at_once.wait()

    with ExitStack() as stack:
        servers = [stack.enter_context(ChatServer()) for _ in range(3)]
        for server in servers:
            server.gate = gate
        teacher = parrot(*servers, timeout_s=60, concurrency=4)
        assert are_right(cached_ask(teacher, chats(3 + 2 * 12), 8, context))
        assert [server.most_in_flight for server in servers] == [4, 4, 4]
        assert [len(server.requests) for server in servers] == [9, 9, 9]


def test_the_slow_one_is_asked_less(context, pair):
    slow, fast = pair

    def gate(number: int) -> None:
        while len(fast.requests) < 30:
            time.sleep(0.01)

    slow.gate = gate
    teacher = parrot(slow, fast, timeout_s=60, concurrency=4)
    assert are_right(cached_ask(teacher, chats(40), 8, context))
    assert len(fast.requests) >= 30 and len(fast.requests) + len(slow.requests) == 40


@pytest.mark.kill
@pytest.mark.parametrize("max_retries", [0, 8])
@pytest.mark.parametrize("n_servers", [2, 3])
def test_one_is_killed_in_the_middle(tmp_path, context, warnings, n_servers, max_retries):
    n, log = 200, tmp_path / "tried"
    context = replace(context, ledger=Ledger(tmp_path / "ledger.jsonl", 1.0))
    with ExitStack() as stack:
        killed, url = stack.enter_context(process(log, "--delay-s", "0.03"))
        survivors = [
            stack.enter_context(Provider(always(delay_s=0.03), models=()))
            for _ in range(n_servers - 1)
        ]
        prices = {"usd_per_million_input_tokens": 1.0, "usd_per_million_output_tokens": 1.0}
        teacher = parrot(url, *survivors, max_retries=max_retries, concurrency=4, **prices)
        answers = []
        for answer in stream_ask(teacher, questions(n), context):
            answers.append(answer)
            if len(answers) == 60:
                killed.kill()
    assert len(answers) == n and are_right(answers)
    tried = log.read_text().splitlines()
    assert len(tried) == len(set(tried)) > 10
    # At the others each question was asked once; what the dead one had answered was not.
    tries = sum((server.tries for server in survivors), start=Counter[str]())
    assert set(tries.values()) == {1}
    assert len(set(tried) & tries.keys()) <= 4
    # What was cut counts at its ceiling; all else is paid once.
    paid = n * (6 + 2) * 1e-6
    assert paid - 1e-9 <= context.ledger.spent_usd <= paid + 4 * 40e-6
    assert context.ledger.reserved_usd == 0
    [warning] = warnings
    assert warning.startswith(f"Teacher parrot: {url} keeps failing (") and warning.endswith(AGAIN)


def test_a_pause_that_one_asks_for_holds_back_that_one(context, warnings):
    times: list[list[float]] = [[], []]

    def busy(text: str, n_tries: int) -> Reply:
        times[0].append(time.monotonic())
        return Reply(status=429, retry_after="1.5") if len(times[0]) == 1 else Reply(delay_s=0.01)

    def idle(text: str, n_tries: int) -> Reply:
        times[1].append(time.monotonic())
        return Reply(delay_s=0.01)

    with Provider(busy, models=()) as first, Provider(idle, models=()) as second:
        teacher = parrot(first, second, concurrency=1)
        with closing(stream_ask(teacher, questions(5000), context)) as asking:
            for number, answer in enumerate(asking):
                assert answer.text == f"WORD {number}"
                if len(times[0]) > 1:
                    break
        teacher.close()
    began, ended = times[0][:2]
    assert ended - began >= 1.5
    assert sum(began < when < ended for when in times[1]) >= 4
    assert warnings == []


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (404, "has the model parrot-large, and answers 404 to the request. Check"),
        (401, "refused the key in PARROT_KEY. Type: export PARROT_KEY=<a valid key>"),
    ],
)
def test_one_that_refuses_key_or_model_is_left_out(context, warnings, pair, status, words):
    good, bad = pair
    good.delay_s = 0.01
    bad.faults.extend([status] * 50)
    teacher = parrot(bad, good, concurrency=4)
    assert are_right(cached_ask(teacher, chats(40), 8, context))
    assert are_right(cached_ask(teacher, chats(60), 8, context))
    # Its list of models, which is right, may have opened it; what follows finds it left out.
    assert len(bad.requests) <= 4 and len(good.requests) == 60
    [warning] = warnings
    assert warning.startswith(f"Teacher parrot: {bad.base_url} {words[:20]}")
    assert warning.endswith("questions go to the other endpoints.")


def test_all_that_refuse_the_key_stop_the_run_after_one_try_each(context, pair):
    teacher = parrot(*pair, api_key_env=None)
    assert teacher.unreachable() == WrongKey(pair[0].base_url, None)
    with pytest.raises(TeacherError, match=r"wants a key\. Name its variable"):
        cached_ask(teacher, chats(40), 8, context)
    assert [len(server.requests) for server in pair] == [1, 1]


def test_a_refused_prompt_is_no_fault_of_the_endpoint(context, pair):
    for server in pair:
        server.faults.append(400)
    with pytest.raises(TeacherError, match="refused a prompt of 6 bytes"):
        cached_ask(parrot(*pair), chats(1), 8, context)
    assert sum(len(server.requests) for server in pair) == 1


def test_what_one_endpoint_finds_too_long_another_may_read(context, warnings, pair):
    short = (400, {}, "This model's maximum context length is 8 tokens.")
    first, second = pair
    first.faults.extend([short] * 100)
    teacher = parrot(first, second, concurrency=4)
    answers = cached_ask(teacher, chats(20), 8, context)
    assert len(answers) == 20 and are_right(answers)
    assert first.requests and warnings == []
    second.faults.extend([short] * 100)
    both = cached_ask(teacher, chats(20, 100), 8, context)
    assert {answer.finish for answer in both} == {TOO_LONG}
    assert len(warnings) == 1


def test_all_down_is_said_after_the_retries(context):
    with Provider(always(status=503)) as first, Provider(always(status=503)) as second:
        teacher = parrot(first, second, max_retries=2, concurrency=4)
        with pytest.raises(TeacherError) as caught:
            cached_ask(teacher, chats(500), 8, context)
        text = str(caught.value)
        assert "after 3 tries (1 other endpoint neither)" in text
        assert first.n_tries + second.n_tries <= 2 * 2 * 3


def test_one_that_is_down_at_first_is_left_out_and_comes_back(
    tmp_path, context, warnings, monkeypatch
):
    monkeypatch.setattr(scheduler, "_SHORTEST_PAUSE_S", 0.2)
    port = free_port()
    url = f"http://127.0.0.1:{port}/v1"
    with Provider(always(delay_s=0.02)) as up:
        teacher = parrot(url, up, concurrency=2)
        assert teacher.unreachable() is None
        assert are_right(cached_ask(teacher, chats(10), 8, context))
        assert warnings == [f"Teacher parrot: {NoConnection(url)}{AGAIN}"]
        with Provider(always(delay_s=0.02), port) as back:
            assert are_right(cached_ask(teacher, chats(200), 8, context))
        assert back.n_tries > 20
    assert len(warnings) == 1


def test_places_of_one_model_are_one_teacher_to_the_cache(context):
    """What was kept under one place is found under each that was ever named beside it."""
    with ExitStack() as stack:
        a, b, c = [stack.enter_context(Provider()) for _ in range(3)]

        def n_asked(n: int, *servers: Provider) -> int:
            before = sum(server.n_tries for server in (a, b, c))
            teacher = parrot(*servers)
            priced = replace(teacher, usd_per_million_input_tokens=1.0)
            expected = expect(priced, questions(n), context)
            assert are_right(cached_ask(teacher, chats(n), 8, context))
            n_now = sum(server.n_tries for server in (a, b, c)) - before
            assert expected.n_asked == n_now
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
        elsewhere = parrot(a, model="parrot-small")
        cached_ask(elsewhere, chats(3), 8, context)
    assert a.tries["word 0"] == 2


def test_settings_are_checked():
    with pytest.raises(ValueError, match="base_url wants one URL, or a list of several"):
        parrot("http://a/v1", "http://a/v1/")
    with pytest.raises(ValueError, match="base_url wants one URL"):
        parrot()
    with pytest.raises(ValueError, match="batch=true hands questions in at one endpoint"):
        parrot("http://a/v1", "http://b/v1", batch=True)
    teacher = parrot("http://b/v1", "http://a/v1", max_requests_per_minute=60.0)
    assert teacher.card().max_requests_per_minute == 120.0
    assert teacher.identity() == parrot("http://a/v1").identity()


# An answer that was cut is recognised whatever its endpoint calls that, or if it says nothing.

QUESTION = Question([{"role": "user", "content": "How many apples are there?"}], 100)
TEXT = "".join(f"We add the apples of bag {i}. " for i in range(15))[:400]


def answer(finish: Any, usage: Any, text: str | None = TEXT, **message: Any) -> Answer:
    choice = {"finish_reason": finish, "message": {"content": text, **message}}
    return to_answer({"choices": [choice], "usage": usage}, QUESTION, 1.0)


def took(n_tokens: int) -> dict[str, int]:
    return {"prompt_tokens": 20, "completion_tokens": n_tokens}


def test_calls_that_an_endpoint_reads_out_of_an_answer_are_in_its_text():
    def call(name: Any, arguments: Any) -> dict[str, Any]:
        return {"type": "function", "function": {"name": name, "arguments": arguments}}

    calls = [call("find", '{"city": "Rome"}'), call("list", ""), call(None, "{}"), "x"]
    for content in (None, "Let me see."):
        assert answer("tool_calls", took(9), content, tool_calls=calls).text.splitlines() == [
            *([content] if content else []),
            "<tool_call>", '{"name": "find", "arguments": {"city": "Rome"}}', "</tool_call>",
            "<tool_call>", '{"name": "list", "arguments": {}}', "</tool_call>",
        ]  # fmt: skip
    assert answer("stop", took(9), "", tool_calls=None).text == ""


@pytest.mark.parametrize(
    "finish", ["length", "max_tokens", "MAX_TOKENS", "max_output_tokens", "model_length"]
)
def test_providers_have_words_of_their_own_for_it(finish):
    for usage in (took(100), took(70), None):
        assert answer(finish, usage).finish == LENGTH


@pytest.mark.parametrize("finish", [None, "", "stop", "eos"])
def test_the_tokens_tell_where_the_reason_does_not(finish):
    for n_tokens in (100, 101):
        assert answer(finish, took(n_tokens)).finish == LENGTH
    assert answer(finish, took(99)).finish == (finish or "")


def test_what_ends_by_itself_beyond_the_limit_is_whole():
    assert answer("stop", took(150)).finish == "stop"
    assert answer(None, took(150)).finish == LENGTH


def test_tokens_that_are_counted_from_bytes_show_no_cut():
    for finish in ("stop", None):
        cut = answer(finish, None)
        assert (cut.output_tokens, cut.is_estimated, cut.finish) == (100, True, finish or "")


def test_reasoning_that_is_not_shown_counts_as_all_that_was_allowed():
    assert answer("stop", None, "3").output_tokens == 1
    assert answer("stop", None, "3", thinking="so " * 20).output_tokens == 61
    hidden = answer("stop", None, "3", reasoning_details=[{"type": "reasoning.encrypted"}])
    assert (hidden.output_tokens, hidden.is_estimated) == (100, True)
    # Where there is no text, perhaps all of it was reasoning.
    assert answer("stop", None, "").output_tokens == 100
    assert answer("stop", took(0), "").output_tokens == 0


# Where the money for one teacher ends, the next cheaper one goes on.


@dataclass
class Priced(EchoTeacher):
    """An echo at a price for a million tokens."""

    usd: float = 0.0
    reason: str | None = None

    def card(self) -> ModelCard:
        prices = {"usd_per_million_input_tokens": self.usd}
        return replace(super().card(), **prices, usd_per_million_output_tokens=self.usd)

    def identity(self) -> str:
        return self.name

    def unreachable(self) -> str | None:
        return self.reason


def test_the_next_are_those_that_cost_less_and_can_be_asked():
    dear, middle, free = Priced("dear", usd=9.0), Priced("middle", usd=3.0), Priced("free")
    absent, dearer = Priced("absent", usd=1.0, reason="no key"), Priced("dearer", usd=20.0)
    teachers = going_down(dear, [free, dearer, absent, dear, middle])
    assert [teacher.name for teacher in teachers] == ["dear", "middle", "free"]


def test_the_rest_is_answered_by_the_next(context, warnings):
    poor = replace(context, ledger=Ledger(context.run_dir / "l", 0.001))
    teachers = [Priced("dear", usd=10.0), Priced("cheap", usd=0.1)]
    seen: list[tuple[int, int]] = []
    got = list(stream_down(teachers, questions(40), poor, tick=lambda d, t: seen.append((d, t))))
    assert [answer.text for _, answer in got] == [f"word {i}" for i in range(40)]
    names = [teacher.name for teacher, _ in got]
    n_dear = names.count("dear")
    assert 0 < n_dear < 40 and names == ["dear"] * n_dear + ["cheap"] * (40 - n_dear)
    assert poor.ledger.spent_usd <= 0.001
    assert poor.ledger.cut_at_usd == 0.001, "more money may ask the dear one again"
    assert seen[-1] == (40, 40)
    assert warnings[0].startswith(f"Teacher cheap goes on with {40 - n_dear} of 40 questions: ")
    assert len(warnings) == 1


def test_the_last_one_stops(context):
    poor = replace(context, ledger=Ledger(context.run_dir / "l", 0.001))
    with pytest.raises(BudgetError):
        list(stream_down([Priced("dear", usd=10.0)], questions(99), poor))


# A real server behind the faults: transformers serve with SmolLM2 on loopback.

QUESTIONS = ["The capital of France is", "2 + 2 =", "Say hello.", "A cat is an", "The sky is"]


CHATS = [chat(text) for text in QUESTIONS]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    loaded, tokenizer = smollm2().load()
    loaded.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def upstream(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    port = free_port()
    log = tmp_path_factory.mktemp("log") / "server.log"
    arguments = serve_arguments(str(model), HOST, port)
    with serving(arguments, port=port, log_path=log, start_seconds=300) as running:
        yield f"{running.url}/v1"


@needs_smollm2
@pytest.mark.slow
def test_a_real_model_is_asked_through_every_kind_of_fault(upstream, model, context):
    def rule(text: str, n_tries: int) -> Reply:
        faults = EVERY_FAULT[QUESTIONS.index(text) :: len(QUESTIONS) * 8]
        return faults[n_tries - 1] if n_tries <= len(faults) else Reply()

    fields = {"model": str(model), "api_key_env": None, "timeout_s": 120.0}
    direct = OpenAITeacher("smollm2", base_url=upstream, **fields)
    assert direct.unreachable() is None
    plain = direct.ask(CHATS, 6)
    local = smollm2().ask(CHATS, 6)
    assert [answer.text.strip() for answer in plain] == [answer.text.strip() for answer in local]
    with Provider(rule, upstream=upstream) as server:
        teacher = OpenAITeacher("smollm2", base_url=server.base_url, concurrency=2, **fields)
        answers = cached_ask(teacher, CHATS, 6, context)
    assert [answer.text for answer in answers] == [answer.text for answer in plain]
    assert [answer.input_tokens for answer in answers] == [answer.input_tokens for answer in local]
    assert all(0 < answer.output_tokens <= 6 for answer in answers)
    assert set(server.answered.values()) == {1}
    assert min(server.tries.values()) >= 4


@pytest.mark.slow
@needs_smollm2
def test_a_model_that_the_server_does_not_have(upstream, model):
    absent = OpenAITeacher(
        "other", f"{model}-x", base_url=upstream, api_key_env=None, max_retries=0
    )
    with pytest.raises(
        TeacherError, match=r"has no model .*-x\..* Choose one with teacher\.model="
    ):
        absent.ask(CHATS[:1], 4)
