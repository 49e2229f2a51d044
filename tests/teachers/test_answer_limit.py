"""The longest answer: from the data, from what is seen, raised where too many are cut."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import pytest

from stratos.core.errors import TeacherError
from stratos.teachers.base import LENGTH, REPETITION, STOP, Answer, Question
from stratos.teachers.prompting import (
    MEASURED_TOKENS,
    AnswerLimit,
    ChatGroup,
    ask_whole,
    data_limit,
    fitting,
    limit_of,
)
from stratos.teachers.words import CutShort
from tests.stub_task import StubTask
from tests.teachers.echo_teacher import EchoTeacher
from tests.teachers.questions import chat

PROSE = "".join(random.Random(0).choices("abcdefghij ", k=10_000))


@dataclass
class Writes(EchoTeacher):
    """Takes as many tokens as its question says, a letter each; reads a context of `context`."""

    context: int = 10**9
    most: int = 10**9
    refuses: int = 10**9
    """Longest answer whose length it takes for an error."""
    requests: list[tuple[str, int]] = field(default_factory=list)

    def too_long(self, question: Question) -> str | None:
        return "too long" if 10 + question.max_tokens > self.context else None

    def most_tokens(self) -> int:
        return self.most

    def text(self, question: Question) -> str:
        """Return what it writes where it has the room."""
        return PROSE[: int(question.chat[0]["content"])]

    def write(self, questions: Sequence[Question]) -> list[Answer]:
        answers = []
        for question in questions:
            most = question.max_tokens
            self.requests.append((question.chat[0]["content"], most))
            if most > self.refuses:
                raise TeacherError("max_tokens is too large")
            whole = self.text(question)
            finish = LENGTH if len(whole) > most else STOP
            answers.append(Answer(whole[:most], 10, min(len(whole), most), 0.1, finish=finish))
        return answers


def chats(*lengths: int) -> list[list[dict[str, str]]]:
    return [chat(str(n)) for n in lengths]


def whole(teacher: Writes, limit: AnswerLimit, *lengths: int) -> ChatGroup:
    [result] = ask_whole(teacher, [(chats(*lengths), limit)], teacher.write)
    return result


def test_cut_answers_are_asked_for_again_with_more_room():
    teacher = Writes()
    result = whole(teacher, AnswerLimit(20, "data"), 5, 100, 300, 20)
    assert [answer.output_tokens for answer in result.answers] == [5, 100, 300, 20]
    assert not result.truncated and result.limit.tokens == 320
    # Only what was cut is asked again, each time with four times the tokens.
    assert teacher.requests[4:] == [("100", 80), ("300", 80), ("100", 320), ("300", 320)]


def test_one_in_twenty_may_be_cut():
    teacher = Writes()
    result = whole(teacher, AnswerLimit(20, "data"), *[5] * 19, 100)
    assert len(teacher.requests) == 20 and result.truncated == [19]
    assert result.limit.complaint("t", result.answers) is None


def test_where_more_room_does_not_help_the_limit_is_fixed():
    @dataclass
    class Capped(Writes):
        def write(self, questions: Sequence[Question]) -> list[Answer]:
            return [Answer("twelve words"[:12], 10, 12, 0.1, finish=LENGTH) for _ in questions]

    teacher = Capped()
    result = whole(teacher, AnswerLimit(20, "data"), 100, 100)
    assert result.limit.is_fixed and result.limit.tokens == 20
    advice = result.limit.stopped_by
    assert advice.startswith("Asked for 80, it gives no more")
    assert result.limit.complaint("t", result.answers) == CutShort("t", 2, 2, 20, "data", advice)
    assert result.wider(teacher) is None


def test_the_money_the_context_and_the_time_bound_the_room():
    poor = Writes()
    replies = iter([4, 1])
    [result] = ask_whole(
        poor, [(chats(30, 30, 30, 30), AnswerLimit(20, "data"))],
        lambda questions: poor.write(questions)[: next(replies)],
    )  # fmt: skip
    assert result.truncated == [1, 2, 3] and result.limit.is_fixed
    assert result.limit.tokens == 80
    assert "there was no money for them" in str(result.limit.complaint("t", result.answers))
    narrow = Writes(context=60)
    result = whole(narrow, AnswerLimit(20, "data"), 100)
    assert result.limit.tokens == 40 and result.truncated == [0]
    slow = Writes(most=50)
    result = whole(slow, AnswerLimit(20, "data"), 100)
    assert result.limit.tokens == 50 and len(slow.requests) == 2
    # An endpoint that refuses so long an answer has given those that there are.
    strict = Writes(refuses=100)
    result = whole(strict, AnswerLimit(30, "data"), 500)
    assert result.limit.tokens == 30 and result.limit.is_fixed
    with pytest.raises(TeacherError):
        whole(strict, AnswerLimit(200, "data"), 5)


def test_a_limit_of_the_user_is_kept():
    teacher = Writes(context=15)
    result = whole(teacher, AnswerLimit(20, "probe.max_tokens=20", is_fixed=True), 100)
    assert result.truncated == [0] and len(teacher.requests) == 1


@dataclass
class Repeats(Writes):
    """Writes a table of equal rows, and ends it after `n_rows` of them."""

    n_rows: int = 30

    def text(self, question: Question) -> str:
        return "| 0 | 0 | 0 |\n" * self.n_rows + "Answer: 3"


def test_a_table_of_equal_rows_is_cut_as_anything_else():
    teacher = Repeats()
    result = whole(teacher, AnswerLimit(200, "data"), 1, 1)
    assert [answer.text[-9:] for answer in result.answers] == ["Answer: 3"] * 2
    assert (result.limit.tokens, result.truncated) == (800, [])
    fixed = whole(Repeats(), AnswerLimit(200, "probe.max_tokens=200", is_fixed=True), 1)
    assert fixed.truncated == [0], "what is not asked again is counted as cut"


def test_what_repeats_itself_in_four_times_the_room_is_not_asked_a_third_time():
    teacher = Repeats(n_rows=10**4)
    result = whole(teacher, AnswerLimit(200, "data"), 1, 1)
    assert [n for _, n in teacher.requests] == [200, 200, 800, 800]
    assert {answer.finish for answer in result.answers} == {REPETITION}
    # More room is no cure, and says nothing of how long other answers are.
    assert (result.limit.tokens, result.limit.is_fixed, result.truncated) == (200, False, [])
    assert result.limit.complaint("t", result.answers) is None
    first = replace(result.limit, is_provisional=True)
    assert first.measured_by(result.answers).tokens == 200


def test_reasoning_that_the_text_does_not_hold_is_a_longer_answer():
    @dataclass
    class Reasons(Writes):
        """Its answer stands behind 1,500 tokens of reasoning, which are no part of the text."""

        is_counted: bool = True

        def write(self, questions: Sequence[Question]) -> list[Answer]:
            self.requests += [("", question.max_tokens) for question in questions]
            return [
                Answer("3", 10, 1502, 0.1, finish=STOP, is_estimated=not self.is_counted)
                if question.max_tokens > 1500
                else Answer(
                    "",
                    10,
                    question.max_tokens,
                    0.1,
                    finish=LENGTH,
                    is_estimated=not self.is_counted,
                )
                for question in questions
            ]

    for is_counted in (True, False):
        teacher = Reasons(is_counted=is_counted)
        result = whole(teacher, AnswerLimit(59, "data"), 1, 1)
        assert [answer.text for answer in result.answers] == ["3", "3"]
        assert [n for _, n in teacher.requests[::2]] == [59, 236, 944, 3776]
        assert not result.limit.is_fixed


def test_what_is_asked_again_is_foretold_before():
    teacher = Writes()
    foretold: list[tuple[int, list[int]]] = []

    def foretell(questions: Sequence[Question]) -> None:
        foretold.append((len(teacher.requests), [question.max_tokens for question in questions]))

    groups = [(chats(5, 100, 300), AnswerLimit(20, "data"))]
    ask_whole(teacher, groups, teacher.write, foretell=foretell)
    assert foretold == [(3, [80, 80]), (5, [320, 320])]


def test_the_limit_is_lowered_to_what_the_context_takes():
    limit = AnswerLimit(1000, "data")
    assert fitting(Writes(), chats(1), limit) is limit
    assert fitting(Writes(context=300), chats(1), limit).tokens == 250
    # A question that never fits lowers nothing.
    assert fitting(Writes(context=5), chats(1), limit).tokens == 1000


def test_limits_of_the_data():
    class Data:
        def answer_texts(self, prompt: str) -> list[str]:
            return {"bare": ["yes", "perhaps"], "long": ["x" * 1256]}.get(prompt, [])

    assert data_limit(Data(), "bare").tokens == 7 + 48
    assert data_limit(Data(), "long").tokens == 256 + 500 + 48
    assert data_limit(Data(), "bare").source == "the longest of 2 texts of the data"
    assert limit_of(["日本"]).tokens == 6 + 48
    for unknown in (data_limit(Data(), "other"), data_limit(StubTask(), "bare")):
        assert unknown.is_provisional and unknown.tokens == MEASURED_TOKENS


def test_the_first_answers_set_a_limit_that_nothing_else_tells():
    teacher = Writes()
    result = whole(teacher, limit_of([]), 100, 150)
    assert result.limit.measured_by(result.answers) == AnswerLimit(348, "the first 2 answers")
    result = whole(teacher, limit_of([]), 100, 1000)
    assert result.limit.tokens == 1024
    assert result.limit.measured_by(result.answers).tokens == 2048
    stuck = Writes(most=300)
    result = whole(stuck, limit_of([]), 100, 1000)
    assert result.limit.measured_by(result.answers).tokens == MEASURED_TOKENS
    known = AnswerLimit(20, "data")
    assert known.measured_by(result.answers) is known


def test_prompts_share_a_call_and_only_those_that_matter_get_more():
    teacher = Writes()
    calls: list[int] = []

    def reply(questions: Sequence[Question]) -> list[Answer]:
        calls.append(len(questions))
        return teacher.write(questions)

    groups = [(chats(500, 5), AnswerLimit(100, "a")), (chats(50, 6), AnswerLimit(20, "b"))]
    results = ask_whole(teacher, groups, reply, lambda tried: [False, True])
    assert calls == [4, 1]
    # The shorter limit first: where the money ends, the dearest answers are lacking.
    assert teacher.requests[0] == ("50", 20)
    assert [result.limit.tokens for result in results] == [100, 80]
    assert [len(result.truncated) for result in results] == [1, 0]
