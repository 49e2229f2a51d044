"""What a paid teacher's interview will cost is said before its first question, and it is cut."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from echo_teacher import EchoTeacher

from stratos.config import ComplexityConfig, LimitsConfig, ProbeConfig
from stratos.context import Context
from stratos.ledger import Ledger
from stratos.probe.interview import Interview
from stratos.records import ModelCard
from stratos.tasks.jsonl import JsonlTask
from stratos.teachers.base import Answer


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


@pytest.mark.parametrize("probe_usd", [1000.0, 0.15])
def test_an_interview_is_foretold_and_cut(tmp_path: Path, probe_usd: float) -> None:
    path = tmp_path / "sums.jsonl"
    rows = [{"question": f"What is {i} + {i}?", "answer": 2 * i} for i in range(400)]
    path.write_text("\n".join(map(json.dumps, rows)))
    notes: list[str] = []
    warnings: list[str] = []
    ledger = Ledger(tmp_path / "ledger.jsonl")
    context = Context(tmp_path, tmp_path / "cache", ledger, warn=warnings.append, note=notes.append)
    task = JsonlTask(str(path), metric="numeric")
    config: Any = SimpleNamespace(
        task=task,
        probe=ProbeConfig(n_items=30, n_trial_items=5),
        limits=LimitsConfig(probe_usd=probe_usd),
        complexity=ComplexityConfig(),
    )
    teacher = Dear(said=notes)
    items = task.items("validation", 30)
    interview = Interview(teacher, items, config, context, lambda share: None)
    n_questions = interview.n_questions
    found = interview.hold()
    assert len(notes) == 1 and teacher.said_first == notes
    # The likeliest length is not known: half of the longest answer, and it is said what fits then.
    assert notes[0].startswith(f"Teacher dear: {n_questions} questions are expected to take ")
    assert (", for about " in notes[0]) == bool(warnings) == (found.n_items < 30) == (probe_usd < 1)
    assert 0 < ledger.spent_usd <= probe_usd
