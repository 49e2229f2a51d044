import io

from rich.console import Console
from world import BLIND, SIGHTED, STUDENTS, World, replace

from stratos.catalog import load_catalog
from stratos.config import CloudConfig
from stratos.plan import frontier_table, solve
from stratos.plan.candidates import build_problem
from stratos.plan.show import MARK


def planned(**changes):
    world = World(**changes)
    return solve(build_problem(world.config(), world.probe(), load_catalog(world.cloud)))


def printed(plan, width=160, rows=12):
    console = Console(file=io.StringIO(), width=width)
    console.print(frontier_table(plan, rows))
    return console.file.getvalue()


def test_the_chosen_row_is_marked_and_the_count_is_honest():
    plan = planned()
    text = printed(plan)
    (row,) = [line for line in text.splitlines() if MARK in line and "│" in line]
    for cell in (plan.student, f"${plan.usd:.2f}", f"{plan.latency_ms:.0f}", f"{plan.score:.3f}"):
        assert cell in row
    assert f"12 shown of {plan.n_frontier}" in text
    assert plan.n_frontier > 12
    everything = printed(plan, rows=1000)
    assert f"{plan.n_frontier} shown of {plan.n_frontier}" in everything
    assert text.count("stratos_") == 12


def test_every_alternative_has_its_row():
    text = printed(planned())
    for label in ("accuracy", "cost", "time", "latency"):
        assert any(label in line.split("│")[-2] for line in text.splitlines() if "│" in line)


def test_columns_appear_where_rows_differ():
    assert "teacher" not in printed(planned())
    untried = tuple(replace(student, runs=()) for student in STUDENTS)
    mixed = printed(planned(students=untried, teachers=(BLIND, SIGHTED)), 200)
    assert "teacher" in mixed and "strategy" in mixed
    assert "unknown" in mixed


def test_a_server_is_named_by_cloud_and_gpu():
    text = printed(planned(cloud=CloudConfig(name="aws", clouds=("aws",))))
    assert "aws 1xT4" in text and "aws c7i.large" in text


def test_a_cut_frontier_keeps_the_chosen_plan_and_the_alternatives(monkeypatch):
    monkeypatch.setattr("stratos.plan.solution.MAX_FRONTIER", 20)
    plan = planned()
    assert len(plan.frontier) <= 20 < plan.n_frontier
    points = [(p.usd, p.hours, p.latency_ms) for p in plan.frontier]
    assert (plan.usd, plan.hours, plan.latency_ms) in points
    for point in plan.alternatives.values():
        assert (point.usd, point.hours, point.latency_ms) in points
    assert points == sorted(points)
