"""A student with not one right answer is trained no further, and not bundled."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from stratos.config import STAGES, StudentConfig
from stratos.core.errors import NothingLearntError
from stratos.records import PilotPoint, PilotRun
from stratos.run.nothing_learnt import stop_before_evaluation, stop_before_training


def config(has_rows: bool = True, max_tokens: int | None = None, stages: Any = STAGES) -> Any:
    task = SimpleNamespace(has_rows=has_rows, has_labels=False)
    return SimpleNamespace(
        task=task, stages=stages, students=(StudentConfig("tiny", train_tokens=40_000),),
        trainer=SimpleNamespace(max_tokens=max_tokens), run_dir=Path("outputs/run"),
    )  # fmt: skip


PLAN: Any = SimpleNamespace(student="tiny", strategy="supervised", train_tokens=40_000)


def pilot(tokens: int, accuracy: float = 0.0, n_items: int = 46) -> Any:
    points = tuple(PilotPoint(n, accuracy, n_items, 188, 1.0, 1.0, 1.0) for n in (500, tokens))
    return SimpleNamespace(runs=[PilotRun("tiny", "supervised", "smollm2", points, "", 0.0)])


def student(exact: float = 0.0, n_items: int = 46, epochs: float | None = 9.0) -> Any:
    return SimpleNamespace(
        name="tiny", validation_exact=exact, n_validation_items=n_items, train_tokens=40_000,
        epochs=epochs,
    )  # fmt: skip


def test_after_a_quarter_of_the_training_on_rows_it_is_not_trained() -> None:
    with pytest.raises(NothingLearntError, match=r"0 of 46 .*student=smollm2_135m.*plan.pilot="):
        stop_before_training(config(), PLAN, pilot(10_000))


@pytest.mark.parametrize(
    ("settings", "of_pilot"),
    [
        ({}, pilot(9_000)),
        ({}, pilot(40_000, accuracy=1 / 46)),
        ({}, pilot(40_000, n_items=29)),
        ({"has_rows": False}, pilot(20_000)),
        ({"stages": ("probe", "plan")}, pilot(40_000)),
        ({}, None),
    ],
    ids=["short", "one right", "few items", "a curve that starts late", "a plan", "no pilot"],
)
def test_what_is_open_is_trained(settings: dict[str, Any], of_pilot: Any) -> None:
    stop_before_training(config(**settings), PLAN, of_pilot)


def test_where_the_task_makes_its_data_the_whole_training_tells() -> None:
    with pytest.raises(NothingLearntError):
        stop_before_training(config(has_rows=False), PLAN, pilot(38_000))


def test_a_whole_training_in_vain_is_not_bundled() -> None:
    with pytest.raises(NothingLearntError, match=r"stages=\[evaluate,report\] hydra.run.dir="):
        stop_before_evaluation(config(), student())
    for settings in (config(False, 10_000), config(max_tokens=9_000)):
        with pytest.raises(NothingLearntError):
            stop_before_evaluation(settings, student())


def test_what_has_hardly_begun_or_has_learnt_something_goes_on() -> None:
    stop_before_evaluation(config(False, 9_000), student())
    stop_before_evaluation(config(), student(epochs=0.9))
    stop_before_evaluation(config(), student(1 / 46))
    stop_before_evaluation(config(), student(n_items=29))
    stop_before_evaluation(config(stages=("evaluate", "report")), student())
