"""A teacher's test answers: whole, counted where they are cut, and at the length of the probe."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "teachers"))

from chat_server import KEY
from perfect_server import GSM8K, PerfectServer, gsm8k_solutions

from stratos.core.context import Context
from stratos.evaluate.answers import Answers, ask_teacher
from stratos.ledger import Ledger
from stratos.tasks.base import Score
from stratos.tasks.math import MathTask
from stratos.teachers.openai import OpenAITeacher
from stratos.teachers.prompting import AnswerLimit, data_limit


@pytest.mark.parametrize(("cuts_at", "n_cut"), [(None, 0), (40, 5)])
def test_answers_that_are_cut_are_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cuts_at: int | None, n_cut: int
) -> None:
    """Five of twenty solutions are longer than the teacher writes, and say their answer last."""
    monkeypatch.setenv("PARROT_KEY", KEY)

    def solution(i: int) -> str:
        return f"{'So it goes on and on. ' * (20 if i % 4 == 0 else 2)}\n#### {i}"

    def rows(first: int) -> list[dict[str, str]]:
        last = first + 20
        return [{"question": f"Which is {i}?", "answer": solution(i)} for i in range(first, last)]

    for name, some in (("train", rows(1000)), ("test", rows(0))):
        (tmp_path / f"{name}.jsonl").write_text("\n".join(map(json.dumps, some)))
    task = MathTask(
        str(tmp_path / "train.jsonl"), test_path=str(tmp_path / "test.jsonl"), split_answer="####"
    )
    said: list[str] = []
    context = Context(tmp_path, tmp_path / "cache", Ledger(tmp_path / "ledger"), warn=said.append)
    solutions = {row["question"]: row["answer"] for row in (*rows(0), *rows(1000))}
    with PerfectServer(solutions, cuts_at) as server:
        teacher = OpenAITeacher(
            "parrot", "parrot-large", base_url=server.base_url, api_key_env="PARROT_KEY"
        )
        answers = ask_teacher(
            task,
            teacher,
            "reasoning",
            task.items("test", 20),
            limit=AnswerLimit(400, "the probe", is_fixed=True),
            context=context,
        )
    assert len(answers.items) == 20 and answers.max_tokens == 400
    assert answers.n_truncated == n_cut
    assert sum(score.exact == 1 for score in answers.scores) == 20 - n_cut
    assert bool(said) is bool(n_cut)


@pytest.mark.skipif(not GSM8K.is_dir(), reason="no GSM8K beside the checkout")
@pytest.mark.parametrize(
    ("cuts_at", "first", "right", "n_cut"),
    [(None, None, 60, 0), (None, 32, 57, 0), (16, None, 0, 59)],
)
def test_a_perfect_teacher(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    cuts_at: int | None,
    first: int | None,
    right: int,
    n_cut: int,
) -> None:
    """A limit that proves too short for the test items is raised, whatever the probe found."""
    monkeypatch.setenv("PARROT_KEY", KEY)
    task = MathTask(
        str(GSM8K / "train.jsonl"), test_path=str(GSM8K / "test.jsonl"), split_answer="####"
    )
    said: list[str] = []
    context = Context(tmp_path, tmp_path / "cache", Ledger(tmp_path / "ledger"), warn=said.append)
    limit = data_limit(task, "reasoning") if first is None else AnswerLimit(first, "the probe")
    with PerfectServer(gsm8k_solutions(), cuts_at) as server:
        teacher = OpenAITeacher(
            "parrot", "parrot-large", base_url=server.base_url, api_key_env="PARROT_KEY"
        )
        items = task.items("test", 60)
        ticks: list[tuple[int, int]] = []
        answers = ask_teacher(
            task, teacher, "reasoning", items, limit=limit, context=context,
            tick=lambda done, total: ticks.append((done, total)),
        )  # fmt: skip
    assert ticks == sorted(ticks), "progress never goes back"
    assert ticks[-1][0] == ticks[-1][1] >= 60
    assert (ticks[-1][1] > 60) is (limit.tokens < 64 or cuts_at is not None), "again is more work"
    n_right = sum(score.exact == 1 for score in answers.scores)
    assert n_right >= right and (right or n_right < 10)
    assert answers.n_truncated >= n_cut and (n_cut or answers.n_truncated <= 3)
    assert bool(said) is bool(n_cut)
    assert not said or "answers were cut short at" in said[0]


@pytest.mark.parametrize(("right", "n_asked"), [(range(0), 32), (range(0, 200, 2), 200)])
def test_a_teacher_far_behind_is_not_asked_the_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, right: range, n_asked: int
) -> None:
    """A student with 70% right is 30 points ahead of a teacher with none, not of one with half."""
    monkeypatch.setenv("PARROT_KEY", KEY)
    rows = [{"question": f"Which is {i}?", "answer": f"So it is.\n#### {i}"} for i in range(400)]
    for name, some in (("train", rows[200:]), ("test", rows[:200])):
        (tmp_path / f"{name}.jsonl").write_text("\n".join(map(json.dumps, some)))
    task = MathTask(
        str(tmp_path / "train.jsonl"), test_path=str(tmp_path / "test.jsonl"), split_answer="####"
    )
    items = sorted(task.items("test", 200), key=lambda item: int(item.answer))
    by_student = Answers(
        items=tuple(items),
        texts=("",) * 200,
        scores=tuple(Score(float(i % 10 < 7), 1.0, True) for i in range(200)),
        tokens=(1,) * 200,
        input_tokens=0,
        seconds=0.0,
        cpu_seconds=0.0,
    )
    solutions = {
        row["question"]: row["answer"] if i in right else "It is.\n#### -1"
        for i, row in enumerate(rows)
    }
    notes: list[str] = []
    context = Context(tmp_path, tmp_path / "cache", Ledger(tmp_path / "ledger"), note=notes.append)
    with PerfectServer(solutions, None) as server:
        teacher = OpenAITeacher(
            "parrot", "parrot-large", base_url=server.base_url, api_key_env="PARROT_KEY"
        )
        answers = ask_teacher(
            task, teacher, "reasoning", items, limit=AnswerLimit(400, "the probe", is_fixed=True),
            context=context, by_student=by_student,
        )  # fmt: skip
    assert len(answers.items) == n_asked
    assert any("is not asked the rest" in note for note in notes) is (n_asked < 200)
