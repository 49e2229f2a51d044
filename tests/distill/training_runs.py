"""A small corpus of the Mahjong task, and short trainings on it."""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from stratos.config import (
    CallbacksConfig,
    EvaluateConfig,
    LimitsConfig,
    StudentConfig,
    TrainerConfig,
)
from stratos.core.context import Context
from stratos.ledger import Ledger
from stratos.records import Interval, Plan, RoleChoice, Student
from stratos.synthesize.injection import Injection
from stratos.tasks.mahjong import MahjongTask

SHORT = {"max_tokens": 20_000, "precision": "fp32", "accelerator": "cpu", "n_threads": 1}
"""A training of a second."""
EVERY_3 = {"validate_every_steps": 3}
TINY = StudentConfig("tiny", hidden_size=32, n_layers=2, n_heads=2, intermediate_size=64)


@pytest.fixture(scope="session")
def corpus_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    task = MahjongTask()
    items = list(task.reverse(200))
    path = tmp_path_factory.mktemp("corpus") / "train.jsonl"
    rows = ({"question": item.question, "completion": task.completion(item)} for item in items)
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return path


def a_plan(strategy: str = "injection", teacher: str = "") -> Plan:
    """Return a plan of the tiny student."""
    return Plan(
        status="optimal",
        solver="",
        teacher=teacher,
        student="tiny",
        strategy=strategy,
        roles=(RoleChoice("train", None, 1, False, hours=2.0, usd=3.0),),
        accuracy=Interval(0, 0, 1),
        usd=3.0,
        hours=2.0,
        latency_ms=1.0,
        objective="balanced",
        frontier=(),
        n_frontier=0,
        alternatives={},
        reasons=(),
        left_out={},
        warnings=(),
        n_offers=0,
        price_dates=("", ""),
        seconds=0.0,
        net_usd=0.0,
    )


@pytest.fixture(scope="session")
def run_distill(corpus_path: Path) -> Callable[..., Any]:
    """Return a function that runs the stage in a folder."""

    def run(
        folder: Path,
        fingerprint: str = "f",
        warnings: list[str] | None = None,
        notes: list[str] | None = None,
        ticks: list[tuple[Any, ...]] | None = None,
        student: StudentConfig = TINY,
        strategies: tuple[Any, ...] = (Injection(),),
        teachers: tuple[Any, ...] = (),
        callbacks: dict[str, Any] | None = None,
        corpus: Path = corpus_path,
        budget_usd: float | None = None,
        task: Any = None,
        **trainer: Any,
    ) -> Any:
        from stratos.distill import distill

        settings = {"max_tokens": 30_000, "batch_tokens": 2000, "warmup_steps": 3, **trainer}
        config = SimpleNamespace(
            plain={},
            students=(replace(student, name="tiny"),),
            strategies=strategies,
            teachers=teachers,
            limits=LimitsConfig(),
            task=task or MahjongTask(),
            trainer=TrainerConfig(**settings),
            callbacks=CallbacksConfig(
                **{
                    "checkpoint_every_steps": 4,
                    "validate_every_steps": 0,
                    "n_validation_items": 2,
                    **(callbacks or {}),
                }
            ),
            evaluate=EvaluateConfig(max_new_tokens=8, batch_size=2),
            seed=3,
        )
        context = Context(
            folder,
            folder,
            Ledger(folder / "ledger.jsonl", budget_usd),
            tick=lambda *tick: None if ticks is None else ticks.append(tick),
            warn=(warnings if warnings is not None else []).append,
            note=(notes if notes is not None else []).append,
            fingerprint=fingerprint,
        )
        made = SimpleNamespace(path=str(corpus))
        plan = a_plan(strategies[0].name, teachers[0].name if teachers else "")
        return distill(config, plan, made, context)  # type: ignore[arg-type]

    return run


@dataclass(frozen=True)
class Trained:
    """A student, and what was said while it was trained."""

    student: Student
    notes: list[str]
    ticks: list[tuple[Any, ...]]


@pytest.fixture(scope="session")
def trained(run_distill: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """Train the student that all tests share which only read one."""
    notes: list[str] = []
    ticks: list[tuple[Any, ...]] = []
    folder = tmp_path_factory.mktemp("trained")
    student = run_distill(folder, notes=notes, ticks=ticks, callbacks=EVERY_3, **SHORT)
    return Trained(student, notes, ticks)
