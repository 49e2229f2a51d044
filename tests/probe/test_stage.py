"""What the probe measures, keeps, leaves out and says; once with a real language model."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from echo_teacher import EchoTeacher
from real_teacher import needs_smollm2, smollm2

from stratos.config import ComplexityConfig, LimitsConfig, ProbeConfig
from stratos.context import Context
from stratos.errors import ConfigError, TeacherError
from stratos.intervals import wilson
from stratos.ledger import Ledger
from stratos.probe import probe
from stratos.probe.complexity import coverage_level, length_level
from stratos.records import ModelCard, Probe, from_json, to_json
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


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_measures_with_the_best_prompt(world: World) -> None:
    teacher = Pupil()
    record = world.probe(teacher)
    (found,) = record.teachers
    assert found.prompt == "default"
    assert [(t.prompt, t.exact, t.parsable, t.n_items) for t in found.trials] == [
        ("default", 1.0, 1.0, 8),
        ("zero_shot", 0.0, 0.0, 8),
        ("reasoning", 1.0, 1.0, 8),
    ]
    assert (found.exact, found.choice) == (wilson(40, 40), wilson(40, 40))
    assert found.exact_by_slice == {"even": wilson(20, 20), "odd": wilson(20, 20)}
    assert (found.parsable, found.echoes, found.n_items, found.n_cached) == (1.0, 0.0, 40, 0)
    assert (found.input_tokens, found.output_tokens, found.seconds) == (400, 80, 20.0)
    # 8 items under three prompts, the other 32 under the best one, and 40 choices: nothing twice.
    assert len(teacher.chats_seen) == 3 * 8 + 32 + 40
    assert record.complexity.level == "low"
    assert from_json(to_json(record), Probe) == record
    assert world.said == []
    assert world.ticks == sorted(world.ticks) and world.ticks[-1] == 1.0


def test_only_validation_items_are_asked(world: World) -> None:
    teacher = Pupil()
    world.probe(teacher)
    asked = {chat[-1]["content"].splitlines()[0] for chat in teacher.chats_seen}
    assert asked == {item.question for item in world.task.items("validation", 40)}


def test_tells_echoes_from_answers(world: World) -> None:
    (found,) = world.probe(Pupil(knows=0)).teachers
    examples = world.task.example_answers("default")
    gold = [item.answer for item in world.task.items("validation", 40)]
    assert found.exact.mean == sum(answer in examples for answer in gold) / 40
    assert found.parsable == 1.0
    assert found.echoes == 1.0 - found.exact.mean


def test_every_prompt_and_raw_answer_is_kept(world: World) -> None:
    record = world.probe(Pupil(knows=200))
    rows = [json.loads(line) for line in Path(record.answers_path).read_text().splitlines()]
    assert [row["kind"] for row in rows] == ["answer"] * 56 + ["choice"] * 40
    taken = [row for row in rows if row["kind"] == "answer" and row["prompt"] == "default"]
    assert len(taken) == 40
    assert sum(row["exact"] for row in taken) / 40 == record.teachers[0].exact.mean
    items = {item.id: item for item in world.task.items("validation", 40)}
    for row in taken:
        assert row["messages"] == world.task.messages(items[row["item"]])
        assert row["parsed"] == world.task.parse(row["answer"])


def test_a_second_run_asks_nothing(world: World) -> None:
    first = world.probe(Pupil(), run="first").teachers[0]
    teacher = Pupil()
    second = world.probe(teacher, run="second").teachers[0]
    assert teacher.chats_seen == []
    assert (first.n_cached, second.n_cached) == (0, 40)
    assert replace(second, n_cached=0, cpu_seconds=0) == replace(first, cpu_seconds=0)


def test_teachers_that_cannot_be_asked_are_left_out_with_reasons(world: World) -> None:
    absent, broken = Pupil("absent", reason="no key"), Pupil("broken")
    broken.reply = lambda chat: (_ for _ in ()).throw(TeacherError("out of paper"))  # type: ignore
    record = world.probe(absent, Pupil(), broken)
    assert [found.teacher for found in record.teachers] == ["pupil"]
    assert record.unreachable == {"absent": "no key", "broken": "out of paper"}
    with pytest.raises(TeacherError) as caught:
        world.probe(absent, broken)
    assert str(caught.value) == (
        "No teacher can be asked:\n  absent: no key\n  broken: out of paper"
    )


def test_a_probe_beyond_its_money_is_cut_and_said(world: World) -> None:
    teacher = Pupil(usd_per_million=10_000.0)  # $0.12 an answer
    record = world.probe(teacher, limits=LimitsConfig(probe_usd=6.0))
    (found,) = record.teachers
    assert 0 < found.n_items < 40
    assert found.usd <= 6.0
    assert found.usd == pytest.approx(0.12 * len(teacher.chats_seen))
    assert found.exact == wilson(found.n_items, found.n_items)
    assert found.choice.source == "0 items, Wilson"
    assert world.said and all("questions less" in text for text in world.said)
    poor = world.probe(Pupil(), Pupil("dear", usd_per_million=1e6), run="poor")
    assert poor.unreachable == {"dear": "not one answer fits into limits.probe_usd: raise it."}


def test_complexity(world: World) -> None:
    declared = world.probe(Pupil(), complexity=ComplexityConfig(level="medium")).complexity
    assert (declared.level, declared.declared) == ("medium", True)
    measured = world.probe(Pupil(knows=0), run="b").complexity
    assert (measured.level, measured.declared) == ("high", False)
    assert measured.evidence[0].endswith("pupil): high")
    assert [coverage_level(0.7, 0.9), coverage_level(0.69, 0.9), coverage_level(0.0, 0.3)] == [
        "low",
        "medium",
        "medium",
    ]
    assert coverage_level(0.0, 0.29) == "high"
    assert [length_level(n) for n in (100, 101, 999, 1000)] == ["low", "medium", "medium", "high"]


def test_no_validation_items(world: World) -> None:
    world.task = replace(world.task, validation_share=1e-9)
    with pytest.raises(ConfigError, match="The task jsonl has no validation items"):
        world.probe(Pupil())


@needs_smollm2
def test_a_small_real_teacher_is_blind_on_mahjong(world: World) -> None:
    from stratos.tasks.mahjong import MahjongTask

    world.task = MahjongTask()
    few = ProbeConfig(n_items=8, n_trial_items=2, max_tokens=12)
    record = world.probe(smollm2(), probe=few)
    (found,) = record.teachers
    assert found.exact.mean <= 0.25
    assert found.n_items == 8
    assert len(found.trials) == 4
    assert 0 < found.output_tokens <= 8 * 12
    assert found.card.n_params == 134_515_008
    assert record.complexity.level in ("medium", "high")
    rows = [json.loads(line) for line in Path(record.answers_path).read_text().splitlines()]
    assert sum(row["kind"] == "choice" for row in rows) == 8
    again = world.probe(smollm2(), probe=few, run="again").teachers[0]
    assert again.n_cached == 8
    assert again.exact == found.exact
