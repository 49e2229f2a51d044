"""What a request that cannot be met is answered with: to the letter, and against an enumeration."""

import re

import pytest
from stub_executors import Queue
from twin import everything, everything_sized, instance, offer, sized
from world import (
    ALIGNMENT,
    BLIND,
    INJECTION,
    LARGE,
    SIGHTED,
    STRATEGIES,
    STUDENTS,
    Tiles,
    World,
    replace,
    teacher,
)

from stratos.catalog import load_catalog
from stratos.config import (
    CloudConfig,
    FitConfig,
    LimitsConfig,
    StudentConfig,
    TrafficConfig,
)
from stratos.core.errors import InfeasibleError
from stratos.ledger.reserves import enough_usd, missing_usd, planned_usd
from stratos.plan.explain.infeasible import Search
from stratos.plan.explain.whatif import Variants, in_cloud
from stratos.plan.objective import LIMITS, USD, counted_by, levels, net_cost, with_limit
from stratos.plan.options.candidates import build_problem
from stratos.plan.problem import Candidate, Option, Problem
from stratos.plan.solve.frontier import frontier
from stratos.plan.solve.model import Model
from stratos.plan.stage import solve
from stratos.plan.words import TooBig
from stratos.records import Interval

AWS = CloudConfig(name="aws", providers=("aws",))
UNTRIED = tuple(replace(student, runs=()) for student in STUDENTS)


def job(name, hours, usd):
    return Option(offer(name), spot=False, hours=hours, usd=usd)


def served(name, usd, latency_ms):
    return Option(offer(name), spot=False, hours=24.0, usd=usd, latency_ms=latency_ms)


OPTIONS = {
    "ask": (job("cpu", 1.0, 2.0), job("gpu", 0.25, 8.0)),
    "train big": (job("cpu", 3.0, 6.0), job("gpu", 0.5, 20.0)),
    "train small": (job("cpu", 1.0, 2.0), job("gpu", 0.25, 10.0)),
    "serve big": (served("cpu", 12.0, 900.0), served("gpu", 48.0, 300.0)),
    "serve small": (served("cpu", 6.0, 400.0), served("gpu", 24.0, 100.0)),
}


def tiny(limits, **changes):
    """Two students on two kinds of servers; all numbers can be added in the head."""
    candidates = tuple(
        Candidate("t", name, "injection", Interval(mean, mean, mean, "1 run"),
                  ("ask", f"train {name}", f"serve {name}"))
        for name, mean in (("big", 0.95), ("small", 0.8))
    )  # fmt: skip
    return Problem(candidates, OPTIONS, limits, strategies=STRATEGIES, **changes)


def told(problem, variants=None):
    with pytest.raises(InfeasibleError) as caught:
        solve(problem, variants=variants)
    return str(caught.value)


def test_a_proposed_budget_has_room_for_the_last_call_of_a_teacher():
    """A call sets aside more than it spends, the last one, too."""
    asked = Option(None, spot=False, hours=1.0, usd=2.0, last_call_usd=0.75)
    problem = replace(tiny(LimitsConfig(budget_usd=5)), options={**OPTIONS, "ask": (asked,)})
    proposed = re.search(r"limits\.budget_usd=([\d.]+)", told(problem))
    assert proposed is not None and float(proposed[1]) == 2.0 + 2.0 + 6.0 + 0.75
    limits = LimitsConfig(budget_usd=float(proposed[1]))
    chosen = solve(replace(problem, limits=limits))
    assert chosen.usd == 10.0
    assert planned_usd(chosen, limits.budget_usd) == {"teacher": 2.75, "train": 2.0, "serve": 6.0}
    for pruned in (True, False):
        model = Model(problem, pruned=pruned)
        found = [model.solve(LimitsConfig(budget_usd=usd), [USD.alone]) for usd in (10.7, 10.75)]
        assert found[0] is None and found[1] is not None, "the ledger would refuse the last call"


def test_a_teacher_with_a_cheaper_last_call_is_found_though_it_costs_more():
    asked = {
        "ask": (Option(None, spot=False, hours=1.0, usd=2.0, last_call_usd=1.5),),
        "ask other": (Option(None, spot=False, hours=1.0, usd=2.1, last_call_usd=0.05),),
    }
    base = tiny(LimitsConfig(budget_usd=10.2))
    other = [replace(c, teacher="u", work=("ask other", *c.work[1:])) for c in base.candidates]
    problem = replace(base, candidates=(*base.candidates, *other), options={**OPTIONS, **asked})
    chosen = solve(problem)
    assert (chosen.teacher, round(chosen.usd, 2)) == ("u", 10.1)


def test_golden_one_limit(snapshot):
    assert told(tiny(LimitsConfig(budget_usd=4))) == snapshot


def test_more_rows_are_offered_where_accuracy_is_missing_and_the_curve_rises():
    rows = "Or label more rows: 200 more labelled rows may bring 2 to 8 points (linear)."
    missing = replace(tiny(LimitsConfig(accuracy=0.99)), more_rows=rows)
    text = told(missing)
    assert rows in text and "limits.accuracy=" in text
    assert rows not in told(replace(missing, limits=LimitsConfig(budget_usd=4)))


def predicted_loosely(confidence, least):
    """Two students with intervals of 0.1 on either side."""
    problem = tiny(LimitsConfig(accuracy=least))
    candidates = tuple(
        replace(
            c,
            accuracy=Interval(c.accuracy.mean, c.accuracy.mean - 0.1, 1.0, "1 run"),
            confidence=confidence,
        )
        for c in problem.candidates
    )
    return replace(problem, candidates=candidates)


@pytest.mark.parametrize("least", [0.99, 0.9])
def test_an_accuracy_to_type_says_that_it_is_the_low_end(least):
    text = told(predicted_loosely("low", least))
    assert f"accuracy {least:g} → 0.85 (the low end of what is predicted)" in text
    assert "0.950 (0.850 to 1.000). With limits.confidence=mean its mean would." in text
    assert solve(predicted_loosely("low", 0.85)).student == "big"


def test_an_accuracy_to_type_is_the_mean_where_that_counts():
    text = told(predicted_loosely("mean", 0.99))
    assert "accuracy 0.99 → 0.95   (limits.accuracy=0.95)" in text and "low end" not in text
    assert solve(predicted_loosely("mean", 0.95)).student == "big"


def test_golden_one_change_or_a_pair_of_smaller_ones(snapshot):
    text = told(tiny(LimitsConfig(deadline_hours=1.9, accuracy=0.9, budget_usd=20)))
    assert text == snapshot


def test_golden_only_a_pair(snapshot):
    text = told(tiny(LimitsConfig(budget_usd=9, deadline_hours=0.4, latency_ms=1000)))
    assert text == snapshot


def test_golden_three_changes(snapshot):
    limits = LimitsConfig(budget_usd=1, deadline_hours=0.2, latency_ms=50, accuracy=0.99)
    assert told(tiny(limits)).splitlines()[1:7] == snapshot
    text = told(tiny(LimitsConfig(budget_usd=1, deadline_hours=0.2, latency_ms=50, accuracy=0.1)))
    assert text == snapshot


# --- against an enumeration -----------------------------------------------------------------------


def violations(costs, limits):
    """By which share a plan breaks each limit, as the module's docstring defines it."""
    keys = ("budget_usd", "deadline_hours", "latency_ms", "model_mb", "server_memory_gb")
    found = {}
    for key, value in zip(keys, costs[1:], strict=False):
        limit = getattr(limits, key)
        if limit is not None and value > limit + 1e-9:
            found[key] = (value - limit) / (limit or value)
    if limits.accuracy is not None and -costs[0] < limits.accuracy - 1e-9:
        found["accuracy"] = (limits.accuracy + costs[0]) / limits.accuracy
    return found


def with_sizes(choice):
    return *choice.costs, choice.candidate.model_mb, choice.candidate.memory_gb


def infeasible(seeds, mixed, has_sizes=False):
    for seed in seeds:
        problem = instance(seed, mixed=mixed)
        problem = sized(problem, seed) if has_sizes else problem
        plans = (everything_sized if has_sizes else everything)(problem)
        if plans and all(violations(costs, problem.limits) for costs in plans):
            yield problem, plans


@pytest.mark.parametrize(
    ("mixed", "n_seeds", "least", "has_sizes"),
    [(False, 120, 20, False), (True, 40, 5, False), (False, 120, 20, True)],
)
def test_every_change_is_the_least_and_enough(mixed, n_seeds, least, has_sizes):
    n_seen = n_pairs = 0
    for problem, plans in infeasible(range(n_seeds), mixed, has_sizes):
        n_seen += 1
        limits, model, everyone = problem.limits, Model(problem), frontier(problem)
        net = net_cost(problem.objective, problem.limits, everyone)
        search = Search(model, limits, levels(counted_by(problem.objective, net), net))
        known = [c for c in plans if c[0] < 0]
        broken = [(violations(costs, limits), costs) for costs in plans]
        singles = {}
        for limit in LIMITS:
            if limit.of(limits) is None:
                continue
            way = search.alone(limit)
            alike = [(v[limit.key], c) for v, c in broken if set(v) == {limit.key}]
            assert (way is None) == (not alike)
            if way is not None:
                singles[limit] = way
                share, costs = min(alike)
                [change] = way.changes
                if limit.is_floor and costs not in known:
                    continue  # an accuracy of 0 may be that of an unknown one
                assert change.share == pytest.approx(share, abs=1e-6)
                moved = with_limit(limits, limit, change.value)
                assert not violations(with_sizes(way.choice), moved)
        pair = search.together(everyone, 2, singles)
        useful = [
            sum(v.values())
            for v, _ in broken
            if len(v) == 2
            and all(
                limit.key not in v or v[limit.key] < way.share - 1e-9
                for limit, way in singles.items()
            )
        ]
        assert (pair is None) == (not useful)
        if pair is not None:
            n_pairs += 1
            assert pair.share == pytest.approx(min(useful), abs=1e-6)
            moved = limits
            for change in pair.changes:
                moved = with_limit(moved, change.limit, change.value)
            assert not violations(with_sizes(pair.choice), moved)
    assert n_seen >= least and n_pairs >= least // 4


def test_the_line_to_type_works_whatever_is_asked():
    n_typed = 0
    for problem, _ in infeasible(range(50), mixed=False):
        text = told(problem)
        typed = re.search(r"^Type: (.*)$", text, re.M).group(1)
        if typed == "plan.pilot=true":
            typed = re.search(r"To plan without knowing it: (.*)$", text, re.M).group(1)
        changes = dict(part.removeprefix("limits.").split("=") for part in typed.split())
        values = {k: None if v == "null" else float(v) for k, v in changes.items()}
        solve(replace(problem, limits=replace(problem.limits, **values)))
        n_typed += 1
    assert n_typed > 5


def test_a_value_is_written_as_one_types_it_and_stays_feasible():
    budget, deadline, p95, accuracy, size, memory = LIMITS
    assert [budget.typed(v) for v in (52.0921, 10.0, 0.0123)] == ["52.10", "10.00", "0.0123"]
    assert [deadline.typed(v) for v in (3.3961, 0.5602, 0.00123)] == ["3.4", "0.561", "0.00123"]
    assert [p95.typed(v) for v in (610.0, 609.2, 3.21)] == ["610", "610", "3.21"]
    assert [accuracy.typed(v) for v in (0.91049, 0.9)] == ["0.91", "0.9"]
    assert budget.typed(0.33331, not_as=0.34) == "0.334"
    assert [size.typed(v) for v in (142.92, 3.21)] == ["143", "3.21"]
    assert [memory.typed(v) for v in (1.2041, 0.126)] == ["1.21", "0.126"]


# --- on the builtin catalog -----------------------------------------------------------------------


def asked(limits=None, **changes):
    """A problem as a run makes it, with the way to ask again."""
    world = World(**{"cloud": AWS, "limits": limits or LimitsConfig(), **changes})

    def build(config, catalog):
        return build_problem(config, world.probe(), catalog)

    catalog = load_catalog(world.cloud)
    config = world.config()
    return build(config, catalog), Variants(config, catalog, build)


HERE = CloudConfig(name="local", providers=("local",))


def test_a_plan_on_this_machine_has_its_price_in_a_cloud():
    _, variants = asked(cloud=HERE)
    rented = in_cloud(variants, "stratos_1m")
    cheapest = min(
        choice.usd
        for choice in frontier(asked(cloud=CloudConfig())[0])
        if choice.candidate.student == "stratos_1m"
    )
    assert rented.usd == pytest.approx(cheapest) and rented.usd > 0
    assert in_cloud(asked(cloud=AWS)[1], "stratos_1m") is None
    poor = LimitsConfig(budget_usd=cheapest / 2)
    assert in_cloud(asked(poor, cloud=HERE)[1], "stratos_1m") is None, "none meets the budget"


def test_what_this_machine_cannot_is_offered_in_any_cloud():
    text = refusal(cloud=HERE, traffic=TrafficConfig(requests_per_s=500.0))
    assert offered(text, "cloud") == "multi" and "cloud.providers" not in text


def refusal(limits=None, **changes):
    return told(*asked(limits, **changes))


def offered(text, key):
    """Return what a message offers to type for a key."""
    return re.search(rf"\('?(?:\+\+)?{re.escape(key)}=([^)']+)'?\)", text).group(1)


def test_an_unknown_accuracy_meets_no_limit_and_it_is_said(snapshot):
    text = refusal(LimitsConfig(accuracy=0.5), students=UNTRIED)
    assert text == snapshot
    assert "accuracy unknown\n" in text
    assert text == snapshot


def test_no_strategy_can_be_used(snapshot):
    blind_only = refusal(strategies=(ALIGNMENT,))
    assert blind_only == snapshot
    assert "Type strategy=auto" in blind_only
    forward_only = refusal(strategies=(INJECTION,), task=Tiles(can_reverse=False))
    assert forward_only == snapshot
    assert "min_coverage" not in forward_only


def test_a_teacher_without_a_right_answer(snapshot):
    mute = {"strategies": (ALIGNMENT,), "teachers": (teacher(LARGE, right=0),)}
    said = "qwen2.5_7b gave no right answer, and there is nothing else to learn from: "
    more = "Type strategy=auto, teacher=auto and student=auto to consider more of them."
    assert refusal(**mute) == snapshot
    forward = refusal(**mute, task=Tiles(can_reverse=False))
    assert forward.splitlines()[-2:] == [f"{said}type teacher=<name> for another teacher.", more]
    beside = refusal(**{**mute, "teachers": (*mute["teachers"], BLIND)})
    assert beside == snapshot
    both = ALIGNMENT, INJECTION
    wide = replace(STUDENTS[0], name="wide", hidden_size=65536, n_layers=100, n_heads=64)
    too_wide = refusal(**{**mute, "strategies": both}, students=(wide,))
    assert "nothing else to learn from" not in too_wide, "injection is considered already"
    assert "or allow larger servers (cloud=multi" in too_wide


def test_a_model_that_no_server_holds():
    huge = teacher(replace(LARGE, name="giant", n_params=3_000_000_000_000), right=60)
    problem = asked(teachers=(BLIND, huge))[0]
    [why] = [one.why for one in problem.exclusions if one.subject == "giant"]
    assert isinstance(why, TooBig) and f"giant: {why}" in refusal(teachers=(huge,))
    assert 5000 < why.gib < 6000 and (why.verb, why.largest_gib) == ("answer", 2048)
    assert re.fullmatch(r"aws/\S+ p\S+ \(8x\w+\)", why.largest)
    both = solve(problem)
    assert both.teacher == "smollm2_135m"
    assert both.left_out["giant"].startswith("needs 5")


def test_a_student_that_no_server_can_train_and_the_nearest_that_one_can(snapshot):
    wide = replace(STUDENTS[0], name="wide", hidden_size=65536, n_layers=100, n_heads=64)
    text = refusal(students=(wide,))
    assert "wide: needs" in text and "GiB to train" in text
    assert text == snapshot
    assert "\nType: student=stratos_3m\n" in text


def test_a_cap_that_is_too_low_is_raised_as_little_as_is_enough():
    limits = LimitsConfig(latency_ms=1200, accuracy=0.97)
    cloud = replace(AWS, max_usd_per_hour=0.2)
    cap = float(offered(refusal(limits, cloud=cloud), "cloud.max_usd_per_hour"))
    assert 0.2 < cap < 1.0
    solve(asked(limits, cloud=replace(cloud, max_usd_per_hour=cap))[0])
    told(asked(limits, cloud=replace(cloud, max_usd_per_hour=0.99 * cap))[0])


def test_a_quota_that_is_too_low_is_raised_as_little_as_is_enough():
    one = {"traffic": TrafficConfig(requests_per_s=40.0), "students": STUDENTS[:1]}
    cloud = replace(AWS, quotas={"aws": 1, "gcp": 1}, max_usd_per_hour=3.0)
    typed = offered(refusal(cloud=cloud, **one), "cloud.quotas")
    n = int(re.fullmatch(r"\{aws: (\d+)\}", typed).group(1))
    assert n > 1
    solve(asked(cloud=replace(cloud, quotas={"aws": n}), **one)[0])
    told(asked(cloud=replace(cloud, quotas={"aws": n - 1}), **one)[0])


def test_the_region_that_is_missing_is_named(tmp_path):
    file = tmp_path / "aws" / "vms.csv"
    file.parent.mkdir()
    head = "InstanceType,vCPUs,MemoryGiB,AcceleratorName,AcceleratorCount,GpuInfo,Price,Region"
    prices = {"near": 0.2, "far": 0.1, "middle": 0.15}
    rows = [f"c7i.large,2,4,,,,{price},{region}" for region, price in prices.items()]
    file.write_text("\n".join([head, *rows]) + "\n")
    cloud = replace(AWS, catalog=(str(file),), regions=("near",))
    limits = LimitsConfig(budget_usd=4)
    names = offered(refusal(limits, cloud=cloud), "cloud.regions").strip("[]").split(",")
    assert names == ["near", "far"]
    solve(asked(limits, cloud=replace(cloud, regions=tuple(names)))[0])


def test_a_cut_vocabulary_is_offered_where_megabytes_are_too_few():
    """Its plan is found for a language model; of a table the size is not known before a try."""
    facts = {"n_params": 134_515_008, "n_layers": 30, "hidden_size": 576, "n_heads": 9}
    facts |= {"n_kv_heads": 3, "intermediate_size": 1536, "vocab_size": 49_152}
    whole = StudentConfig("whole", path="a/model", facts=facts, is_gguf=True)
    asked_for = LimitsConfig(model_mb=500, train_hours=None)
    text = refusal(asked_for, students=(whole,))
    assert "whole vocabulary → the task's tokens   (student.fit.vocabulary=true)" in text
    cut = replace(whole, fit=FitConfig(vocabulary=True))
    solve(asked(asked_for, students=(cut,))[0])
    assert "fit.vocabulary" not in told(*asked(replace(asked_for, model_mb=1), students=(cut,)))

    def with_cut(*students):
        return Variants(replace(World().config(), students=students), *[None] * 2).cut

    table = StudentConfig("table", kind="static")
    fitted = replace(table, fit=FitConfig(vocabulary=True))
    assert with_cut(table) == fitted
    assert with_cut(fitted) is with_cut(table, whole) is with_cut(STUDENTS[0]) is None


def test_fewer_hours_and_fewer_requests(snapshot):
    limits = LimitsConfig(budget_usd=2)
    hours = float(offered(refusal(limits), "limits.serve_hours"))
    solve(asked(replace(limits, serve_hours=hours))[0])
    told(asked(replace(limits, serve_hours=1.01 * hours))[0])
    one = {"cloud": replace(AWS, max_nodes=2, max_usd_per_hour=0.2), "students": STUDENTS[:1]}
    text = refusal(traffic=TrafficConfig(requests_per_s=500.0), **one)
    assert text == snapshot
    rate = float(offered(text, "traffic.requests_per_s"))
    solve(asked(traffic=TrafficConfig(requests_per_s=rate), **one)[0])
    told(asked(traffic=TrafficConfig(requests_per_s=1.01 * rate), **one)[0])


@pytest.mark.parametrize("serve_hours", [0.0, 24.0])
def test_a_suggested_budget_holds_what_the_jobs_set_aside(serve_hours):
    """The high end of a job's dollars has to be there before it is submitted."""
    world = World(cloud=AWS, strategies=(ALIGNMENT,))
    stages = ("synthesize", "distill")
    limits = LimitsConfig(budget_usd=0.5, serve_hours=serve_hours)
    config = replace(
        world.config(), limits=limits, executor=Queue(stages=stages, usd_per_hour=50.0)
    )
    probe = replace(world, teachers=(SIGHTED,)).probe()

    def solved(limits):
        found = replace(config, limits=limits)
        return solve(build_problem(found, probe, load_catalog(AWS)))

    with pytest.raises(InfeasibleError) as error:
        solved(limits)
    typed = float(re.findall(r"limits.budget_usd=([0-9.]+)", str(error.value))[0])
    plan = solved(replace(limits, budget_usd=typed))
    held = planned_usd(plan, typed, jobs=("teacher", "train"))
    assert missing_usd(plan, held, ("teacher", "train")) <= 1e-9
    assert enough_usd(plan) <= typed + 1e-9
    less = planned_usd(plan, 0.9 * enough_usd(plan), jobs=("teacher", "train"))
    if not serve_hours:
        assert missing_usd(plan, less, ("teacher", "train")) > 0


def test_zero_is_a_limit():
    assert "budget $0 → $2." in refusal(LimitsConfig(budget_usd=0))
    local = CloudConfig(name="local", providers=("local",))
    assert solve(asked(LimitsConfig(budget_usd=0), cloud=local)[0]).usd == 0.0
