"""Whatever an endpoint says of the tokens of an answer, the budget is not switched off by it."""

from __future__ import annotations

import json

import pytest

from stratos.core import redact
from stratos.core.errors import TeacherError
from stratos.teachers.base import Question
from stratos.teachers.reply import ImplausibleUsage, read_usage, to_answer
from tests.teachers.provider import Reply, always, first_only
from tests.teachers.questions import cached_ask

pytestmark = pytest.mark.usefixtures("quick")


def chats(n: int, size: int = 40) -> list[list[dict[str, str]]]:
    return [[{"role": "user", "content": f"question {i} " + "word " * size}] for i in range(n)]


MISSING = [
    None,
    {},
    "many",
    {"prompt_tokens": 0, "completion_tokens": 0},
    {"prompt_tokens": 0, "completion_tokens": 7},
    {"prompt_tokens": 1, "completion_tokens": 1},
    {"prompt_tokens": None, "completion_tokens": True},
    {"prompt_tokens": "12", "completion_tokens": [3]},
]
IMPLAUSIBLE = [
    {"prompt_tokens": 10**9, "completion_tokens": 1},
    {"prompt_tokens": 30, "completion_tokens": 10**9},
    {"prompt_tokens": 10**400, "completion_tokens": 1},
    {"prompt_tokens": -5, "completion_tokens": 10},
    {"prompt_tokens": 30, "completion_tokens": -1},
    {"prompt_tokens": float("nan"), "completion_tokens": 1},
    {"prompt_tokens": 30, "completion_tokens": float("inf")},
]


@pytest.mark.parametrize("usage", MISSING, ids=str)
def test_a_missing_count_is_counted_from_the_bytes(run, teacher, dear, warnings, usage):
    dear.rule = always(usage=usage)
    context = run(budget_usd=100.0)
    answers = cached_ask(teacher(dear), chats(10), 60, context)
    assert len(answers) == 10
    assert dear.bill.usd - 1e-9 <= context.ledger.spent_usd <= 12 * dear.bill.usd
    (warning,) = set(warnings)
    assert "does not tell how many tokens" in warning


@pytest.mark.parametrize("usage", IMPLAUSIBLE, ids=lambda usage: str(usage)[:40])
def test_a_count_that_cannot_be_is_no_answer_and_the_folder_goes_on(run, teacher, dear, usage):
    """The first try of each question lies; the second tells the truth."""

    dear.rule = first_only(usage=usage)
    context = run(budget_usd=100.0)
    answers = cached_ask(teacher(dear), chats(10), 60, context)
    assert len(answers) == 10
    assert set(dear.tries.values()) == {2}
    assert dear.bill.usd - 1e-9 <= context.ledger.spent_usd <= 100.0
    again = run(budget_usd=100.0)
    assert len(cached_ask(teacher(dear), chats(12), 60, again)) == 12


def test_an_endpoint_that_always_lies_is_named(run, teacher, dear):
    dear.rule, dear.models = always(usage={"prompt_tokens": 10**9, "completion_tokens": 1}), ()
    context = run(budget_usd=100.0)
    with pytest.raises(TeacherError, match=r"it says that 1,000,000,000 tokens were read for"):
        cached_ask(teacher(dear, max_retries=2), chats(10), 60, context)
    assert dear.bill.usd - 1e-9 <= context.ledger.spent_usd < 3 * 1.0


def ask_of(text: str, **more) -> Question:
    return Question([{"role": "user", "content": text}], more.pop("max_tokens", 100))


@pytest.mark.parametrize(
    ("text", "counts"),
    [
        ("An ordinary answer of some words, as they come.", (20, 11)),
        (" " * 4000, (20, 50)),  # one token may be 80 spaces
        ("=" * 500 + "\n" * 300, (20, 12)),
        ("你好，世界。" * 20, (20, 60)),
        ("x", (300, 1)),  # the endpoint's own prompt comes before
        ("short", (20, 4000)),  # reasoning that is not shown
        ("", (20, 0)),
    ],
)
def test_a_count_that_may_be_right_is_believed(text, counts):
    usage = {"prompt_tokens": counts[0], "completion_tokens": counts[1]}
    usage_read = read_usage(usage, ask_of("What is it, and why?"), text)
    assert (usage_read.input_tokens, usage_read.output_tokens, usage_read.is_estimated) == (
        *counts,
        False,
    )


@pytest.mark.parametrize("details", [{}, {"reasoning_tokens": 99_990}])
@pytest.mark.parametrize("shown", ["", "so I think " * 9_500])
def test_reasoning_is_booked_as_it_is_billed(details, shown):
    """Seen: reasoning of 20,000 tokens that nothing told apart, booked as a short answer."""
    usage = {"prompt_tokens": 9, "completion_tokens": 100_000}
    usage |= {"completion_tokens_details": details}
    usage_read = read_usage(usage, ask_of("Why?"), "Because.", reasoning=shown)
    assert usage_read.output_tokens == 100_000
    with pytest.raises(ImplausibleUsage):
        read_usage(usage | {"completion_tokens": 10**6}, ask_of("Why?"), "Because.")


def test_an_answer_without_a_count_is_no_longer_than_a_limit_that_is_kept():
    text = "a word " * 30
    usage_read = read_usage({}, ask_of("Why?", max_tokens=100), text)
    assert (usage_read.input_tokens, usage_read.output_tokens) == (4 + 16, 100)
    usage_read = read_usage({}, ask_of("Why?", max_tokens=10), text)  # it surely was not kept
    assert usage_read.output_tokens == len(text)
    assert read_usage({}, ask_of("Why?"), "", is_cut=True).output_tokens == 100


def test_nothing_in_the_ledger_is_of_no_amount(run, teacher, dear, tmp_path):
    usages = [*MISSING, *IMPLAUSIBLE]

    def rule(text: str, n_tries: int) -> Reply:
        return Reply(usage=usages[int(text.split()[1])]) if n_tries == 1 else Reply()

    dear.rule = rule
    cached_ask(teacher(dear), chats(len(usages)), 60, run())
    lines = (tmp_path / "run" / "ledger.jsonl").read_text().splitlines()
    for line in map(json.loads, lines):
        assert 0 <= line.get("usd", 0) < 50 and 0 <= line.get("reserved_usd", 0) < 50


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ({"prompt_tokens_details": {"cached_tokens": 6}}, 6),
        ({"prompt_cache_hit_tokens": 5, "prompt_cache_miss_tokens": 5}, 5),
        ({"prompt_tokens_details": {"cached_tokens": 10**9}}, 10),
        ({"prompt_tokens_details": {"cached_tokens": 10**400}}, 10),
        ({"prompt_tokens_details": {"cached_tokens": float("inf")}}, 10),
        ({"prompt_tokens_details": {"cached_tokens": True}}, 0),
        ({"prompt_tokens_details": {"cached_tokens": -4}}, 0),
        ({"prompt_tokens_details": {"cached_tokens": float("nan")}}, 0),
        ({"prompt_tokens_details": {"cached_tokens": "all"}, "prompt_cache_hit_tokens": None}, 0),
        ({"prompt_tokens_details": None}, 0),
    ],
    ids=[
        "openai",
        "deepseek",
        "more than all",
        "huge",
        "infinite",
        "true",
        "negative",
        "nan",
        "text",
        "none",
    ],
)
def test_tokens_that_were_read_before_are_believed_up_to_all_of_them(told, expected):
    usage = {"prompt_tokens": 10, "completion_tokens": 3, **told}
    assert read_usage(usage, ask_of("Why?"), "Because.").cached_input_tokens == expected


def test_a_key_that_an_endpoint_repeats_is_in_no_answer(monkeypatch):
    monkeypatch.setenv("PARROT_API_KEY", "plain-looking-key-7")
    redact.learn({"api_key_env": "PARROT_API_KEY"})
    message = {"role": "assistant", "content": "You sent plain-looking-key-7, thank you."}
    reply = {"choices": [{"finish_reason": "stop", "message": message}]}
    answer = to_answer(reply, ask_of("Why?"), 0.1)
    redact.forget()
    assert answer.text == "You sent ***, thank you."
