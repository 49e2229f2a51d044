"""The dashboard of a sweep as files, without an account."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from in_process import stratos
from required import lacking

from stratos.records import save
from stratos.report.sweep_jobs import is_run, read_jobs
from stratos.run.summary import final_numbers

CONFIG = """stages: [probe, plan, synthesize, distill, evaluate, deploy]
deploy:
  name: local
student:
  name: {student}
cloud:
  name: aws
logger:
  wandb: true
  project: mine
  entity: null
  group: null
"""


@pytest.fixture
def sweep(factory: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    if importlib.util.find_spec("wandb_workspaces") is None:
        lacking("dashboard", "needs the package wandb-workspaces")
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    folder = tmp_path / "a-sweep"
    for number, student in enumerate(("stratos_1m", "stratos_3m")):
        run = folder / str(number)
        lines = ["+task=mahjong", f"student={student}", f"trainer.lr_muon={0.01 * (number + 1)}"]
        factory.write_hydra(run, lines)
        (run / ".hydra" / "config.yaml").write_text(CONFIG.format(student=student))
        for stage, record in factory.make_records(run).items():
            save(run / f"{stage}.json", stage, "f", record)
    return folder


def found(node: Any, name: str) -> list[Any]:
    """Return what stands under a key, anywhere."""
    below = node.values() if isinstance(node, dict) else node if isinstance(node, list) else []
    here = [node[name]] if isinstance(node, dict) and name in node else []
    return here + [one for inner in below for one in found(inner, name)]


def test_a_sweep_becomes_a_report_and_a_workspace(sweep, factory):
    done = stratos("dashboard", str(sweep))
    assert "there is no W&B key" in done.stdout, done.stderr
    assert [job.name for job in read_jobs(sweep)] == ["0", "1"], "its own folder is no run"
    assert not is_run(sweep / "dashboard")
    report = json.loads((sweep / "dashboard" / "report.json").read_text())
    workspace = json.loads((sweep / "dashboard" / "workspace.json").read_text())
    for one in (report, workspace):
        if isinstance(one["spec"], str):
            one["spec"] = json.loads(one["spec"])
        panels = {panel["viewType"]: panel["config"] for panels in found(one, "panels")
                  if isinstance(panels, list) for panel in panels}  # fmt: skip
        scatter = panels["Scatter Plot"]
        assert scatter["xAxis"] == "summary:planned_usd"
        assert scatter["yAxis"] == "summary:student_exact"
        assert scatter["zAxis"] == "summary:latency_p95_ms"
        columns = [column["accessor"] for column in panels["Parallel Coordinates Plot"]["columns"]]
        assert columns[:2] == ["config:student.value.name", "config:trainer.value.lr_muon"]
        assert columns[-1] == "summary:student_exact"
        assert panels["Bar Chart"]["groupBy"] == "cloud.value.name"
        assert "a-sweep" in json.dumps(found(one, "filters"))
        assert "summary:verdict" in json.dumps(one), "the verdict is a column"
    text = json.dumps(report)
    assert "job 0 (student=stratos_1m " in text and "trainer.lr_muon=0.01): 97.9%" in text
    assert workspace["project"] == "mine"
    # What is drawn is what runs write into their summary.
    numbers = final_numbers(factory.make_records(sweep / "0"))
    drawn = set(re.findall(r'"(?:summary:)([\w]+)"', json.dumps([report, workspace])))
    of_baselines = {"verdict", "beside_baselines"}
    assert drawn - of_baselines <= set(numbers), drawn


def test_what_is_no_sweep_is_one_line(tmp_path):
    done = stratos("dashboard", str(tmp_path / "gone"))
    assert done.returncode == 2
    assert "no job of a sweep in it" in done.stderr
