import io

from rich.console import Console
from stub_executors import with_queue
from world import ALIGNMENT, BLIND, SIGHTED, STUDENTS, World, replace

from stratos.catalog import load_catalog
from stratos.config import CloudConfig
from stratos.core.formats import accuracy
from stratos.plan import frontier_table
from stratos.plan.explain.show import MARK, _is, _short, alternatives_table
from stratos.plan.options.candidates import build_problem
from stratos.plan.stage import solve
from stratos.records import Pilot, PilotPoint, PilotRun, Tried, WhatIf
from stratos.run.console import Console as RunConsole
from stratos.run.console import outcome


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


def test_a_prediction_is_shown_with_its_interval_and_a_bound_as_a_bound(snapshot):
    plan = planned()
    ends = f"({plan.accuracy.low:.2f}–{plan.accuracy.high:.2f})"
    shown = f"{plan.accuracy.mean:.3f} {ends}"
    assert shown in printed(plan) and shown in drawn(alternatives_table(plan))
    said = outcome(plan)
    assert f"accuracy {plan.accuracy.mean:.3f} ({plan.accuracy.low:.3f} to " in said
    untried = tuple(replace(student, runs=()) for student in STUDENTS)
    bounded = planned(students=untried, teachers=(SIGHTED,), strategies=(ALIGNMENT,))
    assert not bounded.accuracy.is_known and bounded.accuracy.high < 0.9
    for text in (printed(bounded), drawn(alternatives_table(bounded))):
        assert "≤ 0.84, not measured" in text
        assert "0.750" not in text, "what the teacher has is no prediction of the student"
    assert "accuracy at most 0.84, not measured" in outcome(bounded)
    assert all(point.accuracy == 0.0 and not point.accuracy_known for point in bounded.frontier)
    (reason,) = [text for text in bounded.reasons if "The accuracy of" in text]
    assert reason == snapshot


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
        f"+${first.net_usd - plan.net_usd:,.2f}",
    ):
        assert text in row["accuracy-first"]
    assert {"cost-first", "fastest", "lowest latency"} <= set(row)
    same = replace(plan, alternatives={"cost_first": chosen_as_point(plan)})
    assert "same plan" in drawn(alternatives_table(same))


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
        assert "balanced and other objectives" in text
        assert ("  • Money [b]binds[/b]." in text) == explain
        assert (f"  • {plan.reasons[0]}" in text) == explain
        assert ("Left out\n" in text) == explain


def test_mixed_servers_are_named_one_by_one():
    assert _short("2 × aws/us-east-1 g4dn.xlarge (1xT4) spot + gcp/us-central1 e2-small") == (
        "2 × aws 1xT4 spot + gcp e2-small"
    )


def test_a_server_is_named_by_cloud_and_gpu():
    text = printed(planned(cloud=CloudConfig(name="aws", providers=("aws",))))
    assert "aws 1xT4" in text and "aws c7i.large" in text


def test_a_cut_frontier_keeps_the_chosen_plan_and_the_alternatives(monkeypatch):
    monkeypatch.setattr("stratos.plan.stage.MAX_FRONTIER", 20)
    plan = planned()
    assert len(plan.frontier) <= 20 < plan.n_frontier
    points = [(p.usd, p.hours, p.latency_ms) for p in plan.frontier]
    assert (plan.usd, plan.hours, plan.latency_ms) in points
    for point in plan.alternatives.values():
        assert (point.usd, point.hours, point.latency_ms) in points
    assert points == sorted(points)


def test_what_a_short_training_showed_is_said_in_place_of_unknown():
    untried = tuple(replace(student, runs=()) for student in STUDENTS[:2])
    world = World(students=untried)
    points = (PilotPoint(65_000, 0.0, 64, 300, 9.0, 9.0, 9.0),)
    short = PilotRun(untried[0].name, "injection", BLIND.teacher, points, "pilot")
    tried = Pilot("mahjong", (short,), {}, 9.0, 9.0, 0.0)
    problem = build_problem(world.config(), world.probe(), load_catalog(world.cloud), pilot=tried)
    plan = solve(replace(problem, candidates=problem.candidates[:1]))
    assert plan.student == untried[0].name and not plan.accuracy.is_known
    for text in (printed(plan), drawn(alternatives_table(plan))):
        assert "0 of 64 at 65k tokens" in text and "unknown" not in text
    said = "0 of 64 right after a short training on 65k tokens"
    assert f"accuracy not predicted, {said}; " in outcome(plan)
    (reason,) = [one for one in plan.reasons if one.startswith("The accuracy of")]
    assert f"is not predicted: {said}, the longest of a pilot of 1 training" in reason
    assert all(point.accuracy_tried == Tried(0, 64, 65_000) for point in plan.frontier)
    assert accuracy(plan.frontier[0]) == "0 of 64 at 65k tokens", "in the report"

    others = tuple(one for one in problem.candidates if one.student != plan.student)
    other = solve(replace(problem, candidates=others))
    assert "unknown" in printed(other), "nobody trained that one"


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


def test_of_plans_that_differ_in_their_teacher_each_has_a_row():
    plan = planned()
    other = replace(plan.frontier[0], teacher="another")
    twins = replace(plan, frontier=(*plan.frontier[:3], other))
    text = printed(twins, 200)
    assert "teacher" in text and "another" in text
