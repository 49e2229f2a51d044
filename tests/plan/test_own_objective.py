"""An objective of a user's own is a YAML with weights: planned, explained, shown, swept."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from checked import problems
from hydra.types import RunMode
from rich.console import Console
from twin import everything, instance, meets
from world import replace

from stratos.cli.build import build
from stratos.cli.compose import hydra_for
from stratos.cli.help import group_page
from stratos.config import LimitsConfig, ObjectiveConfig
from stratos.core.errors import InfeasibleError
from stratos.plan.explain.show import alternatives_table, explanation, frontier_table
from stratos.plan.objective import HOURS, USD, weighted
from stratos.plan.stage import solve

YAML = """\
# Few dollars, and an hour is worth five of them.
#   python -m stratos +task=mahjong objective=cheap_and_fast
name: cheap_and_fast
goal: the fewest dollars and hours
weights:
  usd: 1
  hours: 5
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine" / "objective").mkdir(parents=True)
    (tmp_path / "mine" / "objective" / "cheap_and_fast.yaml").write_text(YAML)
    return tmp_path / "mine"


def objective(own: Path) -> ObjectiveConfig:
    with hydra_for(str(own)) as hydra:
        typed = ["+task=mahjong", "objective=cheap_and_fast", "paths=here", "paths.run_dir=run"]
        return build(hydra.compose_config("config", typed, RunMode.RUN, True)).objective


def test_the_plan_has_the_least_sum_of_all_that_there_are(own):
    mine = objective(own)
    assert (weighted(mine), mine.counts_accuracy) == ((USD, HOURS), False)
    n_plans = 0
    for seed in range(40):
        problem = replace(instance(seed, mixed=seed % 3 == 1), objective=mine)
        sums = [usd + 5 * hours for _, usd, hours, _ in _feasible(problem)]
        if not sums:
            with pytest.raises(InfeasibleError):
                solve(problem)
            continue
        n_plans += 1
        chosen = solve(problem)
        assert chosen.usd + 5 * chosen.hours == pytest.approx(min(sums)), seed
    assert n_plans > 15


def _feasible(problem):
    return [costs for costs in everything(problem) if meets(costs, problem.limits)]


def test_it_is_explained_and_shown_by_its_name_and_goal(own, snapshot):
    problem = instance(5)
    record = solve(replace(problem, objective=objective(own), limits=LimitsConfig(budget_usd=4)))
    assert record.objective == "cheap_and_fast"
    console = Console(width=160, file=io.StringIO())
    for shown in (frontier_table(record), alternatives_table(record), explanation(record)):
        console.print(shown)
    lines = [line.rstrip() for line in console.file.getvalue().splitlines()]
    assert "\n".join(lines) == snapshot


def test_it_is_checked_helped_and_swept(own, snapshot):
    mine = ["--config-dir", str(own), "+task=mahjong"]
    assert problems(*mine, "objective=cheap_and_fast") == []
    assert problems("-m", *mine, "objective=cheap_and_fast,fastest") == []
    assert "cheap_and_fast" in group_page(["objective"], str(own))
    assert "objective.weights" in group_page(["objective=cheap_and_fast"], str(own))
    typed = [*mine, "objective=cheap_and_fast"]
    assert problems(*typed, "objective.weights.usd=-1") == snapshot
    assert problems(*typed, "+objective.weights.z=1") == snapshot
    assert problems(*typed, "objective.weights={usd: 0}", "objective.weights.hours=0") == snapshot
    assert problems(*typed, "objective.name=balanced") == snapshot
