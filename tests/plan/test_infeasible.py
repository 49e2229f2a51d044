"""What a request that cannot be met is answered with, to the letter."""

import re

import pytest
from world import BLIND, LARGE, SIGHTED, STUDENTS, Strategy, Tiles, World, replace, teacher

from stratos.catalog import load_catalog
from stratos.config import CloudConfig, LimitsConfig
from stratos.errors import InfeasibleError
from stratos.plan import solve
from stratos.plan.candidates import build_problem

AWS = CloudConfig(name="aws", clouds=("aws",))
UNTRIED = tuple(replace(student, runs=()) for student in STUDENTS)


def problem(limits, **changes):
    world = World(**{"cloud": AWS, "limits": limits, **changes})
    return build_problem(world.config(), world.probe(), load_catalog(world.cloud))


def refusal(limits, **changes):
    with pytest.raises(InfeasibleError) as caught:
        solve(problem(limits, **changes))
    return str(caught.value)


def test_golden_one_limit():
    assert refusal(LimitsConfig(budget_usd=2)) == (
        "No plan meets limits.budget_usd=2.\n"
        "One change is enough, with the other limits kept:\n"
        "  limits.budget_usd 2 -> 2.19   smollm2_135m → stratos_300k by injection: "
        "$2.18, 0.48 h, 450 ms, accuracy 0.710\n"
        "Type: limits.budget_usd=2.19\n"
        "Left out: alignment from smollm2_135m: coverage 0.016 is below min_coverage 0.3."
    )


def test_golden_several_ways():
    assert refusal(LimitsConfig(budget_usd=2.2, latency_ms=700, accuracy=0.98)) == (
        "No plan meets limits.budget_usd=2.2 and limits.latency_ms=700 and limits.accuracy=0.98.\n"
        "One change is enough, with the other limits kept:\n"
        "  limits.accuracy 0.98 -> 0.960   smollm2_135m → stratos_1m by injection: "
        "$2.19, 0.56 h, 630 ms, accuracy 0.960\n"
        "Type: limits.accuracy=0.960\n"
        "Left out: alignment from smollm2_135m: coverage 0.016 is below min_coverage 0.3."
    )


def test_golden_no_single_way():
    assert refusal(LimitsConfig(1, 0.2, 300, 0.97)) == (
        "No plan meets limits.budget_usd=1 and limits.deadline_hours=0.2 and limits.latency_ms=300 "
        "and limits.accuracy=0.97.\n"
        "To change one of them is not enough. Without the others:\n"
        "  the best budget_usd of any plan is 2.19\n"
        "  the best deadline_hours of any plan is 0.35\n"
        "  the best latency_ms of any plan is 450\n"
        "  the best accuracy of any plan is 0.985\n"
        "Together these are enough: smollm2_135m → stratos_3m by injection: "
        "$2.22, 0.91 h, 1350 ms, accuracy 0.985\n"
        "Type: limits.budget_usd=2.23 limits.deadline_hours=0.91 limits.latency_ms=1350\n"
        "Left out: alignment from smollm2_135m: coverage 0.016 is below min_coverage 0.3."
    )


@pytest.mark.parametrize(
    ("limits", "digits"),
    [
        (LimitsConfig(budget_usd=2), 2),
        (LimitsConfig(deadline_hours=0.3389), 2),
        (LimitsConfig(deadline_hours=0.1, budget_usd=9), 2),
        (LimitsConfig(latency_ms=400, accuracy=0.5), 0),
        (LimitsConfig(accuracy=0.99), 3),
        (LimitsConfig(accuracy=0.98, latency_ms=700, budget_usd=20), 3),
    ],
)
def test_every_change_is_enough_and_the_least(limits, digits):
    text = refusal(limits)
    changes = re.findall(r"limits\.(\w+) (\S+) -> (\S+)", text)
    assert changes
    for key, before, after in changes:
        assert float(before) == getattr(limits, key)
        changed = replace(limits, **{key: float(after)})
        solve(problem(changed))
        step = 10.0**-digits * (1 if key == "accuracy" else -1)
        with pytest.raises(InfeasibleError):
            solve(problem(replace(limits, **{key: float(after) + step})))


def test_the_line_to_type_works():
    limits = LimitsConfig(budget_usd=1, deadline_hours=0.2, latency_ms=300, accuracy=0.97)
    typed = re.search(r"^Type: (.*)$", refusal(limits), re.M)
    changes = {
        key: float(value) for key, value in re.findall(r"limits\.(\w+)=(\S+)", typed.group(1))
    }
    assert len(changes) == 3
    solve(problem(replace(limits, **changes)))


def test_an_unknown_accuracy_meets_no_limit_and_it_is_said():
    text = refusal(LimitsConfig(accuracy=0.5), students=UNTRIED)
    assert "limits.accuracy 0.5 -> null " in text
    assert "accuracy unknown\nType: limits.accuracy=null\n" in text
    assert (
        "An accuracy that is unknown meets no accuracy limit: "
        "stratos_1m, stratos_300k, stratos_3m." in text
    )


def test_no_strategy_can_be_used():
    blind_only = refusal(LimitsConfig(), strategies=(Strategy("alignment"),))
    assert blind_only.startswith("No teacher, student and strategy can be taken together:\n")
    assert "alignment from smollm2_135m: coverage 0.016 is below min_coverage 0.3" in blind_only
    assert "Type strategy=auto" in blind_only
    forward_only = refusal(
        LimitsConfig(), strategies=(Strategy("injection"),), task=Tiles(can_reverse=False)
    )
    assert "injection: the task mahjong cannot build a question from an answer" in forward_only


def test_a_strategy_may_ask_for_less_coverage():
    lenient = Strategy("alignment", min_coverage=0.01)
    assert solve(problem(LimitsConfig(), strategies=(lenient,))).strategy == "alignment"
    strict = Strategy("alignment", min_coverage=0.8)
    assert "coverage 0.750 is below min_coverage 0.8" in refusal(
        LimitsConfig(), strategies=(strict,), teachers=(SIGHTED,)
    )


def test_a_model_that_no_server_holds():
    huge = teacher(replace(LARGE, name="giant", n_params=3_000_000_000_000), right=60)
    text = refusal(LimitsConfig(), teachers=(huge,))
    assert re.search(
        r"giant: needs 5588\.\d GiB to answer, and no server that is allowed holds it "
        r"\(the largest is aws/us-east-1 p\S+ \(8xB?H?\d+\) with 2048 GiB\)",
        text,
    )
    both = solve(problem(LimitsConfig(), teachers=(BLIND, huge)))
    assert both.teacher == "smollm2_135m"
    assert both.left_out["giant"].startswith("needs 5588")


def test_a_student_that_no_server_can_train():
    wide = replace(STUDENTS[0], name="wide", hidden_size=65536, n_layers=100, n_heads=64)
    text = refusal(LimitsConfig(), students=(wide,))
    assert "wide: needs" in text and "GiB to train" in text


def test_zero_is_a_limit():
    assert "limits.budget_usd 0 -> 2.19" in refusal(LimitsConfig(budget_usd=0))
    local = CloudConfig(name="local", clouds=("local",))
    assert solve(problem(LimitsConfig(budget_usd=0), cloud=local)).usd == 0.0


def test_an_unknown_accuracy_beside_another_limit():
    text = refusal(LimitsConfig(budget_usd=1, accuracy=0.5), students=UNTRIED)
    assert "the best accuracy of any plan is unknown" in text
    assert re.search(r"^Type: limits\.budget_usd=2\.\d\d limits\.accuracy=null$", text, re.M)
