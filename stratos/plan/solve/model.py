r"""The plan as one mixed-integer program: pair, strategy and the servers of every role together.

Sets
    C             candidates: (teacher, student, strategy)
    W             works: what a role does for some candidates; w(c, r) is candidate c's for role r;
                  M ⊆ W are the serving works that have to keep up with a rate of requests
    O_w           options of work w: offer, count, spot or on demand, region; of a work in M single
                  servers (dominated ones are pruned, see `frontier`)
    B_w           buckets of requests of a work in M, by size
    K_w           latencies that a work in M may be held to
    P             places: regions of clouds
    Q             quotas
Parameters
    acc_c, low_c  predicted accuracy of c, and what of its interval a limit counts; 0 if unknown
    mb_c, gb_c    megabytes that servers of c load, gigabytes of a process; 0 where no limit asks
    usd_o, h_o    dollars and hours of option o; of a single server, dollars for the horizon
    last_call_o   dollars that are set aside for the last call of a hosted teacher
    ms_o, ms_ob   p95 latency of serving option o, of bucket b on server o
    λ_b, μ_ob     requests per second of bucket b; what server o answers of it, at safe utilisation
    price_o       dollars an hour of server o
    D_w, E_w      GB that leave teacher's work w once; GB that each server of serving work w fetches
    near, far     dollars per GB from a place to others of its cloud, and to the internet
    B, D, L, A    limits: budget less what is spent, deadline, latency, accuracy (each optional);
    S, G          of megabytes of the model, of gigabytes of a server process
    N             most servers of one role
Variables
    y_c ∈ {0,1}   candidate c is chosen
    x_wo ∈ {0,1}  work w ∉ M is done by option o
    n_wo ∈ ℕ      servers o in the mix of work w ∈ M
    f_wob ∈ [0,1] share of bucket b that they answer
    t_wk ∈ {0,1}  work w ∈ M is held to latency k
    g_wq ≥ 0      teacher's work w is done, and the training at q
    v_wq ≥ 0      servers of serving work w that fetch from a training at q
    gh_wp, gc_wk ≥ 0, vh_wp, vc_wk ≥ 0    of these, what stays in place p, and in cloud k
Objective
    minimise  a·Σ -acc_c y_c + b·usd + d·hours + e·latency
      usd     = Σ usd_o x_wo + Σ usd_o n_wo
              + Σ D_w (far_p x_wo - near_p gh_wp - (far_k - near_k) gc_wk)      o at p
              + Σ E_w (far_q v_wq - near_p vh_wp - (far_k - near_k) vc_wk)
      hours   = Σ_{w of teacher, train} h_o x_wo
      latency = Σ_{w of serve} ms_o x_wo + Σ k t_wk
    with weights (a, b, d, e) from `objective`; ties by dollars, then by score, then by name, each
    as one more solve with the levels before it held
Constraints
    one_candidate          Σ_c y_c = 1
    one_option_w           Σ_o x_wo = Σ_{c: w ∈ w(c, ·)} y_c      one choice per role, linked to c
    one_latency_w          Σ_k t_wk = Σ_{c: w ∈ w(c, ·)} y_c
    admitted_w_o_b         f_wob ≤ Σ_{k ≥ ms_ob} t_wk             no bucket on a server too slow
    split_w_b              Σ_o f_wob = Σ_k t_wk                   every request is answered
    load_w_o               Σ_b λ_b / μ_ob f_wob ≤ n_wo            no server is overrun
    nodes                  Σ n_wo ≤ N
    quota_q                Σ_{o in q} n_wo ≤ limit of q
    usd_per_hour           Σ price_o n_wo ≤ its limit
    dataset_w              Σ_q g_wq = Σ_o x_wo, o not hosted      what teachers send comes in
    trained_q              Σ_w g_wq ≤ Σ_{w of train, o at q} x_wo        where is trained
    bundle_w               Σ_q v_wq = servers of w                what is served was fetched
    fetched_q              Σ_w v_wq ≤ N · Σ_{w of train, o at q} x_wo    where was trained
    dataset_stays_w_p      gh_wp ≤ Σ_{o at p} x_wo                for each place (`mix.add_egress`)
    trained_stays_w_p      gh_wp ≤ g_wp
    dataset_near_w_k       gc_wk ≤ Σ_{o in k} x_wo                for each cloud
    trained_near_w_k       gc_wk ≤ Σ_{q in k} g_wq
    bundle_stays_w_p       vh_wp ≤ servers of w at p              the same for what is fetched
    fetched_stays_w_p      vh_wp ≤ v_wp
    bundle_near_w_k        vc_wk ≤ servers of w in k
    fetched_near_w_k       vc_wk ≤ Σ_{q in k} v_wq
    budget                 usd + Σ last_call_wo x_wo ≤ B          over all roles, serving included
    deadline               hours ≤ D                              they follow one another
    latency                latency ≤ L
    accuracy               Σ low_c y_c ≥ A
    model_mb               Σ mb_c y_c ≤ S
    server_memory          Σ gb_c y_c ≤ G

With pruning, the mixes of a work in M that some plan of the frontier uses (`mix_frontier` found
them by the constraints one_latency to usd_per_hour, work by work) are its options: it is not in M,
and one x_wo chooses the mix. Limits and objectives are monotone in the values that the frontier
compares, so that an optimum is on it; C and O_w hold what its `N_NEAR` best plans by limits and
objective use. Without pruning the program is as written, and has the same optimum.

Quotas, nodes and dollars an hour of a role without mix bind its count, so they are in O_w. Where
nothing that moves has a price, g and v are left out. Memory is in O_w too: what does not hold the
model is no option. A limit of bytes makes a candidate of each size that a student may be served in
(`options.sizes`), whose serving work has the engines, formats and slots that are no larger.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stratos.config import LimitsConfig
from stratos.plan.objective import Linear
from stratos.plan.option import Option
from stratos.plan.problem import Candidate, Choice, Problem, Served
from stratos.plan.solve.frontier import Reduced, meets, merged
from stratos.plan.solve.mix import Link, add_caps, add_egress, add_mix, as_served, read_mix
from stratos.plan.solve.solver import INFEASIBLE, OPTIMAL, Solver

N_NEAR = 200
"""Plans of the frontier, the best by limits and objective, whose parts the solver chooses from."""

DATASET = Link("g", "dataset", "trained", leaves_side=True)
BUNDLE = Link("v", "bundle", "fetched", leaves_side=False)

TIE = 1e-7
"""Relative difference below which two values are a tie: the solver's own tolerance."""


@dataclass
class Program:
    """The PuLP problem and its variables, as the module's docstring names them."""

    lp: Any
    y: dict[int, Any]
    x: dict[tuple[str, int], Any]
    n: dict[str, dict[int, Any]]
    f: dict[str, dict[tuple[int, int], Any]]


class Model:
    """One problem, pruned, that can be solved under several limits and objectives."""

    def __init__(self, problem: Problem, pruned: bool = True) -> None:
        """Prune the options.

        Args:
            problem: what is chosen from; it is not changed.
            pruned: leave out what is dominated; False is there to show that nothing is lost.
        """
        self.problem = problem
        self.candidates = problem.candidates
        self.spent_usd = problem.spent_usd
        settings = problem.settings
        self.solver = Solver(settings.time_limit_s, settings.gap)
        self.options: Mapping[str, Sequence[Served]] = problem.options
        self.mixed = () if pruned else tuple(problem.rates)
        """Works in M: with pruning none is left, since their best mixes are known."""
        self.pruned = pruned
        if pruned:
            self._choose_from(problem.once(merged))

    @property
    def status(self) -> str:
        """What may be said of the answers: optimal, or how far they are proven."""
        mixes = self.problem.once(Reduced).solver if self.pruned else self.solver
        own = self.solver.status
        # Mixes that the solver was asked for carry its gap into every plan.
        return mixes.status if own == OPTIMAL and mixes.n_runs else own

    def solve(self, limits: LimitsConfig, levels: Sequence[Linear]) -> Choice | None:
        """Return the best plan, None if the limits leave none.

        Args:
            limits: what the plan must meet.
            levels: what is minimised, each among the optima of those before it.

        Raises:
            StratosError: the solver failed.
        """
        if self.pruned:
            self._choose_from(self._near(limits, levels))
        reached: list[tuple[Linear, float]] = []
        choice: Choice | None = None
        for level in levels:
            optimum = self._solve_once(limits, level, reached)
            if optimum is None and choice is None:
                return None
            # What met the levels before is a plan, whatever rounding says.
            choice = optimum or choice
            assert choice is not None
            reached.append((level, level(choice)))
        if choice is not None:
            choice = self._by_name(limits, reached, choice)
        return choice

    def _choose_from(self, plans: Sequence[Choice]) -> None:
        """Leave the candidates and options that some of these plans use."""
        used = {choice.candidate.name for choice in plans}
        self.candidates = tuple(c for c in self.problem.candidates if c.name in used)
        self.options = self.problem.once(Reduced).for_solver(plans)

    def _near(self, limits: LimitsConfig, levels: Sequence[Linear]) -> list[Choice]:
        """Return the best plans of the frontier, those that meet the limits first."""
        plans = self.problem.once(merged)
        if len(plans) <= N_NEAR:
            return plans
        costs = self._costs
        missed = np.array([not meets(choice, limits, self.spent_usd) for choice in plans])
        values = [np.round(costs @ level.weights + level.constant, 9) for level in levels]
        return [plans[i] for i in np.lexsort((*values[::-1], missed))[:N_NEAR].tolist()]

    @cached_property
    def _costs(self) -> NDArray[np.float64]:
        return np.array([choice.costs for choice in self.problem.once(merged)])

    def _by_name(
        self, limits: LimitsConfig, reached: list[tuple[Linear, float]], choice: Choice
    ) -> Choice:
        """Of plans that tie in every level, return the first by name of candidate, then servers."""
        names = sorted({c.name for c in self.candidates})
        if len(names) > 1:
            ranks = {c.name: float(names.index(c.name)) for c in self.candidates}
            choice = self._solve_once(limits, None, reached, ranks=ranks) or choice
        return self._solve_once(limits, None, reached, fixed=choice.candidate) or choice

    def build(
        self,
        limits: LimitsConfig,
        level: Linear | None,
        reached: Sequence[tuple[Linear, float]] = (),
        ranks: Mapping[str, float] | None = None,
        fixed: Candidate | None = None,
    ) -> Program:
        """Return the PuLP problem with its variables, in the order of this module's docstring."""
        import pulp

        # Sets
        candidates = {i: c for i, c in enumerate(self.candidates) if fixed is None or c == fixed}
        works = list(dict.fromkeys(work for c in candidates.values() for work in c.work))
        role_of = {w: r for c in candidates.values() for r, w in enumerate(c.work)}
        mixed = [w for w in works if w in self.mixed]

        # Variables
        lp = pulp.LpProblem("plan", pulp.LpMinimize)
        y = {i: lp.add_variable(f"y_{i}", cat=pulp.LpBinary) for i in candidates}
        x = {
            (w, j): lp.add_variable(f"x_{i}_{j}", cat=pulp.LpBinary)
            for i, w in enumerate(works)
            if w not in mixed
            for j, _ in enumerate(self.options[w])
        }
        t = {
            (w, k): lp.add_variable(f"t_{works.index(w)}_{j}", cat=pulp.LpBinary)
            for w in mixed
            for j, k in enumerate(self._latencies(w))
        }
        done = {w: pulp.lpSum(y[i] for i, c in candidates.items() if w in c.work) for w in works}
        program = Program(lp, y, x, {}, {})
        for w in mixed:
            self._mix(program, w, works.index(w), t)
        moved = self._egress(program, candidates.values(), works, role_of)

        accuracy = self._sum(y, lambda c: c.counted_accuracy)
        served = [
            (self.problem.options[w][j], var) for w in mixed for j, var in program.n[w].items()
        ]
        chosen = [(w, self.options[w][j], var) for (w, j), var in x.items()]
        servers = [*((o, var) for _, o, var in chosen), *served]
        usd = pulp.lpSum(o.usd * var for o, var in servers) + moved
        hours = pulp.lpSum(o.hours * var for w, o, var in chosen if role_of[w] < 2)
        latency = pulp.lpSum(
            o.latency_ms * var for w, o, var in chosen if role_of[w] == 2
        ) + pulp.lpSum(k * var for (_, k), var in t.items())

        def linear(function: Linear) -> Any:
            a, b, d, e = function.weights
            return -a * accuracy + b * usd + d * hours + e * latency

        # Objective
        if level is not None:
            lp.setObjective(linear(level))
        elif ranks is not None:
            lp.setObjective(pulp.lpSum(ranks[c.name] * y[i] for i, c in candidates.items()))
        else:
            lp.setObjective(self._name_ranks(program, role_of))

        # Constraints
        lp += pulp.lpSum(y.values()) == 1, "one_candidate"
        for i, w in enumerate(works):
            if w in mixed:
                held_to = pulp.lpSum(t[w, k] for k in self._latencies(w))
                lp += held_to == done[w], f"one_latency_{i}"
            else:
                options = pulp.lpSum(x[w, j] for j, _ in enumerate(self.options[w]))
                lp += options == done[w], f"one_option_{i}"
        if mixed:
            add_caps(lp, served, self.problem.caps)
        if limits.budget_usd is not None:
            last_call = pulp.lpSum(
                o.last_call_usd * var
                for w, o, var in chosen
                if role_of[w] == 0 and isinstance(o, Option) and o.last_call_usd
            )
            lp += usd + last_call <= limits.budget_usd - self.spent_usd, "budget"
        self._limit(lp, limits, y, hours, latency)
        for i, (function, value) in enumerate(reached):
            slack = TIE * max(1.0, abs(value))
            lp += linear(function) <= value - function.constant + slack, f"level_{i}"
        return program

    def _limit(self, lp: Any, limits: LimitsConfig, y: Any, hours: Any, latency: Any) -> None:
        """Add the constraints `deadline` to `server_memory`, those whose limit is set."""
        for name, value, most in (
            ("deadline", hours, limits.deadline_hours),
            ("latency", latency, limits.latency_ms),
            ("model_mb", self._sum(y, lambda c: c.model_mb), limits.model_mb),
            ("server_memory", self._sum(y, lambda c: c.memory_gb), limits.server_memory_gb),
        ):
            if most is not None:
                lp += value <= most, name
        if limits.accuracy is not None:
            lp += self._sum(y, lambda c: c.limit_accuracy) >= limits.accuracy, "accuracy"

    def _sum(self, y: Mapping[int, Any], value: Callable[[Candidate], float]) -> Any:
        """Return what the chosen candidate has of a value."""
        import pulp

        return pulp.lpSum(value(self.candidates[i]) * var for i, var in y.items())

    def _mix(self, program: Program, work: str, number: int, t: dict[Any, Any]) -> None:
        """Add the mix of one work in M: n, f, `admitted`, `split` and `load`."""
        import pulp

        options, latencies = self.problem.options[work], self._latencies(work)

        def admitted(i: int, b: int) -> Any:
            allowed = [t[work, k] for k in latencies if k >= options[i].latencies_ms[b]]
            return pulp.lpSum(allowed) if allowed else 0

        n, f = add_mix(
            program.lp,
            f"_{number}",
            options,
            self.problem.rates[work],
            admitted,
            pulp.lpSum(t[work, k] for k in latencies),
        )
        program.n[work], program.f[work] = n, f

    def _latencies(self, work: str) -> list[float]:
        """Return the latencies that a work in M may be held to."""
        return sorted({ms for option in self.problem.options[work] for ms in option.latencies_ms})

    def _egress(
        self,
        program: Program,
        candidates: Any,
        works: Sequence[str],
        role_of: Mapping[str, int],
    ) -> Any:
        """Add what moves between places that cost something; return its dollars."""
        # Place to what is done there: 1 for a choice, the number of servers for serving.
        trained: dict[Any, list[Any]] = {}
        there: dict[str, dict[Any, list[Any]]] = {}
        for (w, j), var in program.x.items():
            option = self.options[w][j]
            for part in option.parts:
                if role_of[w] == 1:
                    trained.setdefault(part.location, []).append(var)
                n_servers = part.count if role_of[w] == 2 else 1
                there.setdefault(w, {}).setdefault(part.location, []).append(n_servers * var)
        for w, n in program.n.items():
            for j, var in n.items():
                region = self.problem.options[w][j].location
                there.setdefault(w, {}).setdefault(region, []).append(var)
        gb, egress = self.problem.gb, self.problem.egress
        datasets = {w: there.get(w, {}) for w in works if role_of[w] == 0 and gb.get(w)}
        bundles = {w: there.get(w, {}) for w in works if role_of[w] == 2 and gb.get(w)}
        most = self.problem.caps.max_nodes if self.problem.rates else 1
        return add_egress(
            program.lp, DATASET, datasets, trained, 1, works, gb, egress
        ) + add_egress(program.lp, BUNDLE, bundles, trained, most, works, gb, egress)

    def _name_ranks(self, program: Program, role_of: Mapping[str, int]) -> Any:
        """Return what is small for servers that come first by name, teacher before train first."""
        import pulp

        ranks = {
            w: {name: i for i, name in enumerate(sorted({o.sort_name for o in self.options[w]}))}
            for w in role_of
        }
        scale = len(program.x) + 1
        return pulp.lpSum(
            ranks[w][self.options[w][j].sort_name] * scale ** (2 - role_of[w]) * var
            for (w, j), var in program.x.items()
        ) + pulp.lpSum(
            ranks[w][self.options[w][j].sort_name] / scale * var
            for w, n in program.n.items()
            for j, var in n.items()
        )

    def _solve_once(
        self,
        limits: LimitsConfig,
        level: Linear | None,
        reached: Sequence[tuple[Linear, float]],
        ranks: Mapping[str, float] | None = None,
        fixed: Candidate | None = None,
    ) -> Choice | None:
        program = self.build(limits, level, reached, ranks, fixed)
        if self.solver.run(program.lp) == INFEASIBLE:
            return None
        candidate = self.candidates[next(i for i, var in program.y.items() if var.varValue > 0.5)]
        teacher, train, serve = candidate.work
        served: Served
        if serve in program.n:
            n_buckets = len(self.problem.rates[serve])
            counts, shares = read_mix(program.n[serve], program.f[serve], n_buckets)
            served = as_served(
                [(self.problem.options[serve][j], counts[j], shares[j]) for j in sorted(counts)],
                self.problem.rates[serve],
            )
        else:
            served = self._chosen(program, serve)
        (first,), (second,) = (self._chosen(program, work).parts for work in (teacher, train))
        return self.problem.choice(candidate, first, second, served)

    def _chosen(self, program: Program, work: str) -> Served:
        options = self.options[work]
        return next(o for j, o in enumerate(options) if program.x[work, j].varValue > 0.5)
