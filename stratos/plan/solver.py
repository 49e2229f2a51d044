"""A solver for the model: HiGHS or CBC, whichever is there."""

from __future__ import annotations

import os
from functools import cache
from typing import Any

from stratos.errors import StratosError

PREFERRED = ("HiGHS", "PULP_CBC_CMD", "COIN_CMD", "HiGHS_CMD")
"""PuLP's names; CBC is bundled up to PuLP 3 (PULP_CBC_CMD) and found on the path after it."""

OPTIMAL = 1
"""PuLP's status of a proven optimum, in 3.x as an int and in 4.x as an enum of the same value."""

INFEASIBLE = -1
"""PuLP's status of a model without solution."""


@cache
def _say_nothing() -> None:
    """Let HiGHS print its licence banner into the void.

    It does so when the first solver object of a process is made, before it can be told to be
    quiet; the banner would stand in the middle of the progress bar.
    """
    try:
        import highspy
    except ImportError:
        return
    stdout, void = os.dup(1), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(void, 1)
        highspy.Highs()
    finally:
        os.dup2(stdout, 1)
        os.close(stdout)
        os.close(void)


def solvers(only: str | None = None) -> list[Any]:
    """Return the solvers that are there, best first, set to prove the optimum without a gap.

    Args:
        only: PuLP's name of the one solver to use.

    Raises:
        StratosError: none is there.
    """
    import pulp

    _say_nothing()
    found = []
    for name in PREFERRED if only is None else (only,):
        kind = getattr(pulp, name, None)
        if kind is None:
            continue
        solver = kind(msg=False, gapRel=0.0, gapAbs=0.0)
        if solver.available():
            found.append(solver)
    if not found:
        raise StratosError(
            f"No solver is there (looked for {', '.join(PREFERRED)}). Type: pip install highspy"
        )
    return found
