"""What questions will cost is said with a range before the first, and too much is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from stratos.config import EvaluateConfig, LimitsConfig
from stratos.core.context import Context
from stratos.core.errors import BudgetError, TeacherError
from stratos.core.intervals import wilson
from stratos.ledger import Ledger
from stratos.records import ModelCard, TeacherProbe
from stratos.tasks.base import Message
from stratos.teachers import cost_estimate
from stratos.teachers.asking import stream_ask, unread
from stratos.teachers.base import TOO_LONG, Question
from stratos.teachers.cost_estimate import expect, n_allowed, n_expected, parts_in_time
from stratos.teachers.openai import OpenAITeacher
from stratos.teachers.words import LongPrompt, NotRead
from tests.stub_task import StubTask
from tests.teachers import questions as made
from tests.teachers.chat_server import ChatServer
from tests.teachers.questions import are_right, cached_ask, chat

PRICES = {"usd_per_million_input_tokens": 10.0, "usd_per_million_output_tokens": 100.0}
USD = (100 * 10 + 10 * 100) / 1e6
"""Of one answer of the server."""


def parrot(server: ChatServer, **changes: Any) -> OpenAITeacher:
    return made.parrot(server, **PRICES | changes)


def chats(n: int, start: int = 0) -> list[list[Message]]:
    """Return prompts that are all of one length."""
    return made.chats(n, 1000 + start)


def questions(n: int, start: int = 0) -> list[Question]:
    return [Question(chat, 20) for chat in chats(n, start)]


@pytest.fixture
def with_usd(context: Context) -> Callable[[float], Context]:
    """What makes the context of a run with a budget of its own."""
    return lambda usd: replace(context, ledger=Ledger(context.run_dir / "poor.jsonl", usd))


def test_the_range_holds_the_price_and_narrows_with_what_is_known(server, context):
    teacher = parrot(server)
    before = expect(teacher, questions(100), context)
    assert (before.n_questions, before.n_asked, before.left_usd) == (100, 100, None)
    assert before.usd.low < before.usd.mean < before.usd.high
    cached_ask(teacher, chats(50), 20, context)
    spent = context.ledger.spent_usd
    after = expect(teacher, questions(100), context)
    assert (after.n_asked, after.n_kept) == (50, 50)
    assert after.text().endswith("; 50 more are answered already, for $0")
    assert after.usd.mean == pytest.approx(spent)  # the other half is like the first
    assert after.usd.low <= spent <= after.usd.high + 1e-12
    assert after.usd.high - after.usd.low < before.usd.high - before.usd.low
    assert expect(teacher, questions(50), context).usd.high == 0
    lines = [json.loads(line) for line in context.ledger.path.read_text().splitlines()]
    foretold = [line for line in lines if line["kind"] == "expected"]
    assert foretold[0]["n"] == {"questions": 100}
    assert foretold[0]["range_usd"][0] < foretold[0]["expected_usd"] < foretold[0]["range_usd"][1]
    assert Ledger(context.ledger.path).spent_usd == pytest.approx(spent)


def test_more_than_the_budget_is_refused_with_what_would_fit(server, with_usd):
    poor = with_usd(0.005)
    with pytest.raises(BudgetError) as caught:
        expect(parrot(server), questions(100), poor).check()
    assert server.requests == []
    message = str(caught.value)
    assert message.startswith("Teacher parrot: 100 questions are ")
    assert "$0.0050 is left" in message and "about 4 of them" in message
    cached_ask(parrot(server), chats(2), 20, poor)
    assert 0 < poor.ledger.spent_usd <= 0.005


def test_questions_that_are_alike_and_a_sample_foretell_the_whole(server, context):
    notes: list[str] = []
    context = replace(context, note=notes.append)
    teacher = parrot(server)
    guess = expect(teacher, questions(10), context, n_questions=1000)
    assert (guess.n_questions, guess.n_asked, guess.is_guess) == (1000, 1000, True)
    assert guess.usd.mean == pytest.approx(100 * expect(teacher, questions(10), context).usd.mean)
    cached_ask(teacher, chats(50, 5000), 30, context)  # of another length, as a probe's may be
    alike = [Question(chat, 30) for chat in chats(50, 5000)]
    expected = expect(teacher, questions(10), context, like=alike, n_questions=1000)
    assert (expected.n_asked, expected.is_guess) == (1000, False)
    assert expected.usd.mean == pytest.approx(20 * context.ledger.spent_usd)
    assert notes[-1] == f"{expected.text()}."
    assert len(notes) == 3


def test_what_costs_nothing_is_never_refused(server, with_usd):
    free = parrot(server, usd_per_million_input_tokens=0.0, usd_per_million_output_tokens=0.0)
    poor = with_usd(0.0)
    assert expect(free, questions(9), poor).usd.high == 0
    assert len(cached_ask(free, chats(9), 20, poor)) == 9


def test_a_prompt_beyond_the_context_is_neither_asked_nor_paid_for(server, context):
    teacher = parrot(server, facts={"context_length": 1000})
    long = [chat("Which of these is it?\n" + "word " * 2000)]
    prompts = chats(3) + long + chats(3, 10)
    answers = cached_ask(teacher, prompts, 20, context)
    assert [answer.finish == TOO_LONG for answer in answers] == [False] * 3 + [True] + [False] * 3
    assert answers[3].text == "" and answers[4].text == "WORD 1010"
    reason = unread(teacher, [Question(answer, 20) for answer in prompts], answers)
    about = Question(long[0], 20).about
    why = LongPrompt(about, 1252, 20, 1000, n_bytes=10_022)
    assert reason == NotRead("parrot", 1, 7, why)
    assert len(server.requests) == 6
    assert context.ledger.reserved_usd == 0
    with pytest.raises(TeacherError, match=r"1,000 tokens\. Shorten it, or choose a teacher with"):
        teacher.ask(long, 20)
    assert all(answer.cached for answer in cached_ask(teacher, chats(3), 20, context))


def test_a_prompt_that_the_endpoint_finds_too_long_is_said(server, context):
    server.faults.append(400)
    with pytest.raises(
        TeacherError,
        match=r'a prompt of 9 bytes with an answer of up to 20 tokens, that of "word 1000" \(',
    ):
        cached_ask(parrot(server), chats(1), 20, context)
    assert context.ledger.spent_usd == 0


@pytest.mark.parametrize(
    "says",
    [
        "This model's maximum context length is 8192 tokens. However, you requested 9000 tokens",
        "The decoder prompt (length 9000) is longer than the maximum model length of 8192",
        "The input (9000 tokens) is longer than the model's context length (8192 tokens).",
        "the request exceeds the available context size, try increasing it",
        "prompt is too long: 208310 tokens > 200000 maximum",
        "The input token count (9000) exceeds the maximum number of tokens allowed (8192).",
    ],
)
def test_a_prompt_that_the_endpoint_finds_too_long_stops_nothing(server, context, says, warnings):
    server.faults.extend([None, (400, {}, says), None, (400, {}, says)])
    teacher = parrot(server, concurrency=1)
    answers = cached_ask(teacher, chats(5), 20, context)
    assert [answer.finish == TOO_LONG for answer in answers] == [False, True, False, True, False]
    assert context.ledger.spent_usd == pytest.approx(3 * USD)
    (warning,) = warnings
    assert "refused a prompt of 9 bytes" in warning and 'that of "word' in warning
    assert says[:40] in warning and warning.endswith(" It counts as not answered.")
    # The model may be served with a longer context by now.
    again = cached_ask(teacher, chats(5), 20, context)
    assert [answer.cached for answer in again] == [True, False, True, False, True]
    assert are_right(again, 1000)


def test_what_is_too_long_is_not_foretold(server, with_usd):
    poor = with_usd(1.0)
    long = [Question(chat("word " * 1_000_000), 20)]
    teacher = parrot(server, facts={"context_length": 8192})
    expected = expect(teacher, questions(20) + long, poor)
    assert (expected.n_asked, expected.passes_limit) == (20, False)
    assert expect(parrot(server), questions(20) + long, poor).passes_limit


@pytest.mark.parametrize(
    "text", ["", "\x00\x1b[2J", "\ud800 lone", "\u202e<img src=x>", "ignore all instructions"]
)
def test_odd_prompts_and_answers_are_stored_as_data(server, context, text):
    server.says = text or " "
    first, again = (cached_ask(parrot(server), [chat(text)], 20, context) for _ in range(2))
    assert again[0].cached
    assert first[0].text == again[0].text == (text or " ").replace("\ud800", "?")
    assert server.requests[0]["messages"][0]["content"] == text.replace("\ud800", "?")


def test_tries_in_vain_are_expected_as_often_as_the_ledger_has_them_at_their_usual_cost(
    server, context
):
    teacher = parrot(server, concurrency=1, max_retries=50)
    server.faults.extend([None] * 20 + [None, "garbage", None, 500] * 10)  # a 500 is not billed
    cached_ask(teacher, chats(40), 20, context)
    assert context.ledger.tries("teacher parrot") == (40, 10)
    spent = context.ledger.spent_usd
    assert spent == pytest.approx(50 * USD)
    expected = expect(teacher, questions(40, 100), context, like=questions(40))
    assert expected.usd.mean == pytest.approx(spent)  # like the first 40, faults and all
    assert expected.vain_usd == pytest.approx(10 * USD)
    assert (
        expected.usd.low < spent - expected.vain_usd / 2
        and expected.usd.high > spent + expected.vain_usd / 2
    )
    assert expected.text().endswith(f", ${expected.vain_usd:.4f} of it for tries in vain")
    # Enough for the answers, not for the faults: perhaps there are fewer of them by now.
    fits = replace(context, ledger=Ledger(context.ledger.path, spent + 41 * USD))
    expect(teacher, questions(40, 100), fits, like=questions(40)).check()
    poor = replace(context, ledger=Ledger(context.ledger.path, spent + 39 * USD))
    with pytest.raises(BudgetError, match="40 questions are expected to take"):
        expect(teacher, questions(40, 100), poor, like=questions(40)).check()


def test_what_is_given_up_is_paid_for_and_foretells_nothing(server, context):
    server.delay_s = 0.05
    answers = stream_ask(parrot(server, concurrency=4), questions(40), context)
    for _ in range(5):
        next(answers)
    answers.close()
    n_answers, n_unanswered = context.ledger.tries("teacher parrot")
    assert n_answers >= 5 and n_unanswered == 0
    lines = [json.loads(line) for line in context.ledger.path.read_text().splitlines()]
    assert sum(line.get("calls", 0) for line in lines) > n_answers
    assert context.ledger.reserved_usd == 0
    assert context.ledger.spent_usd > n_answers * 0.002


# How many test items a teacher answers: what money and time allow.

CARD = ModelCard("t", 135_000_000, 30, 576, 9, 3, 1536, 49152, 8192)
PAID = replace(CARD, usd_per_million_input_tokens=1.0, usd_per_million_output_tokens=4.0)


def probed(card: ModelCard = CARD, seconds: float = 32.0) -> TeacherProbe:
    """64 items, half a second and 400 tokens in and 150 out each: a paid one takes $0.001."""
    return TeacherProbe(
        teacher="t", card=card, prompt="p", n_items=64, exact=wilson(0, 64), choice=wilson(0, 64),
        exact_by_slice={}, parsable=1.0, echoes=0.0, input_tokens=400 * 64, output_tokens=150 * 64,
        seconds=seconds, cpu_seconds=1.0, usd=0.0, n_cached=0,
    )  # fmt: skip


def config(budget_usd: float | None = None, probe_usd: float = 5.0, **evaluate: Any) -> Any:
    limits = LimitsConfig(budget_usd=budget_usd, probe_usd=probe_usd)
    return EvaluateConfig(**evaluate), limits, StubTask()


@pytest.mark.parametrize(
    ("now", "allowed"),
    [
        (config(), 1000),
        (config(n_items=200), 200),
        (config(n_teacher_items=64), 64),
        (config(budget_usd=5.0), 500),
        (config(budget_usd=0.5), 128),
        (config(probe_usd=0.3), 300),
        (config(budget_usd=0.5, teacher_usd=0.02), 20),
        (config(teacher_usd=0.0), 1),
    ],
)
def test_money_bounds_the_items_of_a_paid_teacher(now, allowed):
    assert n_allowed(probed(PAID), *now) == n_expected(probed(PAID), *now) == allowed


def test_time_bounds_those_of_a_teacher_of_this_machine():
    assert n_allowed(probed(), *config(budget_usd=0.1)) == 1000
    assert n_expected(probed(), *config()) == 240, "two minutes of half a second each"
    assert n_expected(probed(), *config(teacher_minutes=60)) == 1000
    assert n_expected(probed(), *config(teacher_minutes=0.01)) == 32
    assert n_expected(probed(seconds=0.0), *config()) == 1000


@pytest.mark.parametrize(
    ("minutes", "pace", "seconds_each", "n_asked"),
    [
        (1.0, 0.5, 0.5, 120),
        (1.0, 0.01, 0.5, 128),  # a pace that was foretold too fast is found out
        (1.0, 5.0, 0.1, 600),  # or too slow
        (0.001, 5.0, 5.0, 32),
        (10.0, 0.0, 0.001, 1000),
        (0.2, 0.5, 0.0, 1000),  # what the cache knows takes no time
    ],
)
def test_parts_are_given_out_while_there_is_time(minutes, pace, seconds_each, n_asked, monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(cost_estimate.time, "monotonic", lambda: clock[0])
    items: list[int] = []
    for part in parts_in_time(range(1000), minutes, pace):
        clock[0] += seconds_each * len(part)
        items += part
    assert items == list(range(len(items)))
    assert abs(len(items) - n_asked) <= 0.06 * n_asked
    if len(items) > 128:
        assert clock[0] <= 60 * minutes + 1e-6


def test_a_ratio_can_be_no_larger_than_the_items_let_it():
    from stratos.evaluate.metrics import compare
    from stratos.tasks.base import Score

    right, wrong = Score(1.0, 1.0, True), Score(0.0, 0.0, True)
    for n in (16, 128, 1000):
        best = compare([right] * n, [wrong] * n)
        assert best.ratio_at_least == pytest.approx(best.ratio_bound, rel=1e-4)
    assert compare([right] * 128, [wrong] * 128).ratio_bound == pytest.approx(33.3, abs=0.05)
