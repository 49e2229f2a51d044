"""What a paid teacher's interview will cost is said before its first question, and it is cut."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from chat_server import KEY, ChatServer
from echo_teacher import EchoTeacher

from stratos.config import ComplexityConfig, LimitsConfig, ProbeConfig
from stratos.core.context import Context
from stratos.ledger import Ledger
from stratos.probe.teacher_evaluation import CHOICE_TOKENS, TeacherEvaluation
from stratos.records import ModelCard
from stratos.tasks.jsonl import JsonlTask
from stratos.teachers.base import LENGTH, STOP, Answer
from stratos.teachers.openai import OpenAITeacher


@dataclass
class Dear(EchoTeacher):
    """A quarter of a cent an answer; keeps what was said before its first question."""

    name: str = "dear"
    said: list[str] = field(default_factory=list)
    said_first: list[str] | None = None

    def card(self) -> ModelCard:
        return replace(super().card(), usd_per_million_output_tokens=2500.0)

    def identity(self) -> str:
        return "dear"

    def ask(self, *asked: Any, **more: Any) -> list[Answer]:
        if self.said_first is None:
            self.said_first = list(self.said)
        return super().ask(*asked, **more)


@dataclass
class Chatty(Dear):
    """Writes 1,500 tokens about everything, as far as it may."""

    notes_by_length: dict[int, int] = field(default_factory=dict)

    def ask(
        self, chats: Sequence[Any], max_tokens: int, tick: Any = None, keep: Any = None
    ) -> list[Answer]:
        self.notes_by_length.setdefault(max_tokens, len(self.said))
        answers = []
        for index in range(len(chats)):
            n = min(1500, max_tokens)
            text, finish = ("so it is", LENGTH) if n < 1500 else ("so it is: 1", STOP)
            answers.append(Answer(text, 20, n, 0.0, finish=finish))
            if keep is not None:
                keep(index, answers[-1])
        return answers


def sums(
    tmp_path: Path, teacher: Any, probe_usd: float, said: list[str]
) -> tuple[TeacherEvaluation, list[str], Ledger]:
    path = tmp_path / "sums.jsonl"
    rows = [{"question": f"What is {i} + {i}?", "answer": 2 * i} for i in range(400)]
    path.write_text("\n".join(map(json.dumps, rows)))
    warnings: list[str] = []
    ledger = Ledger(tmp_path / "ledger.jsonl")
    context = Context(tmp_path, tmp_path / "cache", ledger, warn=warnings.append, note=said.append)
    task = JsonlTask(str(path), metric="numeric")
    config: Any = SimpleNamespace(
        task=task,
        probe=ProbeConfig(n_items=30, n_trial_items=5),
        limits=LimitsConfig(probe_usd=probe_usd),
        complexity=ComplexityConfig(),
    )
    items = task.items("validation", 30)
    interview = TeacherEvaluation(teacher, items, config, context, lambda share: None)
    return interview, warnings, ledger


@pytest.mark.parametrize("probe_usd", [1000.0, 0.5])
def test_an_interview_is_foretold_and_cut(tmp_path, probe_usd):
    teacher = Dear()
    interview, warnings, ledger = sums(tmp_path, teacher, probe_usd, teacher.said)
    notes = teacher.said
    n_questions = interview.n_questions
    interview.hold()
    assert len(notes) == 1 and teacher.said_first == notes
    # The likeliest length is not known: half of the longest answer, and it is said what fits then.
    assert notes[0].startswith(f"Teacher dear: {n_questions} questions are expected to take ")
    assert (", for about " in notes[0]) == bool(warnings) == (probe_usd < 1)
    assert 0 < ledger.spent_usd <= probe_usd


def test_a_second_interview_says_that_nothing_is_paid(tmp_path):
    """Prompts that lost the first time are not asked the second time either, and not foretold."""
    first, *_ = sums(tmp_path, Dear(), 1000.0, [])
    found = first.hold()
    teacher = Dear()
    again, _, ledger = sums(tmp_path, teacher, 1000.0, teacher.said)
    spent = ledger.spent_usd
    same = again.hold()
    [note] = teacher.said
    assert note == f"Teacher dear: all {len(again.rows)} answers of the probe are kept from " + (
        "before; nothing is paid."
    )
    assert ledger.spent_usd == spent and same.exact == found.exact and same.usd == 0


def test_what_is_asked_again_is_foretold_before_it_is_paid(tmp_path):
    teacher = Chatty()
    interview, _, ledger = sums(tmp_path, teacher, 10_000.0, teacher.said)
    interview.hold()
    task = interview.config.task
    _, *more = teacher.said
    again = [one for one in more if "cut answers to ask again are expected" in one]
    assert len(again) >= 2 and all("with longer answers" in one for one in {*more} - {*again})
    # Each length that no prompt begins with is told of before it is asked.
    begins = {CHOICE_TOKENS, *(interview._asking.first_limit(one).tokens for one in task.prompts)}
    later = {n: told for n, told in teacher.notes_by_length.items() if n not in begins}
    assert later and min(later.values()) >= 2
    lines = [json.loads(line) for line in ledger.path.read_text().splitlines()]
    most = sum(line["range_usd"][1] for line in lines if "range_usd" in line)
    assert ledger.spent_usd <= most
    first_high = next(line["range_usd"][1] for line in lines if "range_usd" in line)
    assert ledger.spent_usd > first_high, "the first range alone does not hold it"


def test_how_many_answers_an_endpoint_gives_at_once_is_measured(tmp_path, monkeypatch):
    monkeypatch.setenv("PARROT_KEY", KEY)
    with ChatServer() as server:
        server.delay_s = 0.1
        teacher = OpenAITeacher(
            "t", "parrot-large", base_url=server.base_url, api_key_env="PARROT_KEY", concurrency=4
        )
        interview, *_ = sums(tmp_path, teacher, 1000.0, [])
        found = interview.hold()
        teacher.close()
    assert found.most_at_once == 4
    assert found.at_once is not None and 1 < found.at_once <= 4
    assert found.spread is not None and found.spread.seconds > 0
