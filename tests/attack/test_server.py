"""The provider of the attacks does what it is told, and bills what it wrote."""

from __future__ import annotations

import httpx
import pytest

from tests.teachers.provider import Provider, Reply, always, flaky


def ask(provider: Provider, text: str, **more) -> httpx.Response:
    body = {"model": "parrot", "messages": [{"role": "user", "content": text}], **more}
    with httpx.Client(trust_env=False, timeout=5) as client:
        return client.post(f"{provider.base_url}/chat/completions", json=body)


def test_it_bills_what_it_wrote():
    with Provider() as provider:
        reply = ask(provider, "two words").json()
        assert reply["choices"][0]["message"]["content"] == "TWO WORDS"
        assert reply["usage"] == {"prompt_tokens": 6, "completion_tokens": 2, "total_tokens": 8}
        assert provider.bill.usd == pytest.approx((6 * 1 + 2 * 10) / 1e6)
        reply = ask(provider, "one two three", max_tokens=2).json()
        assert reply["choices"][0]["finish_reason"] == "length"
        assert reply["choices"][0]["message"]["content"] == "ONE TWO"


def test_what_is_lost_on_its_way_is_billed():
    replies = {"a": Reply(status=502), "b": Reply(status=503), "c": Reply(body="garbage")}
    with Provider(lambda text, n_tries: replies[text]) as provider:
        assert [ask(provider, text).status_code for text in "abc"] == [502, 503, 200]
        assert (provider.bill.n_answers, provider.bill.n_lost) == (0, 2)


def test_it_ignores_a_limit_and_lies_about_usage():
    with Provider(always(n_tokens=50, usage={"prompt_tokens": 0})) as provider:
        reply = ask(provider, "a", max_tokens=3).json()
        assert len(reply["choices"][0]["message"]["content"].split()) == 50
        assert reply["usage"] == {"prompt_tokens": 0}
        assert provider.bill.output_tokens == 50


def test_the_same_tries_fail_whatever_their_order():
    rule = flaky(0.5, seed=3)
    replies = [rule(f"word {i}", 1) for i in range(200)]
    assert replies == [flaky(0.5, seed=3)(f"word {i}", 1) for i in range(200)]
    assert 60 < sum(not reply.is_whole for reply in replies) < 140
