"""The hosted teacher against a real server on loopback: faults, keys, models, money."""

from __future__ import annotations

import datetime

import pytest

from stratos.core.errors import TeacherError
from stratos.teachers import openai_settings
from stratos.teachers.base import Teacher
from stratos.teachers.openai import OpenAITeacher
from stratos.teachers.openai_settings import is_own, nearest_living, retired, shipped_teachers
from stratos.teachers.words import (
    NoConnection,
    NoKey,
    NoPrice,
    OddKey,
    OtherAddress,
    Retired,
    WrongKey,
)
from tests.teachers.chat_server import ChatServer
from tests.teachers.provider import Provider
from tests.teachers.questions import are_right, cached_ask, chats, parrot


def message_of(caught: pytest.ExceptionInfo[BaseException], server: ChatServer) -> str:
    """Return what an error says, with a name for the server's address."""
    return str(caught.value).replace(server.base_url, "<server>")


def test_answers_in_order_with_bounded_concurrency(server):
    server.delay_s = 0.02
    teacher = parrot(server, concurrency=4)
    assert isinstance(teacher, Teacher)
    assert teacher.unreachable() is None
    seen: list[tuple[int, int]] = []
    answers = teacher.ask(chats(20), 7, tick=lambda done, total: seen.append((done, total)))
    assert len(answers) == 20 and are_right(answers)
    assert [answer.input_tokens for answer in answers] == [100] * 20
    assert seen == [(i, 20) for i in range(1, 21)]
    assert 2 <= server.most_in_flight <= 4
    assert server.requests[0] | {"messages": []} == {
        "model": "parrot-large", "messages": [], "max_tokens": 7, "temperature": 0.0
    }  # fmt: skip
    teacher.close()


@pytest.mark.parametrize("fault", [500, 503, 429, "cut", "garbage", "empty"])
def test_a_passing_fault_is_retried(server, fault):
    server.faults.append(fault)
    (answer,) = parrot(server).ask(chats(1), 5)
    assert answer.text == "WORD 0"
    assert len(server.requests) == 2


def test_waits_as_long_as_the_server_says(server):
    server.faults.append((429, {"Retry-After": "1.3"}))
    parrot(server).ask(chats(1), 5)
    assert server.times[1] - server.times[0] >= 1.25


def test_gives_up_after_all_retries_and_keeps_what_came(server, context, snapshot):
    teacher = parrot(server, max_retries=1, concurrency=1, usd_per_million_input_tokens=1000.0)
    server.faults.extend([None, None, 500, 500, 500, 500])
    with pytest.raises(TeacherError) as caught:
        cached_ask(teacher, chats(4), 5, context)
    assert message_of(caught, server) == snapshot
    # The two answers that came are paid for; the next run asks for the other two only.
    assert context.ledger.spent_usd == pytest.approx(2 * 0.1)
    before = len(server.requests)
    server.faults.clear()
    answers = cached_ask(teacher, chats(4), 5, context)
    assert [answer.cached for answer in answers] == [True, True, False, False]
    assert len(server.requests) == before + 2


def test_a_wrong_key_is_tried_once_and_never_shown(server, monkeypatch):
    monkeypatch.setenv("PARROT_KEY", "sk-wrong-0123456789abcdef")
    with pytest.raises(TeacherError) as caught:
        parrot(server, concurrency=8).ask(chats(100), 5)
    assert len(server.requests) == 1
    reason = WrongKey(server.base_url, "PARROT_KEY")
    assert str(caught.value) == f"Teacher parrot: {reason}"
    assert parrot(server).unreachable() == reason


def test_no_key_says_which_variable(server, monkeypatch):
    monkeypatch.delenv("PARROT_KEY")
    assert parrot(server).unreachable() == NoKey("PARROT_KEY")
    with pytest.raises(TeacherError, match="PARROT_KEY is not set"):
        parrot(server).ask(chats(1), 5)
    assert server.requests == []


@pytest.mark.parametrize("key", ["sk-0123\r", "sk-01\n23", "sk-é☃", "sk 0123", "\u200bsk-0123"])
def test_a_key_that_no_header_carries_is_said_and_not_shown(server, monkeypatch, key):
    monkeypatch.setenv("PARROT_KEY", key)
    reason = OddKey("PARROT_KEY")
    assert parrot(server).unreachable() == reason
    with pytest.raises(TeacherError) as caught:
        parrot(server).ask(chats(1), 5)
    assert str(caught.value) == f"Teacher parrot: {reason}"
    assert server.requests == []


def test_a_key_in_place_of_its_variable_is_refused_and_not_shown(snapshot):
    with pytest.raises(ValueError) as caught:
        OpenAITeacher("t", "m", api_key_env="sk-0123456789")
    assert str(caught.value) == snapshot


@pytest.mark.parametrize("url", ["127.0.0.1:8000/v1", "localhost/v1", "ftp://a/v1", "http://", ""])
def test_an_address_that_is_no_url(url):
    with pytest.raises(ValueError) as caught:
        OpenAITeacher("t", "m", base_url=("https://a/v1", url))
    assert str(caught.value).startswith(f"base_url={url} is no address of the form")


def test_unknown_model_offers_the_nearest(server, snapshot):
    with pytest.raises(TeacherError) as caught:
        parrot(server, model="parot-large").ask(chats(50), 5)
    assert message_of(caught, server) == snapshot
    assert len(server.requests) == 1


def test_an_address_without_its_version_is_mended_by_what_is_said():
    with Provider(models=("parrot-large",)) as provider:
        bare = provider.base_url.removesuffix("/v1")
        assert parrot(bare, max_retries=0).unreachable() == OtherAddress(bare, provider.base_url)
        assert parrot(provider, max_retries=0).unreachable() is None


def test_a_server_that_is_not_there():
    teacher = parrot("http://127.0.0.1:9/v1", max_retries=0)
    assert teacher.unreachable() == NoConnection("http://127.0.0.1:9/v1")
    with pytest.raises(TeacherError, match="gave no answer after 1 try "):
        teacher.ask(chats(1), 5)


def test_money_is_reserved_before_and_settled_after(server, context, warnings, snapshot):
    teacher = parrot(
        server, usd_per_million_input_tokens=1000.0, usd_per_million_output_tokens=10_000.0
    )
    # 100 tokens in and 10 out: $0.20 an answer. Set aside for the first: 6 bytes of "word 0", 16 of
    # the template, 10 tokens out; for the next as many tokens in as the first took.
    answers = cached_ask(teacher, chats(3), 10, context)
    assert context.ledger.spent_usd == pytest.approx(0.6)
    assert not any(answer.cached for answer in answers)
    assert len(cached_ask(teacher, chats(4), 10, context, limit_usd=0.6)) == 3
    again = cached_ask(teacher, chats(5), 10, context, limit_usd=0.9)
    assert len(again) == 4
    assert warnings == snapshot
    assert len(server.requests) == 4


def test_input_that_was_read_before_is_paid_at_its_own_price(server, context):
    prices = {"usd_per_million_input_tokens": 1000.0, "usd_per_million_output_tokens": 10_000.0}
    server.n_cached = 80
    # 20 tokens in at the full price, 80 at a tenth, 10 out.
    teacher = parrot(server, usd_per_million_cached_input_tokens=100.0, **prices)
    answers = cached_ask(teacher, chats(3), 10, context)
    assert context.ledger.spent_usd == pytest.approx(3 * (0.02 + 0.008 + 0.1))
    assert [answer.cached_input_tokens for answer in answers] == [80] * 3
    kept = cached_ask(teacher, chats(3), 10, context)
    assert [answer.cached_input_tokens for answer in kept] == [80] * 3, "the cache tells it, too"
    at_full_price = parrot(server, model="parrot-small", **prices)
    cached_ask(at_full_price, chats(3), 10, context)
    assert context.ledger.spent_usd == pytest.approx(3 * 0.128 + 3 * 0.2)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"facts": {"n_layer": 1}}, r"facts\.n_layer: there is no such fact\. Did you mean"),
        ({"facts": {"context_length": -5}}, r"facts\.context_length=-5 must be at least 0"),
        ({"temperature": -1.0}, "temperature must be at least 0"),
        ({"max_requests_per_minute": 0.0}, "max_requests_per_minute must be above 0"),
        ({"usd_per_million_input_tokens": -1}, "cannot be negative"),
        ({"usd_per_million_cached_input_tokens": -1}, "cannot be negative"),
        ({"usd_per_million_cached_input_tokens": 1}, "cannot be above usd_per_million_input"),
        ({"token_limit_field": ""}, "token_limit_field='' is no field that limits an answer"),
        ({"token_limit_field": "messages"}, "token_limit_field='messages' is no field"),
        ({"extra_body": {"max_tokens": 9000}}, "extra_body may not set max_tokens"),
        ({"extra_body": {"n": 4, "stream": True}}, "extra_body may not set n, stream"),
    ],
)
def test_settings_are_checked(settings, message):
    with pytest.raises(ValueError, match=message):
        OpenAITeacher("x", "m", **settings)


def test_facts_and_terms_of_the_settings_are_on_the_card():
    card = OpenAITeacher("x", "m", facts={"context_length": 128}, license="terms").card()
    assert (card.context_length, card.n_params, card.usd_per_million_input_tokens) == (128, 0, None)


# When hosted teachers end: what their cards and endpoints say, and what a run makes of it.

TODAY = datetime.date(2026, 11, 26)
SHIPPED = {teacher.name: teacher for teacher in shipped_teachers()}


def test_the_dates_of_the_shipped_teachers_have_a_source():
    assert len(SHIPPED) >= 17
    for teacher in SHIPPED.values():
        assert "https://" in teacher.retires_source, teacher.name
        if teacher.retires:
            datetime.date.fromisoformat(teacher.retires)
        else:
            assert teacher.retires_source.startswith("none announced on 2026-")
    of_openai = ("gpt_4o", "gpt_4o_mini", "gpt_4_1", "gpt_4_1_mini")
    assert {SHIPPED[name].retires for name in of_openai} == {"2027-01-14"}
    assert SHIPPED["gpt_5_mini"].retires == "2026-12-11"


def test_a_shipped_teacher_is_read_as_the_settings_of_the_class_that_its_yaml_names():
    assert f"{OpenAITeacher.__module__}.{OpenAITeacher.__qualname__}" == openai_settings._CLASS
    assert issubclass(OpenAITeacher, type(SHIPPED["openai"]))


def test_the_teachers_of_the_default_list_live_and_may_be_learnt_from():
    import yaml

    from stratos.core.extensions import conf_dir

    defaults = yaml.safe_load((conf_dir() / "teacher" / "auto.yaml").read_text())["defaults"]
    names = [entry.partition("@")[0] for entry in defaults if isinstance(entry, str)]
    hosted = [SHIPPED[name] for name in names if name in SHIPPED]
    assert hosted
    for teacher in hosted:
        assert teacher.outputs_may_train is True
        assert not teacher.retires
    assert not SHIPPED["openai"].retires


@pytest.mark.parametrize(
    ("name", "successor"),
    [
        ("llama3_3_70b", "gpt_oss_120b"),  # behind the same key
        ("deepseek_v4_flash", "deepseek_flash"),
    ],
)
def test_the_nearest_that_lives(name, successor):
    nearest = nearest_living(SHIPPED[name], TODAY)
    assert nearest is not None and nearest.name == successor
    reason = retired(SHIPPED[name], TODAY)
    assert reason is not None and reason.successor == successor


def test_on_its_last_day_a_teacher_answers_and_then_no_more():
    teacher = SHIPPED["gpt_4o"]
    assert retired(teacher, datetime.date(2027, 1, 13)) is None
    reason = retired(teacher, datetime.date(2027, 1, 14))
    assert reason is not None
    assert (reason.model, reason.day, reason.source) == (
        "gpt-4o", "2027-01-14", teacher.retires_source
    )  # fmt: skip
    nearest = nearest_living(teacher, datetime.date(2027, 1, 14))
    assert nearest is not None and nearest.api_key_env == "OPENAI_API_KEY" and not nearest.retires


@pytest.mark.parametrize(
    ("listed", "card", "ends", "lives"),
    [
        ({}, "2099-01-01", "2099-01-01", True),
        ({"shutdown_date": "2099-06-01"}, "2099-01-01", "2099-06-01", True),
        ({"shutdown_date": "2026-01-01"}, "2099-01-01", "2026-01-01", False),
        ({"shutdown_date": "2099-06-01"}, "2026-01-01", "2099-06-01", True),
        ({"shutdown_date": None}, "2026-01-01", "", True),
        ({"shutdown_date": "soon"}, "2099-01-01", "2099-01-01", True),
        ({"shutdown_date": 7}, "2099-01-01", "2099-01-01", True),
    ],
)
def test_the_word_of_the_endpoint_goes_before_the_card(server, listed, card, ends, lives):
    server.listed["parrot-large"] = listed
    teacher = parrot(server, retires=card)
    assert teacher.card().retires == card  # nobody was asked yet
    reason = teacher.unreachable()
    assert teacher.card().retires == ends
    if lives:
        assert reason is None
    else:
        assert isinstance(reason, Retired)
        assert (reason.model, reason.day, reason.source) == ("parrot-large", ends, "")
    teacher.close()


def test_another_models_end_is_none_of_ours(server):
    server.listed["parrot-small"] = {"shutdown_date": "2026-01-01"}
    teacher = parrot(server)
    assert teacher.unreachable() is None and teacher.card().retires == ""
    teacher.close()


@pytest.mark.parametrize(
    ("url", "own"),
    [
        ("http://localhost:8000/v1", True),
        ("http://127.0.0.1:8000/v1", True),
        ("http://[::1]:8000/v1", True),
        ("http://192.168.0.7/v1", True),
        ("http://10.1.2.3/v1", True),
        ("http://gpu-box:8000/v1", True),
        ("https://llm.lan/v1", True),
        ("https://models.internal/v1", True),
        ("https://8.8.8.8/v1", False),
        ("https://api.example.com/v1", False),
    ],
)
def test_a_server_of_ones_own(url, own):
    assert is_own(url) == own
    teacher = OpenAITeacher("x", "m", base_url=url, api_key_env=None)
    assert bool(teacher.unknown_prices) != own
    price = teacher.card().usd_per_million_input_tokens
    assert price == (0.0 if own else None)


def test_nothing_is_asked_at_an_unknown_price(monkeypatch):
    monkeypatch.setenv("A_KEY", "sk-0123456789")
    teacher = OpenAITeacher(
        "x", "m", base_url="https://api.example.com/v1", api_key_env="A_KEY",
        usd_per_million_input_tokens=1.0,
    )  # fmt: skip
    lacking = ("usd_per_million_output_tokens",)
    assert teacher.unreachable() == NoPrice("m", "https://api.example.com/v1", lacking)
