"""The stage from config to record: what it imports, says, spends, and how long it takes."""

import io
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from rich.console import Console
from stub_executors import Queue
from world import BLIND, OBJECTIVES, SIGHTED, World, context, replace

from stratos.config import CloudConfig, LimitsConfig
from stratos.core.errors import InfeasibleError
from stratos.core.formats import hours
from stratos.plan import frontier_table, plan
from stratos.records import Pilot, Plan, from_json, to_json

AWS = CloudConfig(name="aws", providers=("aws",))


def test_the_record_survives_a_round_trip(tmp_path):
    world = World(cloud=AWS)
    said, ticks, logged = [], [], {}
    run = replace(
        context(tmp_path),
        warn=said.append,
        tick=lambda *args: ticks.append(args),
        log=lambda metrics, step=None: logged.update(metrics),
    )
    record = plan(world.config(tmp_path), world.probe(), run)
    assert from_json(to_json(record), Plan) == record
    assert any(text.startswith("The plan uses prices older than 30 days") for text in said)
    assert ticks[-1][:2] == (3, 3)
    assert logged["plan/usd"] == record.usd
    assert list(tmp_path.iterdir()) == []


def test_a_cluster_whose_nodes_are_no_offers_is_warned_of_before_the_plan(tmp_path, snapshot):
    world = World(cloud=AWS)

    def said(**executor):
        heard = []
        run = replace(context(tmp_path), warn=heard.append)
        config = replace(world.config(tmp_path), executor=Queue(**executor), stages=("distill",))
        plan(config, world.probe(), run)
        return [text for text in heard if "cloud=queue" in text]

    assert said() == snapshot
    assert "at $3 an hour (executor.usd_per_hour)" in said(usd_per_hour=3.0)[0]
    assert not said(stages=("evaluate",)), "no stage of this run is a job"


def test_the_same_input_gives_the_same_plan(tmp_path):
    world = World(teachers=(BLIND, SIGHTED))
    first, second = (
        replace(plan(world.config(), world.probe(), context(tmp_path)), seconds=0.0)
        for _ in range(2)
    )
    assert first == second


def test_money_spent_already_is_taken_off_the_budget(tmp_path, snapshot):
    world = World(cloud=AWS, limits=LimitsConfig(budget_usd=3))
    run = context(tmp_path)
    before = plan(world.config(), world.probe(), run)
    assert before.usd > 2.25
    with run.ledger.reserve("teacher x", 0.78) as call:
        call.settle(0.78)
    after = plan(world.config(), world.probe(), run)
    assert after.usd <= 2.22 < before.usd
    assert after.reasons == snapshot
    with run.ledger.reserve("teacher x", 2.0) as call:
        call.settle(2.0)
    with pytest.raises(InfeasibleError) as caught:
        plan(world.config(), world.probe(), run)
    assert str(caught.value) == snapshot
    assert "Of the budget $2.78 is spent already." in str(caught.value)


def test_time_spent_already_is_taken_off_the_deadline(tmp_path, snapshot):
    cheapest = OBJECTIVES["cheapest"]
    world = World(cloud=AWS, objective=cheapest, limits=LimitsConfig(deadline_hours=0.6))
    run = context(tmp_path)
    before = plan(world.config(), replace(world.probe(), seconds=0.0), run)
    assert 0.4 < before.hours <= 0.6 and before.spent_hours == 0
    taken = 0.6 - before.hours + 0.05
    trained = Pilot("mahjong", (), {}, 3600 * (taken - 0.02), 1.0, 0.0)
    probe = replace(world.probe(), seconds=3600 * 0.02)
    after = plan(world.config(), probe, run, trained)
    assert after.spent_hours == pytest.approx(taken)
    assert after.hours < before.hours and after.hours + taken <= 0.6 + 1e-9
    told = f"The stages before the plan took {hours(taken)}, and the deadline of 0.6 h counts them."
    assert f"{told} The hours of the plan come after." in after.reasons
    free = plan(replace(world, limits=LimitsConfig()).config(), probe, run, trained)
    (said,) = [one for one in free.reasons if one.startswith("The stages before the plan")]
    assert said == (
        f"The stages before the plan took {hours(taken)}. The hours of the plan come after."
    )
    console = Console(file=io.StringIO(), width=160)
    console.print(frontier_table(free))
    caption = [line for line in console.file.getvalue().splitlines() if "hours: from here" in line]
    assert [line.strip() for line in caption] == snapshot

    late = replace(probe, seconds=3600 * 0.5)
    with pytest.raises(InfeasibleError) as caught:
        plan(world.config(), late, run)
    text = str(caught.value)
    assert text == snapshot
    enough = float(re.search(r"\(limits.deadline_hours=([0-9.]+)\)", text)[1])
    limits = LimitsConfig(deadline_hours=enough)
    assert plan(replace(world, limits=limits).config(), late, run).hours + 0.5 <= enough


def test_no_torch_is_imported(tmp_path):
    code = f"""
import sys
sys.path[:0] = [{str(Path(__file__).parent)!r}, {str(Path(__file__).parents[1])!r}]
from pathlib import Path
from world import World, context
from stratos.plan import frontier_table, plan
from rich.console import Console
world = World()
record = plan(world.config(), world.probe(), context(Path({str(tmp_path)!r})))
Console(file=sys.stderr).print(frontier_table(record))
heavy = {{"torch", "transformers", "lightning", "wandb", "pandas", "pyarrow"}}
print(record.student, sorted(heavy & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "stratos_1m []\n"


def test_engines_of_language_models_are_spoken_of_where_one_was_chosen(tmp_path, monkeypatch):
    monkeypatch.setattr("stratos.plan.stage.not_chosen_from", lambda deploy: ["no llama.cpp"])
    world = World()
    config = world.config()
    assert "no llama.cpp" in plan(config, world.probe(), context(tmp_path)).warnings
    other = SimpleNamespace(is_lm=False)
    monkeypatch.setattr("stratos.plan.stage.named", lambda students, name: other)
    assert "no llama.cpp" not in plan(config, world.probe(), context(tmp_path)).warnings
