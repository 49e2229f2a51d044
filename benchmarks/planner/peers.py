"""SkyPilot's optimizer beside our formulation, on chains and diamonds of tasks with egress.

    python benchmarks/planner/peers.py --venv /tmp/sky-venv --install

SkyPilot runs in a virtual environment of its own; its dynamic program (chains) and its integer
program (any graph) are called as they are, with the costs and the egress prices of the same random
instance. Ours keeps the cheapest offer of each place, which is exact since tasks differ by cost and
place alone, and charges egress by places and clouds (`stratos.plan.solve.mix`), as the
plan's model does for its chain of teacher, training and serving. Longer chains and diamonds are
built here from the same function: Stratos has no entry for general graphs of tasks. Not compared:
time as the objective, where SkyPilot's finish times have no counterpart in a budget over sequential
roles.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
import venv
from itertools import product
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import record

from stratos.plan.option import Egress
from stratos.plan.solve.mix import Link, add_egress
from stratos.plan.solve.solver import Solver

EGRESS = {"aws": 0.09, "gcp": 0.12, "azure": 0.087, "lambda": 0.0}
SHAPES = {
    "chain of 3": [(0, 1), (1, 2)],
    "chain of 5": [(0, 1), (1, 2), (2, 3), (3, 4)],
    "diamond": [(0, 1), (0, 2), (1, 3), (2, 3)],
}
PEER = """
import json, sys, time
import networkx as nx
from sky.optimizer import Optimizer

case = json.load(sys.stdin)

class Node:
    def __init__(self, name):
        self.name = name

nodes = [Node(f"task{i}") for i in range(len(case["tasks"]))]
number = {node: i for i, node in enumerate(nodes)}
costs = {node: {(cloud, region, j): usd for j, (cloud, region, usd) in enumerate(offers)}
         for node, offers in zip(nodes, case["tasks"])}
gb = {(u, v): amount for u, v, amount in case["edges"]}

def egress(minimize_cost, parent, source, node, target):
    if source[0] == target[0]:
        return 0.0
    return case["egress"][source[0]] * gb[number[parent], number[node]]

Optimizer._egress_cost_or_time = staticmethod(egress)
graph = nx.DiGraph()
graph.add_nodes_from(nodes)
graph.add_edges_from((nodes[u], nodes[v]) for u, v, _ in case["edges"])
start = time.process_time()
begun = time.monotonic()
_, usd = Optimizer._optimize_by_ilp(graph, list(nx.topological_sort(graph)), costs, True)
print(json.dumps({"usd": usd, "wall": time.monotonic() - begun}))
"""


def instance(shape: str, n_offers: int, seed: int) -> dict[str, Any]:
    """Return a random instance: offers of each task, and GB on each edge."""
    rng = random.Random(seed)
    edges = SHAPES[shape]
    n_tasks = 1 + max(v for _, v in edges)
    clouds = sorted(EGRESS)
    return {
        "tasks": [
            [
                (rng.choice(clouds), f"region{rng.randrange(6)}", round(rng.uniform(1, 40), 2))
                for _ in range(n_offers)
            ]
            for _ in range(n_tasks)
        ],
        "edges": [(u, v, rng.choice((1, 20, 100))) for u, v in edges],
        "egress": EGRESS,
    }


def ours(case: dict[str, Any]) -> tuple[float, float]:
    """Return our optimum and the wall seconds that it took."""
    import pulp

    start = time.monotonic()
    prices = Egress({cloud: (0.0, usd) for cloud, usd in case["egress"].items()})
    program = pulp.LpProblem("tasks", pulp.LpMinimize)
    total = pulp.LpAffineExpression()
    options: list[dict[Any, list[Any]]] = []
    for i, offers in enumerate(case["tasks"]):
        lowest: dict[tuple[str, str], float] = {}
        for cloud, region, usd in offers:
            lowest[cloud, region] = min(usd, lowest.get((cloud, region), usd))
        chosen = {
            region: program.add_variable(f"x_{i}_{j}", cat=pulp.LpBinary)
            for j, region in enumerate(lowest)
        }
        program += pulp.lpSum(chosen.values()) == 1, f"one_option_{i}"
        total += pulp.lpSum(lowest[region] * variable for region, variable in chosen.items())
        options.append({region: [variable] for region, variable in chosen.items()})
    for k, (u, v, gb) in enumerate(case["edges"]):
        link = Link(f"g_{k}", f"sent_{k}", f"received_{k}", leaves_side=True)
        total += add_egress(
            program, link, {"task": options[u]}, options[v], 1, ["task"], {"task": gb}, prices
        )
    program.setObjective(total)
    Solver(None).run(program)
    return float(program.objective.value()), time.monotonic() - start


def theirs(python: Path, case: dict[str, Any], timeout_s: float) -> tuple[float | None, float]:
    """Return the optimum of SkyPilot's program and its wall seconds; None if it timed out."""
    try:
        done = subprocess.run(
            [str(python), "-c", PEER], input=json.dumps(case), capture_output=True, text=True,
            timeout=timeout_s,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return None, timeout_s
    if done.returncode:
        raise SystemExit(done.stderr)
    reply = json.loads(done.stdout.splitlines()[-1])
    return float(reply["usd"]), float(reply["wall"])


def main() -> None:
    """Run the instances through both."""
    parser = record.arguments(__doc__)
    parser.add_argument("--venv", type=Path, required=True, help="environment with skypilot")
    parser.add_argument("--install", action="store_true", help="make that environment")
    parser.add_argument("--offers", type=int, nargs="+", default=[10, 46, 97, 230])
    parser.add_argument("--timeout", type=float, default=120.0, help="seconds for each of theirs")
    options = parser.parse_args()
    python = options.venv / "bin" / "python"
    if options.install:
        venv.create(options.venv, with_pip=True)
        pip = [str(python), "-m", "pip", "install", "-q", "skypilot", "pulp<4", "networkx"]
        subprocess.run(pip, check=True)
    rows = []
    for shape, n_offers in product(SHAPES, options.offers):
        case = instance(shape, n_offers, seed=n_offers)
        usd, seconds = ours(case)
        their_usd, their_seconds = theirs(python, case, options.timeout)
        if their_usd is not None and abs(their_usd - usd) > 1e-4:
            sys.exit(f"The optima of a {shape} of {n_offers} offers differ.")
        rows.append(
            {"shape": shape, "offers": n_offers, "ours_s": seconds, "theirs_s": their_seconds,
             "ours_usd": usd, "theirs_usd": their_usd}
        )  # fmt: skip
    record.finish("planner/peers", rows, options)


if __name__ == "__main__":
    main()
