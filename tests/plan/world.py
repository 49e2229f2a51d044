"""A realistic run to plan: three students with recorded runs, two teachers, the builtin catalog."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import msgspec
from hydra.types import RunMode
from omegaconf import OmegaConf
from stub_task import StubTask

from stratos.cli.compose import hydra_for
from stratos.config import (
    CallbacksConfig,
    CloudConfig,
    ComplexityConfig,
    Config,
    DeployConfig,
    EvaluateConfig,
    LimitsConfig,
    LoggerConfig,
    ObjectiveConfig,
    PathsConfig,
    PlanConfig,
    ProbeConfig,
    StudentConfig,
    SynthesizeConfig,
    TrafficConfig,
    TrainerConfig,
)
from stratos.core.context import Context
from stratos.core.extensions import conf_dir
from stratos.core.intervals import wilson
from stratos.ledger import Ledger
from stratos.records import CardRun, Complexity, ModelCard, Probe, TeacherProbe
from stratos.synthesize.alignment import Alignment
from stratos.synthesize.injection import Injection

TASK = "mahjong"


def _shipped_objectives() -> dict[str, ObjectiveConfig]:
    names = sorted(path.stem for path in (conf_dir() / "objective").glob("*.yaml"))
    with hydra_for(None) as hydra:
        composed = {
            name: hydra.compose_config("config", [f"objective={name}"], RunMode.RUN, False)
            for name in names
        }
    return {
        name: msgspec.convert(OmegaConf.to_container(one.objective), ObjectiveConfig)
        for name, one in composed.items()
    }


OBJECTIVES = _shipped_objectives()
"""Those that are shipped, by name."""


@dataclass(frozen=True)
class Tiles(StubTask):
    """As much of a task as planning reads; without items, a usual length is assumed."""

    name: str = TASK
    can_reverse: bool = True


INJECTION = Injection(n_items=20_000)
ALIGNMENT = Alignment(n_items=20_000, min_coverage_beside_injection=0.0)
STRATEGIES = {one.name: one for one in (INJECTION, ALIGNMENT)}

# SmolLM2-135M-Instruct and Qwen2.5-7B-Instruct, from their config.json.
SMALL = ModelCard("smollm2_135m", 134_515_008, 30, 576, 9, 3, 1536, 49152, 8192)
LARGE = ModelCard("qwen2.5_7b", 7_615_616_512, 28, 3584, 28, 4, 18944, 152064, 32768)


def teacher(card: ModelCard, right: int, n: int = 64, **changes: Any) -> TeacherProbe:
    probe = TeacherProbe(
        teacher=card.name,
        card=card,
        prompt="default",
        n_items=n,
        exact=wilson(right, n),
        choice=wilson(n // 4, n),
        exact_by_slice={},
        parsable=1.0,
        echoes=0.0,
        input_tokens=400 * n,
        output_tokens=12 * n,
        seconds=60.0,
        cpu_seconds=110.0,
        usd=0.0,
        n_cached=0,
    )
    return replace(probe, **changes)


BLIND = teacher(SMALL, right=1)
SIGHTED = teacher(LARGE, right=48)


def runs(accuracy: float, ms: float, cpu_seconds: float, strategy: str) -> tuple[CardRun, ...]:
    return tuple(
        CardRun(
            task=TASK,
            strategy=strategy,
            accuracy=accuracy + wobble,
            n_items=1000,
            train_tokens=20_000_000,
            tokens_per_answer=150.0,
            ms_per_answer=ms,
            train_cpu_seconds=cpu_seconds,
            seed=seed,
            date="2026-11-20",
            machine="2 x EPYC",
            validation_accuracy=accuracy + wobble,
            n_validation_items=500,
        )
        for seed, wobble in enumerate((-0.004, 0.0, 0.004))
    )


def student(name: str, width: int, layers: int, facts: tuple[float, float, float]) -> StudentConfig:
    accuracy, ms, cpu_seconds = facts
    return StudentConfig(
        name=name,
        hidden_size=width,
        n_layers=layers,
        intermediate_size=3 * width,
        runs=runs(accuracy, ms, cpu_seconds, "injection"),
    )


STUDENTS = (
    student("stratos_300k", 96, 3, (0.71, 300.0, 600.0)),
    student("stratos_1m", 128, 4, (0.96, 420.0, 1100.0)),
    student("stratos_3m", 192, 6, (0.985, 900.0, 3300.0)),
)


@dataclass(frozen=True)
class World:
    """What a test changes."""

    cloud: CloudConfig = field(default_factory=CloudConfig)
    limits: LimitsConfig = field(default_factory=LimitsConfig)
    objective: ObjectiveConfig = field(default_factory=ObjectiveConfig)
    students: tuple[StudentConfig, ...] = STUDENTS
    strategies: tuple[Any, ...] = (INJECTION, ALIGNMENT)
    teachers: tuple[TeacherProbe, ...] = (BLIND,)
    task: Any = field(default_factory=Tiles)
    traffic: TrafficConfig = field(default_factory=TrafficConfig)
    plan: PlanConfig = field(default_factory=lambda: PlanConfig(history=False))
    complexity: ComplexityConfig = field(default_factory=ComplexityConfig)

    def config(self, run_dir: Path | str = "run") -> Config:
        return Config(
            task=self.task,
            teachers=(),
            students=self.students,
            strategies=self.strategies,
            cloud=self.cloud,
            complexity=self.complexity,
            limits=self.limits,
            objective=self.objective,
            # As long as the students' cards say, whatever the rows.
            trainer=TrainerConfig(max_epochs=-1),
            callbacks=CallbacksConfig(),
            logger=LoggerConfig(),
            deploy=DeployConfig(),
            paths=PathsConfig(run_dir=str(run_dir), cache_dir=str(run_dir)),
            probe=ProbeConfig(),
            synthesize=SynthesizeConfig(),
            evaluate=EvaluateConfig(),
            traffic=self.traffic,
            plan=self.plan,
            stages=("plan",),
            seed=0,
        )

    def probe(self, unreachable: dict[str, str] | None = None) -> Probe:
        return Probe(
            task=self.task.name,
            teachers=self.teachers,
            unreachable=unreachable or {},
            complexity=Complexity("high", False),
            answers_path="probe.jsonl",
            seconds=60.0,
        )


def context(run_dir: Path) -> Context:
    return Context(run_dir=run_dir, cache_dir=run_dir, ledger=Ledger(run_dir / "ledger.jsonl"))
