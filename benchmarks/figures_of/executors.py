"""What executors cost and what kills leave: `executors.py`; a large cluster: `slurm_catalog.py`."""

from __future__ import annotations

from typing import Any

import record

from figures_of.common import source, span, table

COST, KILLS, CLUSTER = "executors", "executors_kills", "slurm_catalog"
ENGINES = ("slurm", "ray")


def costs() -> str:
    """Return seconds from a command to a training's second step, and the kills of each engine."""
    kept = record.load(COST)
    result, kills = kept["result"], record.load(KILLS)["result"]
    head = ("", "an empty job, s", "from the command to the second step of a training, s",
            "corpora, students that equal those of the command's own process")  # fmt: skip
    lines = [("the command's own process", "–", span(result["own_process"], ".1f"), "–")]
    for name in ENGINES:
        found = result[name]
        equal = ", ".join(f"{one['equal']} of {one['of']}" for one in _by_stage(kills[name]))
        lines.append(
            (
                f"`executor={name}`",
                span(found["empty_job_s"], ".1f"),
                span(found["first_step_s"], ".1f"),
                equal,
            )
        )
    loads = span([kills[name]["load_average"] for name in ENGINES], ".0f")
    return (
        f"{table(head, lines)}\n\n{source(COST)}; load average {kept['load_average']:.0f}, at the "
        f"kills {loads}; with the engines of the tests."
    )


def _by_stage(killed: dict[str, Any]) -> list[dict[str, Any]]:
    return [killed["synthesize"], killed["distill"]]


def cluster() -> str:
    """Return how long a large cluster takes to be read, and a command that plans with it."""
    result = record.load(CLUSTER)["result"]
    return (
        f"A controller of {result['nodes']:,} nodes is read in {result['read_s']:.2f} s, and a "
        f"whole command that plans with them takes {result['plan_command_s']:.1f} s "
        f"({source(CLUSTER)})."
    )


BLOCKS = {"executor_costs": costs, "slurm_cluster": cluster}
