r"""The plan as one mixed-integer program: pair, strategy and the server of every role together.

Sets
    C             candidates: (teacher, student, strategy)
    W             works: what a role does for some candidates; w(c, r) is candidate c's for role r
    O_w           options of work w: offer, count, spot or on demand (dominated ones are pruned)
Parameters
    acc_c         predicted accuracy of c, 0 if it is unknown
    usd_o, h_o    dollars and hours of option o
    ms_o          p95 latency of serving option o
    B, D, L, A    limits: budget less what is spent, deadline, latency, accuracy (each optional)
Variables
    y_c ∈ {0,1}   candidate c is chosen
    x_wo ∈ {0,1}  work w is done by option o
Objective
    minimise  a·Σ -acc_c y_c + b·Σ usd_o x_wo + d·Σ h_o x_wo + e·Σ ms_o x_wo
    with weights (a, b, d, e) from `objective`; ties by dollars, then by score, then by name, each
    as one more solve with the levels before it held
Constraints
    one_candidate          Σ_c y_c = 1
    one_option_w           Σ_o x_wo = Σ_{c: w ∈ w(c, ·)} y_c      one choice per role, linked to c
    budget                 Σ usd_o x_wo ≤ B                        over all roles, serving included
    deadline               Σ_{w of teacher, train} h_o x_wo ≤ D    they follow one another
    latency                Σ_{w of serve} ms_o x_wo ≤ L
    accuracy               Σ acc_c y_c ≥ A
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from stratos.config import LimitsConfig
from stratos.errors import StratosError
from stratos.plan.objective import Linear
from stratos.plan.problem import Choice, Option, Problem, prune
from stratos.plan.solver import INFEASIBLE, OPTIMAL, solvers

TIE = 1e-7
"""Relative difference below which two values are a tie: the solvers' own tolerance."""


class Model:
    """One problem, pruned, that can be solved under several limits and objectives."""

    def __init__(self, problem: Problem, solver: str | None = None) -> None:
        """Prune the options and find the solvers.

        Args:
            problem: what is chosen from; it is not changed.
            solver: PuLP's name of the one solver to use; None takes the best that is there.
        """
        self.candidates = problem.candidates
        self.spent_usd = problem.spent_usd
        self.options = {key: prune(options) for key, options in problem.options.items()}
        self.solvers = solvers(solver)
        self.warnings: list[str] = []

    @property
    def solver_name(self) -> str:
        """Name of the solver that answers."""
        return str(self.solvers[0].name)

    def solve(self, limits: LimitsConfig, levels: Sequence[Linear]) -> Choice | None:
        """Return the best plan, None if the limits leave none.

        Args:
            limits: what the plan must meet.
            levels: what is minimised, each among the optima of those before it.

        Raises:
            StratosError: every solver that is there failed.
        """
        held: list[tuple[Linear, float]] = []
        choice: Choice | None = None
        for level in levels:
            choice = self._solve_once(limits, level, held)
            if choice is None:
                return None
            held.append((level, level(choice)))
        if choice is not None:
            choice = self._by_name(limits, held, choice)
        return choice

    def _by_name(
        self, limits: LimitsConfig, held: list[tuple[Linear, float]], choice: Choice
    ) -> Choice:
        """Of plans that tie in every level, return the first by name of candidate, then servers."""
        names = sorted({c.name for c in self.candidates})
        if len(names) > 1:
            ranks = {c: float(names.index(c.name)) for c in self.candidates}
            choice = self._solve_once(limits, None, held, ranks=ranks) or choice
        return self._solve_once(limits, None, held, fixed=choice.candidate) or choice

    def build(
        self,
        limits: LimitsConfig,
        level: Linear | None,
        held: Sequence[tuple[Linear, float]] = (),
        ranks: dict[Any, float] | None = None,
        fixed: Any = None,
    ) -> tuple[Any, dict[Any, Any], dict[tuple[str, Option], Any]]:
        """Return the PuLP problem with its variables, in the order of this module's docstring."""
        import pulp

        # Sets
        candidates = [c for c in self.candidates if fixed is None or c == fixed]
        works = list(dict.fromkeys(work for c in candidates for work in c.work))
        role_of = {w: r for c in candidates for r, w in enumerate(c.work)}

        # Variables
        program = pulp.LpProblem("plan", pulp.LpMinimize)
        y = {c: program.add_variable(f"y_{i}", cat=pulp.LpBinary) for i, c in enumerate(candidates)}
        x = {
            (w, o): program.add_variable(f"x_{i}_{j}", cat=pulp.LpBinary)
            for i, w in enumerate(works)
            for j, o in enumerate(self.options[w])
        }
        accuracy = pulp.lpSum(c.counted_accuracy * var for c, var in y.items())
        usd = pulp.lpSum(o.usd * var for (_, o), var in x.items())
        hours = pulp.lpSum(o.hours * var for (w, o), var in x.items() if role_of[w] < 2)
        latency = pulp.lpSum(o.latency_ms * var for (w, o), var in x.items() if role_of[w] == 2)

        def linear(function: Linear) -> Any:
            a, b, d, e = function.weights
            return -a * accuracy + b * usd + d * hours + e * latency

        # Objective
        if level is not None:
            program += linear(level)
        elif ranks is not None:
            program += pulp.lpSum(ranks[c] * var for c, var in y.items())
        else:
            program += pulp.lpSum(
                _name_rank(o, self.options[w]) * len(x) ** (2 - role_of[w]) * var
                for (w, o), var in x.items()
            )

        # Constraints
        program += pulp.lpSum(y.values()) == 1, "one_candidate"
        for i, w in enumerate(works):
            chosen = pulp.lpSum(x[w, o] for o in self.options[w])
            wanted = pulp.lpSum(var for c, var in y.items() if w in c.work)
            program += chosen == wanted, f"one_option_{i}"
        if limits.budget_usd is not None:
            program += usd <= limits.budget_usd - self.spent_usd, "budget"
        if limits.deadline_hours is not None:
            program += hours <= limits.deadline_hours, "deadline"
        if limits.latency_ms is not None:
            program += latency <= limits.latency_ms, "latency"
        if limits.accuracy is not None:
            program += accuracy >= limits.accuracy, "accuracy"
        for i, (function, value) in enumerate(held):
            slack = TIE * max(1.0, abs(value))
            program += linear(function) <= value - function.constant + slack, f"level_{i}"
        return program, y, x

    def _solve_once(
        self,
        limits: LimitsConfig,
        level: Linear | None,
        held: Sequence[tuple[Linear, float]],
        ranks: dict[Any, float] | None = None,
        fixed: Any = None,
    ) -> Choice | None:
        program, y, x = self.build(limits, level, held, ranks, fixed)
        status = self._run(program)
        if status == INFEASIBLE:
            return None
        if status != OPTIMAL:
            raise StratosError(f"The solver {self.solver_name} ended with status {status}.")
        candidate = next(c for c, var in y.items() if var.varValue > 0.5)
        first, second, third = (
            next(o for o in self.options[w] if x[w, o].varValue > 0.5) for w in candidate.work
        )
        return Choice(candidate, (first, second, third))

    def _run(self, program: Any) -> int:
        """Solve with the first solver that does not fail, and say so if it is not the best."""
        while True:
            try:
                outcome = program.solve(self.solvers[0])
                return int(getattr(outcome, "status", outcome))
            except Exception as error:  # a solver is foreign code: whatever it raises, try the next
                if len(self.solvers) == 1:
                    raise StratosError(f"The solver {self.solver_name} failed: {error}") from error
                failed = self.solvers.pop(0)
                self.warnings.append(
                    f"The solver {failed.name} failed ({error}); {self.solver_name} answered."
                )


def _name_rank(option: Option, options: tuple[Option, ...]) -> int:
    return sorted(o.name for o in options).index(option.name)
