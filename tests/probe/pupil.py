"""A teacher that adds as it is asked, and a probe of it in a folder."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from echo_teacher import EchoTeacher

from stratos.config import ComplexityConfig, EvaluateConfig, LimitsConfig, ProbeConfig
from stratos.core.context import Context
from stratos.ledger import Ledger
from stratos.probe import probe
from stratos.records import ModelCard, Probe
from stratos.synthesize.alignment import Alignment
from stratos.tasks.jsonl import JsonlTask
from stratos.teachers.base import Answer


@dataclass
class Pupil(EchoTeacher):
    """Adds as it is asked; with examples it is right, without it says the wrong thing.

    `knows` is up to which number it can add; beyond it repeats the last example of its prompt.
    """

    name: str = "pupil"
    knows: int = 10_000
    usd_per_million: float | None = None
    reason: str | None = None
    chats_seen: list[Any] = field(default_factory=list)

    def unreachable(self) -> str | None:
        return self.reason

    def identity(self) -> str:
        return f"{self.name} {self.knows}"

    def card(self) -> ModelCard:
        price = self.usd_per_million
        return replace(
            super().card(), usd_per_million_input_tokens=price, usd_per_million_output_tokens=price
        )

    def ask(self, chats, max_tokens, tick=None, keep=None) -> list[Answer]:
        answers = []
        for index, chat in enumerate(chats):
            self.chats_seen.append(chat)
            answers.append(Answer(self.reply(chat), 10, 2, 0.5))
            if keep is not None:
                keep(index, answers[-1])
        return answers

    def reply(self, chat) -> str:
        question, *options = chat[-1]["content"].splitlines()
        number = int(question.split()[2])
        if number >= self.knows:
            return chat[-2]["content"]
        if options:
            return next(o[0] for o in options if o.endswith(f" {2 * number}"))
        return f"Answer: {2 * number}" if len(chat) > 2 else "I would rather not."


def sums(folder: Path, n: int = 400) -> JsonlTask:
    path = folder / "sums.jsonl"
    rows = [
        {"question": f"What is {i} + {i}?", "answer": 2 * i, "kind": ("even", "odd")[i % 2]}
        for i in range(n)
    ]
    path.write_text("\n".join(map(json.dumps, rows)))
    return JsonlTask(str(path), metric="numeric", slice="kind", slices=("even", "odd"))


class World:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.said: list[str] = []
        self.ticks: list[float] = []
        self.task: Any = sums(folder)

    def config(self, *teachers: Any, **changes: Any) -> Any:
        fields = {
            "task": self.task,
            "teachers": teachers,
            "probe": ProbeConfig(n_items=40, n_trial_items=8),
            "limits": LimitsConfig(),
            "complexity": ComplexityConfig(),
            "strategies": (Alignment(),),
            "students": (),
            "evaluate": EvaluateConfig(),
        }
        return SimpleNamespace(**{**fields, **changes})

    def context(self, run: str = "run") -> Context:
        return Context(
            self.folder / run,
            self.folder / "cache",
            Ledger(self.folder / run / "ledger.jsonl"),
            tick=lambda done, total, text: self.ticks.append(done / total),
            warn=self.said.append,
        )

    def probe(self, *teachers: Any, run: str = "run", **changes: Any) -> Probe:
        return probe(self.config(*teachers, **changes), self.context(run))
