import io

from rich.console import Console
from world import BLIND, SIGHTED, STUDENTS, World, replace

from stratos.catalog import load_catalog
from stratos.config import CloudConfig
from stratos.console import Console as RunConsole
from stratos.plan import frontier_table, solve
from stratos.plan.candidates import build_problem
from stratos.plan.show import MARK, _short, alternatives_table
from stratos.records import WhatIf


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


def drawn(renderable, width=160):
    console = Console(file=io.StringIO(), width=width)
    console.print(renderable)
    return console.file.getvalue()


def test_other_objectives_stand_beside_the_chosen_plan_with_percentages():
    plan = planned()
    lines = drawn(alternatives_table(plan)).splitlines()
    row = {line.split("│")[1].strip(): line for line in lines if "│" in line}
    assert f"balanced {MARK}" in row
    first = plan.alternatives["accuracy_first"]
    for text in (
        f"${first.usd:,.2f} ({first.usd / plan.usd - 1:+.0%})",
        f"{first.latency_ms:,.0f} ({first.latency_ms / plan.latency_ms - 1:+.0%})",
        f"{plan.score / first.score - 1:+.1%}",
    ):
        assert text in row["accuracy-first"]
    assert {"cost-first", "fastest", "lowest latency"} <= set(row)
    same = replace(plan, alternatives={"cost_first": chosen_as_point(plan)})
    assert "same plan" in drawn(alternatives_table(same))
    nothing = replace(plan, alternatives={"cost_first": replace(first, score=0.0)})
    assert "its score is 0" in drawn(alternatives_table(nothing))


def chosen_as_point(plan):
    return next(
        p for p in plan.frontier
        if (p.usd, p.hours, p.latency_ms) == (plan.usd, plan.hours, plan.latency_ms)
    )  # fmt: skip


def test_the_console_explains_only_where_it_is_asked_to():
    told = WhatIf("limits.budget_usd", 3.0, 4.0, chosen_as_point(planned()), "Money [b]binds[/b].")
    plan = replace(planned(), what_if=(told,))
    for explain in (False, True):
        rich = Console(file=io.StringIO(), width=200)
        RunConsole(rich, explain=explain).done("plan", plan)
        text = rich.file.getvalue()
        assert "balanced beside other objectives" in text
        assert ("  • Money [b]binds[/b]." in text) == explain
        assert (f"  • {plan.reasons[0]}" in text) == explain
        assert ("Left out\n" in text) == explain


def test_mixed_servers_are_named_one_by_one():
    assert _short("2 × aws/us-east-1 g4dn.xlarge (1xT4) spot + gcp/us-central1 e2-small") == (
        "2 × aws 1xT4 spot + gcp e2-small"
    )


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
