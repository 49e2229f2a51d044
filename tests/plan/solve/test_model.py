"""The program that the solver gets, and what is done when it fails."""

import re

import pulp
import pytest
from world import STRATEGIES

from stratos.config import LimitsConfig
from stratos.core.errors import StratosError
from stratos.plan.objective import USD
from stratos.plan.option import Caps, Egress
from stratos.plan.problem import Candidate, Option, Problem
from stratos.plan.solve import model as module
from stratos.plan.solve.model import Model
from stratos.records import Interval, Offer

LIMITS = LimitsConfig(budget_usd=9, deadline_hours=8, latency_ms=700, accuracy=0.6)
CHEAPEST = USD.alone


def option(name, usd, hours, latency_ms=0.0):
    offer = Offer("c", "r", name, None, 0, 2, 8, 0, usd)
    return Option(offer, False, hours, usd, latency_ms)


def problem():
    """Two students that share a teacher and a training server and are served apart."""
    known = [Interval(mean, mean - 0.1, mean + 0.1, "measured") for mean in (0.7, 0.9)]
    return Problem(
        strategies=STRATEGIES,
        candidates=tuple(
            Candidate("t", f"s{i}", "injection", known[i], ("teach", "train", f"serve{i}"))
            for i in (0, 1)
        ),
        options={
            # The second is dearer and slower than the first: it never reaches the solver.
            "teach": (option("a", 0.5, 1.0), option("b", 0.6, 1.5)),
            "train": (option("cpu", 1.0, 4.0), option("gpu", 3.0, 2.0)),
            "serve0": (option("cpu", 2.0, 24.0, 600.0), option("gpu", 5.0, 24.0, 300.0)),
            "serve1": (option("gpu", 4.0, 24.0, 650.0),),
        },
    )


def placed(name, place, usd, hours, **changes):
    offer = Offer(*place, name, None, 0, 2, 8, 0, usd)
    return Option(offer, False, hours, usd, **changes)


def mixed_problem():
    """Two places with egress between them, and two servers for two sizes of requests."""
    here, there = ("a", "r"), ("b", "r")
    two = {"requests_per_s": (4.0, 2.0), "hours": 1.0}
    known = Interval(0.7, 0.6, 0.8, "measured")
    return Problem(
        strategies=STRATEGIES,
        candidates=(Candidate("t", "s", "alignment", known, ("teach", "train", "serve")),),
        options={
            "teach": (placed("t", here, 0.5, 1.0), placed("t", there, 0.25, 1.0)),
            "train": (placed("r", here, 1.0, 4.0), placed("r", there, 1.5, 4.0)),
            "serve": (
                placed("s", here, 2.0, latency_ms=300.0, latencies_ms=(200.0, 300.0), **two),
                placed("u", there, 5.0, latency_ms=200.0, latencies_ms=(100.0, 200.0), **two),
            ),
        },
        rates={"serve": (6.0, 1.0)},
        gb={"teach": 2.0, "serve": 4.0},
        egress=Egress({"a": (0.0, 0.5), "b": (0.0, 0.25)}),
        caps=Caps.of({"a": 1}, 4, max_usd_per_hour=9.0),
    )


def test_the_program_of_a_mix_with_egress_to_the_letter(tmp_path, snapshot):
    program = Model(mixed_problem(), pruned=False).build(LIMITS, CHEAPEST)
    program.lp.writeLP(str(tmp_path / "plan.lp"))
    # PuLP 3 and 4 order the rows differently.
    assert sorted((tmp_path / "plan.lp").read_text().splitlines()) == snapshot
    for name in program.lp.constraints:
        kind = re.fullmatch(r"(\w+?)(?:_\d+)*", name)[1]
        assert re.search(rf"^    {kind}(_\w)* ", module.__doc__, re.M), kind
    solved = [
        Model(mixed_problem(), pruned=pruned).solve(LimitsConfig(), [CHEAPEST])
        for pruned in (False, True)
    ]
    assert [choice.usd for choice in solved] == pytest.approx([9.75, 9.75])


def test_a_solver_that_fails_is_an_error(monkeypatch):
    def broken(*_):
        raise RuntimeError("segmentation fault, nearly")

    monkeypatch.setattr(pulp.HiGHS, "actualSolve", broken)
    with pytest.raises(StratosError, match=r"The solver HiGHS failed \(segmentation fault, nea"):
        Model(problem()).solve(LIMITS, [CHEAPEST])


def test_the_solver_says_nothing_on_the_terminal(capfd):
    Model(problem()).solve(LIMITS, [CHEAPEST])
    assert capfd.readouterr() == ("", "")
