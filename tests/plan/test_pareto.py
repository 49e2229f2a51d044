"""A staircase that takes many points at once, and which of equal plans is on the frontier."""

import numpy as np

from stratos.plan.pareto import FIRST_BLOCK, LAST_BLOCK, Staircase
from stratos.plan.problem import Candidate, Option, Problem
from stratos.plan.solve.frontier import frontier
from stratos.records import Interval


def test_many_points_at_once_are_added_as_one_after_the_other():
    rng = np.random.default_rng(0)
    for n in (0, 1, FIRST_BLOCK, FIRST_BLOCK + 1, 5 * LAST_BLOCK):
        for most in (3, 40, 10**6):  # with many ties, some, none
            x, y = rng.integers(0, most, (2, n)).astype(float)
            together, apart = Staircase(), Staircase()
            expected = [apart.add(*point) for point in zip(x.tolist(), y.tolist(), strict=True)]
            assert together.add_all(x, y).tolist() == expected
            assert (together.x, together.y) == (apart.x, apart.y)


def test_of_plans_that_are_equal_the_first_by_name_is_on_the_frontier():
    """Whatever works they are of, and in whatever order they are given."""
    option = Option(None, False, 1.0, 2.0, 100.0, note="here")
    candidates = tuple(
        Candidate("t", "s", strategy, Interval(0.5, 0.5, 0.5), ("t", f"train {strategy}", "s"))
        for strategy in ("c", "a", "b")
    )
    options = {work: (option,) for c in candidates for work in c.work}
    for some in (candidates, candidates[::-1]):
        (point,) = frontier(Problem(some, options))
        assert point.candidate.strategy == "a"
