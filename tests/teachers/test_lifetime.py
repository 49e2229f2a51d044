"""When hosted teachers end: what their cards and endpoints say, and what a run makes of it."""

from __future__ import annotations

import datetime

import pytest

from stratos.teachers import openai_settings
from stratos.teachers.openai import OpenAITeacher
from stratos.teachers.openai_settings import is_own, nearest_living, retired, shipped_teachers
from stratos.teachers.words import NoPrice, Retired
from tests.teachers.questions import parrot

TODAY = datetime.date(2026, 11, 26)
SHIPPED = {teacher.name: teacher for teacher in shipped_teachers()}


def test_the_dates_of_the_shipped_teachers_have_a_source() -> None:
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


def test_a_shipped_teacher_is_read_as_the_settings_of_the_class_that_its_yaml_names() -> None:
    assert f"{OpenAITeacher.__module__}.{OpenAITeacher.__qualname__}" == openai_settings._CLASS
    assert issubclass(OpenAITeacher, type(SHIPPED["openai"]))


def test_the_teachers_of_the_default_list_live_and_may_be_learnt_from() -> None:
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
def test_the_nearest_that_lives(name: str, successor: str) -> None:
    nearest = nearest_living(SHIPPED[name], TODAY)
    assert nearest is not None and nearest.name == successor
    reason = retired(SHIPPED[name], TODAY)
    assert reason is not None and reason.successor == successor


def test_on_its_last_day_a_teacher_answers_and_then_no_more() -> None:
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
def test_the_word_of_the_endpoint_goes_before_the_card(server, listed, card, ends, lives) -> None:
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


def test_another_models_end_is_none_of_ours(server) -> None:
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
def test_a_server_of_ones_own(url: str, own: bool) -> None:
    assert is_own(url) == own
    teacher = OpenAITeacher("x", "m", base_url=url, api_key_env=None)
    assert bool(teacher.unknown_prices) != own
    price = teacher.card().usd_per_million_input_tokens
    assert price == (0.0 if own else None)


def test_nothing_is_asked_at_an_unknown_price(monkeypatch) -> None:
    monkeypatch.setenv("A_KEY", "sk-0123456789")
    teacher = OpenAITeacher(
        "x", "m", base_url="https://api.example.com/v1", api_key_env="A_KEY",
        usd_per_million_input_tokens=1.0,
    )  # fmt: skip
    lacking = ("usd_per_million_output_tokens",)
    assert teacher.unreachable() == NoPrice("m", "https://api.example.com/v1", lacking)
