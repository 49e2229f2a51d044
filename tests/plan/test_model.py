"""The program that the solver gets, and what is done when a solver fails."""

import re

import pulp
import pytest

from stratos.config import LimitsConfig
from stratos.errors import StratosError
from stratos.plan import model as module
from stratos.plan.model import Model
from stratos.plan.objective import SINGLE, Linear
from stratos.plan.problem import Candidate, Option, Problem, prune
from stratos.plan.solver import PREFERRED, solvers
from stratos.records import Interval, Offer

LIMITS = LimitsConfig(budget_usd=9, deadline_hours=8, latency_ms=700, accuracy=0.6)
CHEAPEST = Linear(SINGLE["cheapest"])

GOLDEN = """\\* plan *\\
Minimize
OBJ: 0.5 x_0_0 + x_1_0 + 3 x_1_1 + 2 x_2_0 + 5 x_2_1 + 4 x_3_0
Subject To
accuracy: 0.7 y_0 + 0.9 y_1 >= 0.6
budget: 0.5 x_0_0 + x_1_0 + 3 x_1_1 + 2 x_2_0 + 5 x_2_1 + 4 x_3_0 <= 9
deadline: x_0_0 + 4 x_1_0 + 2 x_1_1 <= 8
latency: 600 x_2_0 + 300 x_2_1 + 650 x_3_0 <= 700
one_candidate: y_0 + y_1 = 1
one_option_0: x_0_0 - y_0 - y_1 = 0
one_option_1: x_1_0 + x_1_1 - y_0 - y_1 = 0
one_option_2: x_2_0 + x_2_1 - y_0 = 0
one_option_3: x_3_0 - y_1 = 0
Binaries
x_0_0
x_1_0
x_1_1
x_2_0
x_2_1
x_3_0
y_0
y_1
End
"""


def option(name, usd, hours, latency_ms=0.0):
    offer = Offer("c", "r", name, None, 0, 2, 8, 0, usd)
    return Option(offer, False, hours, usd, latency_ms)


def problem():
    """Two students that share a teacher and a training server and are served apart."""
    known = [Interval(mean, mean - 0.1, mean + 0.1, "measured") for mean in (0.7, 0.9)]
    return Problem(
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


def test_the_program_to_the_letter(tmp_path):
    program, _, _ = Model(problem()).build(LIMITS, CHEAPEST)
    program.writeLP(str(tmp_path / "plan.lp"))
    lines = (tmp_path / "plan.lp").read_text().splitlines()
    # PuLP 3 and 4 order the rows differently.
    assert sorted(lines) == sorted(GOLDEN.splitlines())


def test_every_constraint_is_in_the_docstring():
    for name in ("one_candidate", "one_option_w", "budget", "deadline", "latency", "accuracy"):
        assert re.search(rf"^    {name} ", module.__doc__, re.M), name


def test_a_limit_that_is_not_given_is_no_constraint(tmp_path):
    program, _, _ = Model(problem()).build(LimitsConfig(), CHEAPEST)
    program.writeLP(str(tmp_path / "plan.lp"))
    text = (tmp_path / "plan.lp").read_text()
    assert not re.search("budget|deadline|latency|accuracy", text)


def test_pruning_keeps_what_is_better_in_anything():
    worse, equal = option("b", 1.0, 4.0), option("aa", 1.0, 3.0)
    kept = (option("a", 1.0, 3.0), option("c", 2.0, 2.0), option("d", 3.0, 3.0, -1.0))
    assert set(prune([worse, equal, *kept])) == set(kept)


def test_a_solver_that_fails_gives_way_to_the_next_and_it_is_said(monkeypatch):
    if len(solvers()) < 2:
        pytest.skip("only one solver is there")
    model = Model(problem())
    first, second = model.solvers[0].name, model.solvers[1].name

    def broken(lp):
        raise RuntimeError("segmentation fault, nearly")

    monkeypatch.setattr(model.solvers[0], "actualSolve", broken)
    choice = model.solve(LIMITS, [CHEAPEST])
    assert choice is not None and choice.usd == pytest.approx(3.5)
    assert model.warnings == [
        f"The solver {first} failed (segmentation fault, nearly); {second} answered."
    ]


def test_all_solvers_failing_is_an_error(monkeypatch):
    model = Model(problem(), solvers()[0].name)

    def broken(lp):
        raise RuntimeError("no")

    monkeypatch.setattr(model.solvers[0], "actualSolve", broken)
    with pytest.raises(StratosError, match=r"The solver \w+ failed: no"):
        model.solve(LIMITS, [CHEAPEST])


def test_no_solver_at_all(monkeypatch):
    for name in PREFERRED:
        monkeypatch.delattr(pulp, name, raising=False)
    with pytest.raises(StratosError, match="Type: pip install highspy"):
        solvers()


def test_the_solver_says_nothing_on_the_terminal(capfd):
    Model(problem()).solve(LIMITS, [CHEAPEST])
    assert capfd.readouterr() == ("", "")
