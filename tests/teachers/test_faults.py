"""Every fault of a real endpoint, alone and combined: nothing lost, nothing asked twice."""

from __future__ import annotations

import time
from collections import Counter

import pytest

from stratos.core.context import Context
from stratos.core.errors import BudgetError, TeacherError
from stratos.ledger import Ledger
from stratos.teachers import scheduler
from stratos.teachers.asking import stream_ask
from stratos.teachers.call_budget import most_usd
from tests.teachers.provider import EVERY_FAULT, Bill, Provider, Reply, always, flaky
from tests.teachers.questions import Asker, are_right, cached_ask, chats, parrot, questions

WIDE = {"concurrency": 32, "timeout_s": 5.0}


def test_every_combination_of_faults_is_outlived(context):
    def rule(text: str, n_tries: int) -> Reply:
        return EVERY_FAULT[int(text.split()[1])] if n_tries == 1 else Reply()

    n = len(EVERY_FAULT)
    assert n == 4 * 5 * 4 * 2 - 2
    with Provider(rule, models=()) as server:
        answers = cached_ask(parrot(server, **WIDE), chats(n), 8, context)
    assert len(answers) == n and are_right(answers)
    assert set(server.answered.values()) == {1}
    assert set(server.tries.values()) == {2}
    assert server.most_in_flight <= 32


def test_a_reply_without_end_is_not_read_to_its_end(context):
    def rule(text: str, n_tries: int) -> Reply:
        return Reply(n_tokens=2**21 if n_tries == 1 else None)

    with Provider(rule, models=()) as server:
        answers = cached_ask(parrot(server, **WIDE), chats(2), 8, context)
    assert are_right(answers)
    assert set(server.tries.values()) == {2}


def test_two_faults_in_a_row_and_a_tenth_of_all_tries(context):
    seed, n = 0, 60

    def rule(text: str, n_tries: int) -> Reply:
        share = 1.0 if n_tries <= 2 else 0.1
        return flaky(share, seed, faults=EVERY_FAULT)(text, n_tries)

    with Provider(rule, models=()) as server:
        answers = cached_ask(parrot(server, **WIDE), chats(n), 8, context)
        assert len(answers) == n and are_right(answers)
        first = Counter(server.tries)
        cached_ask(parrot(server, **WIDE), chats(n), 8, context)
    assert server.tries == first
    assert set(server.answered.values()) == {1}
    with Provider(rule, models=()) as again:  # the same faults, whatever the order
        context = Context(context.run_dir, context.run_dir / "other", context.ledger)
        cached_ask(parrot(again, concurrency=3), chats(n), 8, context)
    assert again.tries == first


@pytest.mark.parametrize(
    ("n", "budget"), [pytest.param(1000, 1.0, marks=pytest.mark.slow), (300, 0.007)]
)
def test_the_budget_holds_with_a_thousand_calls_in_flight_and_faults(tmp_path, n, budget):
    ledger = Ledger(tmp_path / "ledger.jsonl", budget)
    context = Context(tmp_path, tmp_path / "cache", ledger)
    rule = flaky(0.3, delay_s=0.05, faults=EVERY_FAULT)
    with Provider(rule, bill=Bill(2.0, 10.0), models=()) as server:
        prices = {"usd_per_million_input_tokens": 2.0, "usd_per_million_output_tokens": 10.0}
        teacher = parrot(server, concurrency=n, timeout_s=120.0, **prices)
        most = most_usd(teacher.card(), chats(1)[0], 8)
        answers, seen = [], []
        try:
            for answer in stream_ask(teacher, questions(n), context):
                answers.append(answer)
                seen.append(ledger.spent_usd + ledger.reserved_usd)
        except BudgetError:
            assert budget < 1
    assert max(seen) <= budget + 1e-9
    assert server.bill.usd <= ledger.spent_usd + 1e-9 <= budget + 1e-9
    assert ledger.reserved_usd == 0
    assert are_right(answers)
    if budget == 1.0:
        assert len(answers) == n
    else:
        # Money is left for less than one call; answers behind the first that is missing are kept.
        assert ledger.spent_usd > budget - most
        assert 0 < len(answers) < n
    assert set(server.answered.values()) <= {0, 1}


def test_what_the_server_asks_for_is_waited_by_all(context):
    def rule(text: str, n_tries: int) -> Reply:
        first = text == "word 3" and n_tries == 1
        return Reply(status=429, retry_after="0.6") if first else Reply(delay_s=0.01)

    with Provider(rule, models=()) as server:
        started = time.monotonic()
        answers = cached_ask(parrot(server, concurrency=2), chats(40), 8, context)
        assert time.monotonic() - started >= 0.6
    assert len(answers) == 40
    assert max(server.tries.values()) == 2


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after-ms": "250"}, 0.25),
        ({"retry-after": "2"}, 2.0),
        ({"retry-after": "Thu, 01 Jan 1970 00:00:00 GMT"}, 0.0),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "-5"}, 0.0),
        ({}, None),
    ],
)
def test_the_pause_that_a_server_asks_for_is_read(headers, seconds):
    from stratos.teachers.reply import retry_after_s

    assert retry_after_s(headers) == seconds


def test_waits_grow_with_jitter_and_never_undercut_the_server():
    waits = [[scheduler.wait_s(n, None, lambda d=d: d) for d in (0.0, 1.0)] for n in (1, 2, 3, 20)]
    assert all(high == 2 * low for low, high in waits)
    assert [high for _, high in waits] == [0.02, 0.04, 0.08, 20.0]
    assert scheduler.wait_s(1, 7.0, lambda: 0.0) == 7.0
    assert 7.0 < scheduler.wait_s(1, 7.0, lambda: 1.0) < 8.0


def test_requests_keep_the_rate_that_the_endpoint_allows(context):
    with Provider(models=()) as server:
        started = time.monotonic()
        cached_ask(parrot(server, max_requests_per_minute=1200.0), chats(21), 8, context)
        assert time.monotonic() - started >= 20 * 0.05


def test_cache_modes(context):
    with Provider(models=()) as server:
        cached_ask(parrot(server), chats(2), 8, context)
        cached_ask(parrot(server, cache="read"), chats(3), 8, context)
        assert sorted(server.tries.values()) == [1, 1, 1]
        cached_ask(parrot(server, cache="read"), chats(3), 8, context)
        assert sorted(server.tries.values()) == [1, 1, 2]
        cached_ask(parrot(server, cache="off"), chats(3), 8, context)
        assert sorted(server.tries.values()) == [2, 2, 3]
        cached_ask(parrot(server), chats(3), 8, context)
        cached_ask(parrot(server), chats(3), 8, context)
        assert sorted(server.tries.values()) == [2, 2, 4]


@pytest.mark.kill
def test_killed_again_and_again_only_what_is_missing_is_asked(tmp_path):
    n, concurrency = 240, 16
    with Provider(always(delay_s=0.02), bill=Bill(1.0, 1.0), models=()) as server:
        for kill_at in (40, 100, 170):
            asker = Asker(server.base_url, tmp_path, n)
            assert any(number >= kill_at for number in asker)
            asker.kill()
        assert Asker(server.base_url, tmp_path, n).all() == list(range(n))
    # Only what was in flight at a kill is asked again.
    assert server.n_tries - n <= 3 * concurrency
    ledger = Ledger(tmp_path / "ledger.jsonl")
    assert ledger.reserved_usd == 0
    assert ledger.spent_usd >= server.bill.usd - 1e-9


def test_processes_at_once_ask_each_question_once(tmp_path):
    with Provider(always(delay_s=0.01), bill=Bill(1.0, 1.0), models=()) as server:
        askers = [Asker(server.base_url, tmp_path, 120) for _ in range(3)]
        for asker in askers:
            assert asker.all() == list(range(120))
    assert set(server.tries.values()) == {1}
    assert Ledger(tmp_path / "ledger.jsonl").spent_usd == pytest.approx(server.bill.usd)


def test_a_first_answer_that_is_long_in_coming_lets_others_be_asked(context, monkeypatch):
    def rule(text: str, n_tries: int) -> Reply:
        return Reply(delay_s=2.0 if text == "word 0" else 0.01)

    monkeypatch.setattr(scheduler, "_REFUSED_WITHIN_S", 0.5)
    with Provider(rule, models=()) as server:
        first = next(answers := stream_ask(parrot(server, concurrency=4), questions(40), context))
        assert first.text == "WORD 0"
        assert len(server.answered) > 4  # while the first was under way
        assert len(list(answers)) == 39
        assert server.most_in_flight == 4
    monkeypatch.setattr(scheduler, "_REFUSED_WITHIN_S", 60.0)
    fresh = Context(context.run_dir, context.run_dir / "fresh", context.ledger)
    with Provider(rule, models=()) as server:
        answers = stream_ask(parrot(server), questions(9), fresh)
        while not server.answered:
            next(answers)
        # The others answer at once: one that was asked beside it would have been before it.
        assert next(iter(server.answered)) == "word 0"
        answers.close()


def test_a_wrong_key_is_asked_once(context, monkeypatch):
    with Provider(always(delay_s=0.3), key="right", models=()) as server:
        monkeypatch.setenv("PARROT_KEY", "wrong")
        with pytest.raises(TeacherError, match="refused the key in PARROT_KEY"):
            cached_ask(parrot(server), chats(100), 8, context)
        assert server.n_tries == 1


def test_an_endpoint_that_is_down_is_not_worked_through(context):
    with Provider(always(status=503, delay_s=0.1), models=("parrot-large",)) as server:
        teacher = parrot(server, api_key_env=None, max_retries=2, concurrency=4)
        with pytest.raises(TeacherError, match="gave no answer after 3 tries"):
            cached_ask(teacher, chats(1000), 8, context)
        assert server.n_tries == 3
