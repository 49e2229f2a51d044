"""Where prompts and keys go, and how long a call may take, whatever a server does."""

from __future__ import annotations

import time

import pytest

from stratos.core.errors import TeacherError
from stratos.teachers import endpoint
from stratos.teachers.words import Redirected, Silent
from tests.teachers.provider import Provider, Reply, always, first_only
from tests.teachers.questions import are_right, cached_ask, chats

pytestmark = [pytest.mark.usefixtures("quick"), pytest.mark.slow]


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PARROT_KEY", "sk-secret")
    monkeypatch.setattr(endpoint, "_REACH_SECONDS", 2.5)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_no_prompt_and_no_key_go_to_another_host(run, teacher, status):
    with Provider() as elsewhere:
        # Another port is another host: whoever listens there may be somebody else.
        there = f"{elsewhere.base_url}/chat/completions?token=hidden"
        with Provider(always(status=status, location=there), models=()) as provider:
            asker = teacher(provider, api_key_env="PARROT_KEY")
            context = run(1.0)
            with pytest.raises(TeacherError) as caught:
                cached_ask(asker, chats(12), 8, context)
            message = str(caught.value)
            assert (
                f"redirects to http://127.0.0.1:{elsewhere.port}, which is another host" in message
            )
            assert "hidden" not in message
            assert sum(provider.tries.values()) == 1
        assert (elsewhere.tries, elsewhere.keys) == ({}, [])
        assert context.ledger.spent_usd == 0


def test_the_list_of_models_is_not_read_at_another_host_either(teacher):
    with (
        Provider() as elsewhere,
        Provider(lists=Reply(status=307, location=f"{elsewhere.base_url}/models")) as provider,
    ):
        why = teacher(provider, api_key_env="PARROT_KEY").unreachable()
        assert why == Redirected(provider.base_url, f"http://127.0.0.1:{elsewhere.port}")
        assert elsewhere.keys == []


def test_within_one_host_a_redirect_is_followed(run, teacher):
    with Provider(first_only(status=307, location="/v2/chat/completions")) as provider:
        answers = cached_ask(teacher(provider), chats(3), 8, run(1.0))
        assert len(answers) == 3 and are_right(answers)
        assert set(provider.tries.values()) == {2}


def test_a_list_of_models_that_drips_ends(teacher):
    with Provider(lists=Reply(wire="dripped", drip_s=1.0)) as provider:
        began = time.monotonic()
        why = teacher(provider).unreachable()
        assert time.monotonic() - began < 10
        assert why == Silent(provider.base_url, 2.5)


def test_an_answer_that_drips_ends(run, teacher):
    with Provider(always(wire="dripped", drip_s=0.5), models=()) as provider:
        context, began = run(1.0), time.monotonic()
        asker = teacher(provider, timeout_s=1.0, max_retries=1)
        with pytest.raises(TeacherError, match=r"after 2 tries \(no whole answer within 1 s\)"):
            cached_ask(asker, chats(12), 8, context)
        assert time.monotonic() - began < 10
        assert provider.bill.usd - 1e-9 <= context.ledger.spent_usd


def test_a_model_that_is_not_there_is_said_although_the_list_drips(run, teacher):
    with Provider(always(status=404), lists=Reply(wire="dripped", drip_s=1.0)) as provider:
        began = time.monotonic()
        with pytest.raises(TeacherError, match="has no model parrot"):
            cached_ask(teacher(provider), chats(1), 8, run(1.0))
        assert time.monotonic() - began < 15
