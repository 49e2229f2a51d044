"""The config group of a cascade: what it refuses, and what a teacher is asked for it."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import checked
import pytest

from stratos import config as c
from stratos.contrib.cascade import choosing_items as budget
from stratos.contrib.cascade.group import CascadeGroup
from stratos.contrib.cascade.words import MeasureUnknown, NoPromise, NothingServed
from stratos.tasks.jsonl import JsonlTask

SILENT: Any = SimpleNamespace(title="an engine", measures=())
"""Does not tell how sure its answers are."""


@pytest.mark.parametrize(
    ("group", "deploy", "reasons"),
    [
        (CascadeGroup(), {}, []),
        (CascadeGroup(usd_per_day=5.0, teacher_usd=1.0), {},
         [NoPromise("usd_per_day"), NoPromise("teacher_usd")]),
        (CascadeGroup(accuracy=0.9, usd_per_day=5.0), {}, []),
        (CascadeGroup(accuracy=0.9), {"name": "none"}, [NothingServed(0.9)]),
        (CascadeGroup(accuracy=0.9), {"engine": SILENT}, []),
        (CascadeGroup(accuracy=0.9, measure="agreement"), {"engine": SILENT},
         [MeasureUnknown("agreement", "an engine")]),
    ],
)  # fmt: skip
def test_settings_that_promise_nothing_are_refused(group, deploy, reasons):
    config: Any = SimpleNamespace(deploy=c.DeployConfig(**deploy))
    assert list(group.problems(config)) == reasons


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        (["cascade.accuracy=1"], "cascade.accuracy=1: expected a number above 0 and below 1 or "
         "null."),
        (["cascade.usd_per_day=5"], str(NoPromise("usd_per_day"))),
        (["deploy=none", "cascade.accuracy=0.9"], str(NothingServed(0.9))),
    ],
)  # fmt: skip
def test_a_command_line_is_told_of_them(typed, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert checked.problems("+task=mahjong", *typed) == [message]


def test_the_teacher_is_asked_as_many_items_as_a_promise_needs(tmp_path, monkeypatch):
    """Nothing where no promise is asked for, or so few items cannot show it."""
    rows = [{"question": f"What is {i} + {i}?", "answer": 2 * i} for i in range(2000)]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    task = JsonlTask(str(tmp_path / "rows.jsonl"), metric="numeric")
    monkeypatch.setattr(budget, "n_payable", lambda probed, most, limit_usd, limits: most)
    monkeypatch.setattr(budget, "answer_limit", lambda *_: SimpleNamespace(tokens=8))
    probed: Any = SimpleNamespace(n_items=16, prompt=task.prompts[0])
    probe: Any = SimpleNamespace(teachers=[probed])
    teacher: Any = None
    n_validation = len(task.items("validation", 2000))
    for group, n_read, n in (
        (CascadeGroup(accuracy=0.9, n_items=60), 4, 60),
        (CascadeGroup(accuracy=0.99, n_items=60), 4, 0),
        (CascadeGroup(accuracy=0.9), n_validation - 50, 0),  # half of the test items are far more
        (CascadeGroup(), 4, 0),
    ):
        config: Any = SimpleNamespace(
            task=task, deploy=c.DeployConfig(), evaluate=c.EvaluateConfig(),
            callbacks=c.CallbacksConfig(n_validation_items=4, n_final_validation_items=n_read),
            rooms={"cascade": group}, limits=c.LimitsConfig(),
        )  # fmt: skip
        assert len(group.questions_after_deploy(config, probe, probed, teacher)) == n
