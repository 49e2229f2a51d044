"""Run the solver: HiGHS or CBC, whichever is installed; fall back to the next if one fails."""

from __future__ import annotations

import os
from functools import cache
from typing import Any

from stratos.core.errors import StratosError

PREFERRED = ("HiGHS", "PULP_CBC_CMD", "COIN_CMD", "HiGHS_CMD")
"""PuLP's names; CBC is bundled up to PuLP 3 (PULP_CBC_CMD) and found on the path after it."""

OPTIMAL, FEASIBLE, INFEASIBLE = "optimal", "feasible", "infeasible"
"""A proven optimum; a plan that the time limit left unproven; no plan at all."""

_PROVEN, _NONE = 1, -1
"""PuLP's status of an optimum and of a model without solution: in 3.x ints, in 4.x enums of the
same values."""

_SMALLEST_GAP = 5e-5
"""Gap that is said: a smaller one reads as none."""

FEASIBILITY = 1e-6
"""By how much a constraint may be passed in a solution that is believed: the solvers' own."""

TOLERANCE = 1e-7
"""By how much HiGHS may pass a constraint in its search. It takes ten times as much unless told,
which is more than the ties between levels leave: its presolve then finds models infeasible that
are not."""

HIGHS_OPTIONS = {"mip_feasibility_tolerance": TOLERANCE, "mip_allow_restart": False}
"""Models of this size are presolved once: to begin anew with what is fixed by then takes longer
than it saves (a seventh of the CPU time of mixes of hundreds of servers)."""


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


def solvers(
    only: str | None = None, time_limit_s: float | None = None, gap: float = 0.0
) -> list[Any]:
    """Return PuLP's solvers that are there, best first.

    Args:
        only: PuLP's name of the one solver to use.
        time_limit_s: longest time of one solve; None sets none.
        gap: relative gap to the optimum at which a solver may stop.

    Raises:
        StratosError: none is there.
    """
    import pulp

    _say_nothing()
    available = []
    for name in PREFERRED if only is None else (only,):
        kind = getattr(pulp, name, None)
        if kind is None:
            continue
        # One thread: these models are small, and more threads may answer differently each time.
        options = HIGHS_OPTIONS if name == "HiGHS" else {}
        solver = kind(
            msg=False, gapRel=gap, gapAbs=0.0, timeLimit=time_limit_s, threads=1, **options
        )
        if solver.available():
            available.append(solver)
    if not available:
        looked = ", ".join(PREFERRED) if only is None else only
        raise StratosError(f"No solver is there (looked for {looked}). Type: pip install highspy")
    return available


class Solver:
    """The solvers in their order, until one answers; what went wrong before is said."""

    def __init__(
        self, only: str | None = None, time_limit_s: float | None = None, gap: float = 0.0
    ) -> None:
        self.time_limit_s = time_limit_s
        self.gap = gap
        self.solvers = solvers(only, time_limit_s, gap)
        self.warnings: list[str] = []
        self.shared_gap = 0.0
        """Share by which a mix is dearer, at most, than what is proven of its place of training."""
        self.unproven = 0
        """How many answers the time limit left without proof."""
        self.n_runs = 0

    @property
    def name(self) -> str:
        """Name of the solver that answers."""
        return str(self.solvers[0].name)

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
            StratosError: every solver failed or ran out of time without a plan.
        """
        self.n_runs += 1
        while True:
            try:
                outcome = program.solve(self.solvers[0])
                code = int(getattr(outcome, "status", outcome))
                if code == _NONE:
                    return INFEASIBLE
                if code == _PROVEN and program.valid(FEASIBILITY):
                    if int(program.sol_status) == _PROVEN:
                        return OPTIMAL
                    self.unproven += 1
                    return FEASIBLE
                why = self._ended(code)
            except Exception as error:  # a solver is foreign code: whatever it raises, try the next
                why = f"failed ({error})"
            if len(self.solvers) == 1:
                raise StratosError(
                    f"The solver {self.name} {why}. Type plan.solver=null for any other that is "
                    "there, or a longer plan.time_limit_s."
                )
            failed = self.solvers.pop(0)
            self.warnings.append(f"The solver {failed.name} {why}; {self.name} answered.")

    def _ended(self, code: int) -> str:
        if code in (0, _PROVEN) and self.time_limit_s is not None:
            return f"found no plan within {self.time_limit_s:g} s"
        return f"ended with status {code}"
