"""Run the solver: HiGHS, through PuLP."""

from __future__ import annotations

import os
from functools import cache
from typing import Any

from stratos.core.errors import StratosError

NAME = "HiGHS"
"""The solver as PuLP and the record of a plan call it."""

OPTIMAL, FEASIBLE, INFEASIBLE = "optimal", "feasible", "infeasible"
"""A proven optimum; a plan that the time limit left unproven; no plan at all."""

_PROVEN, _NONE = 1, -1
"""PuLP's status of an optimum and of a model without solution: in 3.x ints, in 4.x enums of the
same values."""

_SMALLEST_GAP = 5e-5
"""Gap that is said: a smaller one reads as none."""

FEASIBILITY = 1e-6
"""By how much a constraint may be passed in a solution that is believed: the solver's own."""

TOLERANCE = 1e-7
"""By how much HiGHS may pass a constraint in its search. It takes ten times as much unless told,
which is more than the ties between levels leave: its presolve then finds models infeasible that
are not."""

OPTIONS = {"mip_feasibility_tolerance": TOLERANCE, "mip_allow_restart": False}
"""Models of this size are presolved once: to begin anew with what is fixed by then takes longer
than it saves (a seventh of the CPU time of mixes of hundreds of servers)."""


@cache
def _say_nothing() -> None:
    """Let HiGHS print its licence banner into the void.

    It does so when the first solver object of a process is made, before it can be told to be
    quiet; the banner would stand in the middle of the progress bar.
    """
    import highspy

    stdout, void = os.dup(1), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(void, 1)
        highspy.Highs()
    finally:
        os.dup2(stdout, 1)
        os.close(stdout)
        os.close(void)


class Solver:
    """HiGHS with a time limit and a gap, and what may be said of its answers.

    Args:
        time_limit_s: longest time of one solve; None sets none.
        gap: relative gap to the optimum at which it may stop.
    """

    def __init__(self, time_limit_s: float | None = None, gap: float = 0.0) -> None:
        import pulp

        _say_nothing()
        self.time_limit_s = time_limit_s
        self.gap = gap
        # One thread: these models are small, and more threads may answer differently each time.
        self._highs = pulp.HiGHS(
            msg=False, gapRel=gap, gapAbs=0.0, timeLimit=time_limit_s, threads=1, **OPTIONS
        )
        self.shared_gap = 0.0
        """Share by which a mix is dearer, at most, than what is proven of its place of training."""
        self.unproven = 0
        """How many answers the time limit left without proof."""
        self.n_runs = 0

    @property
    def status(self) -> str:
        """What may be said of the answers so far."""
        if self.unproven:
            return f"feasible, not proven optimal within {self.time_limit_s:g} s"
        gap = max(self.gap, self.shared_gap)
        return OPTIMAL if gap < _SMALLEST_GAP else f"optimal within a gap of {gap:.2%}"

    def run(self, program: Any) -> str:
        """Solve a PuLP problem and return its status: OPTIMAL, FEASIBLE or INFEASIBLE.

        Raises:
            StratosError: it failed, or ran out of time without a plan.
        """
        self.n_runs += 1
        try:
            outcome = program.solve(self._highs)
            code = int(getattr(outcome, "status", outcome))
            if code == _NONE:
                return INFEASIBLE
            if code == _PROVEN and program.valid(FEASIBILITY):
                if int(program.sol_status) == _PROVEN:
                    return OPTIMAL
                self.unproven += 1
                return FEASIBLE
        except Exception as error:  # a solver is foreign code, which raises whatever it likes
            raise StratosError(f"The solver {NAME} failed ({error}).") from error
        ended = f"ended with status {code}"
        if code in (0, _PROVEN) and self.time_limit_s is not None:
            ended = f"found no plan within {self.time_limit_s:g} s"
        raise StratosError(f"The solver {NAME} {ended}. Type a longer plan.time_limit_s.")
