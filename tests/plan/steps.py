"""The staircase of one place, as the tests compare it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from stratos.plan.option import Caps, Option
from stratos.plan.solve.mix import Step
from stratos.plan.solve.mix_frontier import staircases
from stratos.plan.solve.solver import Solver


def mix_steps(
    options: Sequence[Option],
    egress_usd: Sequence[float],
    rates: Sequence[float],
    caps: Caps,
    solver: Solver,
) -> list[Step]:
    """Return the staircase of a place to which each server's egress is the one given."""
    return staircases(options, np.array([egress_usd], dtype=float), rates, caps, solver)[0]
