"""Sums, a teacher that knows some of them, and a corpus made of them."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from stratos.config import CallbacksConfig, EvaluateConfig, LimitsConfig, ProbeConfig
from stratos.core.context import Context
from stratos.ledger import Ledger
from stratos.records import Corpus, corpus_rows
from stratos.synthesize import synthesize
from stratos.tasks.jsonl import JsonlTask
from stratos.teachers.base import Answer
from tests.teachers.echo_teacher import EchoTeacher


def sums(folder: Path, n: int = 600, wrong: tuple[int, ...] = ()) -> JsonlTask:
    path = folder / "sums.jsonl"
    rows = [
        {
            "question": f"What is {i} + {i}?",
            "answer": 2 * i,
            "why": f"{i} + {i} = {2 * i + (i in wrong)}, so the answer is {2 * i + (i in wrong)}.",
        }
        for i in range(n)
    ]
    path.write_text("\n".join(map(json.dumps, rows)))
    return JsonlTask(str(path), metric="numeric", rationale="why")


@dataclass
class Adder(EchoTeacher):
    """Reasons rightly about numbers below `knows`; with the prompt zero_shot about all."""

    name: str = "adder"
    knows: int = 300
    bare: bool = False
    seen: list[Any] = field(default_factory=list)

    def identity(self) -> str:
        return f"adder {self.knows} {self.bare}"

    def reply(self, chat: Any) -> Answer:
        self.seen.append(chat)
        number = int(chat[-1]["content"].split()[2])
        right = number < self.knows or len(chat) == 2
        total = 2 * number if right else 2 * number + 1
        text = f"{total}." if self.bare else f"Twice {number} makes it.\nAnswer: {total}"
        return Answer(text, 10, 5, 0.0)


def config_of(task: Any, strategy: Any, teachers: tuple[Any, ...], **more: Any) -> Any:
    """Return as much of a config as the stage reads."""
    fields = {
        "students": (), "limits": LimitsConfig(), "probe": ProbeConfig(),
        "evaluate": EvaluateConfig(), "callbacks": CallbacksConfig(), "seed": 0, "rooms": {},
    }  # fmt: skip
    return SimpleNamespace(task=task, strategies=(strategy,), teachers=teachers, **fields | more)


def plan_of(**more: Any) -> Any:
    """Return as much of a plan as the stage reads."""
    fields = {
        "teacher": "adder", "strategy": "alignment", "student": "small", "prompt": "",
        "max_tokens": {}, "roles_of": lambda role: (),
    }  # fmt: skip
    return SimpleNamespace(**fields | more)


def run(
    folder: Path,
    task: Any,
    strategy: Any,
    teachers: tuple[Any, ...] = (),
    *,
    seed: int = 0,
    planned: str | None = None,
    budget_usd: float | None = None,
    notes: list[str] | None = None,
    students: tuple[Any, ...] = (),
    **plan: Any,
) -> tuple[Corpus, list[str]]:
    """Make a corpus; return it with what was warned of, and noted where `notes` takes no notes."""
    warnings: list[str] = []
    context = Context(
        folder, folder / "cache", Ledger(folder / "ledger", budget_usd), warn=warnings.append,
        note=(notes if notes is not None else warnings).append,
    )  # fmt: skip
    config = config_of(task, strategy, teachers, students=students, seed=seed)
    return synthesize(config, plan_of(strategy=planned or strategy.name, **plan), context), warnings


def rows_of(corpus: Corpus) -> list[dict[str, Any]]:
    return [asdict(row) for row in corpus_rows(corpus.path)]
