import io

from rich.console import Console
from stub_executors import with_queue
from world import BLIND, SIGHTED, STUDENTS, World, replace

from stratos.catalog import load_catalog
from stratos.plan import frontier_table
from stratos.plan.explain.show import MARK, _is, _short
from stratos.plan.options.candidates import build_problem
from stratos.plan.stage import solve
from stratos.records import WhatIf
from stratos.run.console import Console as RunConsole
from stratos.run.screen import Level


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
    for cell in (plan.student, f"${plan.usd:.2f}", f"{plan.latency_ms:.0f}"):
        assert cell in row
    assert f"12 shown of {plan.n_frontier}" in " ".join(text.split())
    assert plan.n_frontier > 12
    everything = printed(plan, rows=1000)
    n_rows = everything.count("stratos_")
    assert 12 < n_rows <= plan.n_frontier, "rows that look alike are one"
    assert f"{n_rows} shown of {plan.n_frontier}" in " ".join(everything.split())
    assert text.count("stratos_") == 12


def test_what_hours_hold_of_a_start_is_said(monkeypatch):
    with_queue(monkeypatch)
    plan = planned()
    booted, queued = "about 10 min of them for each rented server", " waits "
    place = plan.role("train").offer.region
    waits = f"hours: the training waits about 2.0 h of them for nodes of queue/{place}"
    unknown = f"hours: how long the training waits for nodes of queue/{place} is not known"
    for cloud, wait, says, silent in (
        ("aws", None, booted, queued), ("queue", 2.0, waits, booted),
        ("queue", None, unknown, booted), ("queue", 0.0, "", queued),
        ("local", None, "", booted), ("local", None, "", queued),
    ):  # fmt: skip
        roles = [
            one
            if one.offer is None
            else replace(one, offer=replace(one.offer, cloud=cloud), wait_hours=wait)
            for one in plan.roles
        ]
        text = " ".join(printed(replace(plan, roles=roles)).split())
        assert says in text and silent not in text, cloud


def test_columns_appear_where_rows_differ():
    assert "teacher" not in printed(planned())
    untried = tuple(replace(student, runs=()) for student in STUDENTS)
    mixed = printed(planned(students=untried, teachers=(BLIND, SIGHTED)), 200)
    assert "teacher" in mixed and "strategy" in mixed
    assert "unknown" in mixed


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
        RunConsole(rich, Level.DEFAULT, explain=explain).done("plan", plan)
        text = rich.file.getvalue()
        assert ("balanced and other objectives" in text) == explain
        assert ("  • Money [b]binds[/b]." in text) == explain
        assert (f"  • {plan.reasons[0]}" in text) == explain
        assert ("Left out\n" in text) == explain


def test_mixed_servers_are_named_one_by_one():
    assert _short("2 × aws/us-east-1 g4dn.xlarge (1xT4) spot + gcp/us-central1 e2-small") == (
        "2 × aws 1xT4 spot + gcp e2-small"
    )


def test_a_cut_frontier_keeps_the_chosen_plan_and_the_alternatives(monkeypatch):
    monkeypatch.setattr("stratos.plan.stage.MAX_FRONTIER", 20)
    plan = planned()
    assert len(plan.frontier) <= 20 < plan.n_frontier
    points = [(p.usd, p.hours, p.latency_ms) for p in plan.frontier]
    assert (plan.usd, plan.hours, plan.latency_ms) in points
    for point in plan.alternatives.values():
        assert (point.usd, point.hours, point.latency_ms) in points
    assert points == sorted(points)


def test_rows_that_read_the_same_are_one():
    plan = planned()
    (chosen,) = [point for point in plan.frontier if _is(point, plan)]
    nearly = tuple(
        replace(chosen, usd=chosen.usd + i * 1e-5, hours=chosen.hours - i * 1e-6)
        for i in range(1, 30)
    )
    crowded = replace(plan, frontier=(*nearly[:15], *plan.frontier, *nearly[15:]))
    for rows in (12, 1000):
        lines = [line for line in printed(crowded, rows=rows).splitlines() if "stratos_" in line]
        cells = [[cell.strip() for cell in line.split("│")[2:-2]] for line in lines]
        assert len({tuple(row) for row in cells}) == len(cells)
        (marked,) = [line for line in lines if MARK in line]
        assert f"${plan.usd:,.2f}" in marked
    assert printed(crowded, rows=1000).count("stratos_") <= len(plan.frontier)
    assert printed(crowded).count("stratos_") == 12, "each of the rows tells something"
    labels = [line.split("│")[-2] for line in printed(crowded).splitlines() if "│" in line]
    for label in ("accuracy", "cost", "time", "latency"):
        assert any(label in cell for cell in labels)
