"""An answer that was cut is recognised whatever its endpoint calls that, or if it says nothing."""

from __future__ import annotations

from typing import Any

import pytest

from stratos.teachers.base import LENGTH, Answer, Question
from stratos.teachers.reply import to_answer

QUESTION = Question([{"role": "user", "content": "How many apples are there?"}], 100)
TEXT = "".join(f"We add the apples of bag {i}. " for i in range(15))[:400]


def answer(finish: Any, usage: Any, text: str = TEXT, **message: Any) -> Answer:
    choice = {"finish_reason": finish, "message": {"content": text, **message}}
    return to_answer({"choices": [choice], "usage": usage}, QUESTION, 1.0)


def took(n_tokens: int) -> dict[str, int]:
    return {"prompt_tokens": 20, "completion_tokens": n_tokens}


@pytest.mark.parametrize(
    "finish", ["length", "max_tokens", "MAX_TOKENS", "max_output_tokens", "model_length"]
)
def test_providers_have_words_of_their_own_for_it(finish: str) -> None:
    for usage in (took(100), took(70), None):
        assert answer(finish, usage).finish == LENGTH


@pytest.mark.parametrize("finish", [None, "", "stop", "eos"])
def test_the_tokens_tell_where_the_reason_does_not(finish: Any) -> None:
    for n_tokens in (100, 101):
        assert answer(finish, took(n_tokens)).finish == LENGTH
    assert answer(finish, took(99)).finish == (finish or "")


def test_what_ends_by_itself_beyond_the_limit_is_whole() -> None:
    assert answer("stop", took(150)).finish == "stop"
    assert answer(None, took(150)).finish == LENGTH


def test_tokens_that_are_counted_from_bytes_show_no_cut() -> None:
    for finish in ("stop", None):
        cut = answer(finish, None)
        assert (cut.output_tokens, cut.is_estimated, cut.finish) == (100, True, finish or "")


def test_reasoning_that_is_not_shown_counts_as_all_that_was_allowed() -> None:
    assert answer("stop", None, "3").output_tokens == 1
    assert answer("stop", None, "3", thinking="so " * 20).output_tokens == 61
    hidden = answer("stop", None, "3", reasoning_details=[{"type": "reasoning.encrypted"}])
    assert (hidden.output_tokens, hidden.is_estimated) == (100, True)
    # Where there is no text, perhaps all of it was reasoning.
    assert answer("stop", None, "").output_tokens == 100
    assert answer("stop", took(0), "").output_tokens == 0
