"""What executors cost and what kills leave: `executors.py`; a large cluster: `slurm_catalog.py`."""

from __future__ import annotations

from typing import Any

import record

from figures_of.common import source, span, table

COST, KILLS, CLUSTER = "executors", "executors_kills", "slurm_catalog"
ENGINES = ("slurm", "ray")
STAGES = ("synthesize", "distill")
"""They make corpora and students."""


def costs() -> str:
    """Return seconds from a command to a training's second step, and the kills of each engine."""
    kept = record.load(COST)
    result, kills = kept["result"], record.load(KILLS)["result"]
    head = ("", "an empty job, s", "from the command to the second step of a training, s",
            "corpora, students of killed jobs and commands that equal those of the command's own "
            "process")  # fmt: skip
    lines = [("the command's own process", "–", span(result["own_process"], ".1f"), "–")]
    for name in ENGINES:
        found = result[name]
        lines.append(
            (
                f"`executor={name}`",
                span(found["empty_job_s"], ".1f"),
                span(found["first_step_s"], ".1f"),
                _equal(kills[name]),
            )
        )
    loads = span([kills[name]["load_average"] for name in ENGINES], ".0f")
    every = [one for name in ENGINES for one in _all(kills[name])]
    n_killed = sum(map(_has_killed, every))
    n_left = sum(one["is_left"] for one in every)
    return (
        f"{table(head, lines)}\n\n{source(COST)}; load average {kept['load_average']:.0f}, at the "
        f"kills {loads}; with the engines of the tests. Of {len(every)} moments, {n_killed} had "
        "something to kill; at the others the job had yet to begin or had ended, and they are not "
        f"counted. Just after the last command had ended, a process of a job was there {n_left}×."
        f"\n\n{_first_round(kept)}"
    )


def _first_round(kept: dict[str, Any]) -> str:
    """Say what the kills of the round before left, which were measured with the times."""
    found = {name: kept["result"][name]["killed"] for name in ENGINES}
    said = "; ".join(f"{_equal(found[name])} with `executor={name}`" for name in ENGINES)
    return (
        f"A round before that (commit {kept['commit']}), counted in the same way: {said}. A job "
        "that was killed while it wrote had left a file that it had not finished in the folder of "
        "its corpus. Since then the next start deletes such files."
    )


def _equal(killed: dict[str, Any]) -> str:
    """Return how many corpora and students are equal, of those with a process that was killed."""
    cells = []
    for stage in STAGES:
        kills = [one for one in killed[stage]["kills"] if _has_killed(one)]
        cells.append(f"{sum(one['is_equal'] for one in kills)} of {len(kills)}")
    return ", ".join(cells)


def _all(killed: dict[str, Any]) -> list[dict[str, Any]]:
    return [one for stage in STAGES for one in killed[stage]["kills"]]


def _has_killed(kill: dict[str, Any]) -> bool:
    """Return whether a process was killed: a command that was is given again.

    Some results count the process of a command that had ended by then.
    """
    is_missed = kill["victim"] == "command" and kill["starts"] == 1
    return kill["n_killed"] > 0 and not is_missed


def cluster() -> str:
    """Return how long a large cluster takes to be read, and a command that plans with it."""
    result = record.load(CLUSTER)["result"]
    return (
        f"A controller of {result['nodes']:,} nodes is read in {result['read_s']:.2f} s, and a "
        f"whole command that plans with them takes {result['plan_command_s']:.1f} s "
        f"({source(CLUSTER)})."
    )


BLOCKS = {"executor_costs": costs, "slurm_cluster": cluster}
