"""Figures of what was run as a user does: demo, gallery, tutorials, attacks, and their costs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any

import record

from figures_of.tables import columns, result, source, table

STAGES = ("probe ", "plan ", "synthesize ", "distill ", "evaluate ", "deploy ", "report ")
QUICK = ("tried ", "student (", "TF-IDF with", "next ", "spent ", "The money")
"""How the lines begin that README shows of a run."""
VERDICT = ("Distil", "Don't distil", "Open")
TABLELESS = ("tutorial_logs_verdict",)
"""Runs that end as one before on their page, but for the verdict."""
INPUTS = {
    "overrides": "values on the command line",
    "settings": "the user's YAML files, and choices that do not exist",
    "rows": "data files, and task settings",
    "catalogs": "catalogs, regions, quotas, GPU files",
    "students": "model folders as students, and model sizes",
    "teachers": "model folders, GGUF files and endpoints as teachers",
}
ATTACKS = {
    "disks": "full, read-only or foreign disks, blocked paths, closed or full output",
    "secrets": "runs with every kind of secret, all files scanned",
    "kills": "kills of one run, at random times",
    "usage": "wrong token counts",
    "limit": "answers longer than `max_tokens`",
    "http": "redirects, slow-drip responses, endless lists",
    "flaky": "mixed faults under load",
    "batches": "batches: lost answers, outages, kills",
    "ends": "sweeps, terminals and processes that end early",
}


def demo() -> str:
    """What `make demo` printed: the stages, the table of accuracies, and what they come to."""
    lines = (record.RESULTS / "demo.txt").read_text().splitlines()
    stages = [line for line in lines if line.startswith(STAGES)]
    start = next(i for i, line in enumerate(lines) if line.startswith("Exact match on test items"))
    end = next(i for i, line in enumerate(lines) if line.startswith("Records "))
    took = result("demo")
    printed = "\n".join([*stages, *lines[start : end + 1]])
    return (
        f"```text\n{printed}\n```\n\n{took['minutes']:.0f} minutes in all, with a little other "
        f"work on the machine (load {took['load_before']:.1f} before it). {source('demo')}."
    )


def look_printed() -> str:
    """What a look at 300 real rows printed."""
    printed = "\n".join(next(iter(result("look").values()))["printed"])
    return f"```text\n{printed}\n```"


def look_seconds() -> str:
    """How long looks took."""
    rows = [
        [
            f"{name}: {looked['n_rows']:,}",
            f"{looked['first_line_s']:.1f} s",
            f"{looked['verdict_s']:.0f} s",
            f"{looked['cpu_s']:.0f}",
            f"{looked['load_before']:.1f}",
        ]
        for name, looked in result("look").items()
    ]
    heads = ["rows", "first line after", "verdict after", "CPU s", "load before"]
    return f"{table(heads, rows)}\n\n`benchmarks/product/look.py`; {source('look')}."


def quick() -> str:
    """What `stratos demo` printed: six of its lines."""
    run = result("quick")
    lines = [
        next(line for line in run["printed"] if line.lstrip().startswith(first)) for first in QUICK
    ]
    printed_lines = "\n".join(lines)
    return (
        f"```text\n{printed_lines}\n```\n\nSix lines of `stratos demo` without PyTorch, "
        f"{60 * run['minutes']:.0f} s (`benchmarks/product/demo.py`, {source('quick')})."
    )


def shown(name: str) -> str:
    """The picture of a run, the link to its report, its command, date and accuracy."""
    run = result("gallery")[name]
    return (
        f"[![The report of {name}](gallery/{name}.png)](gallery/{name}.html)\n\n"
        f"Student: {run['exact']:.1%} ({run['low']:.1%} to {run['high']:.1%}) of "
        f"{run['n_items']:,} test items. [The report](gallery/{name}.html) "
        f"({run['size_kb']:,} kB), {run['date']}:\n\n    {run['command']}"
    )


def printed(tutorial: str, figure: str) -> str:
    """What a block of a tutorial printed, with machine and minutes where it took one or more."""
    name = f"tutorials/{tutorial}"
    content = record.load(name)
    block = content["result"][figure]
    excerpt = _excerpt(block["printed"].splitlines(), figure not in TABLELESS)
    lines = ["```text", *excerpt, "```"]
    if block["minutes"] >= 1:
        is_busy = content["load_average"] > content["cores"] + 1
        busy = ", with other work on the machine" if is_busy else ""
        lines += ["", f"{source(name)}; {block['minutes']:.0f} minutes{busy}."]
    return "\n".join(lines)


def _excerpt(lines: list[str], has_table: bool) -> list[str]:
    """Return of a run its stages, its verdict, and all from the accuracies on; else all lines."""
    if not any(line.startswith("plan ") for line in lines):
        return _without_candidates(lines)
    first = (*STAGES, *VERDICT)
    head = [line for line in lines if line.startswith(first) and "still at work" not in line]
    if not has_table:
        return head
    start = next((i for i, line in enumerate(lines) if line.startswith("Exact match ")), None)
    if start is None:
        return lines
    return [*head, *(line for line in lines[start:] if line not in head)]


def _without_candidates(lines: list[str]) -> list[str]:
    """Return a comparison without the settings of students that one run alone considered."""
    at = [i for i, line in enumerate(lines) if line.startswith("student.candidates.")]
    if not at:
        return lines
    note = f"… ({len(at)} settings of candidates)"
    return [*lines[: at[0]], note, *lines[at[-1] + 2 :]]


def attack() -> str:
    """Everything that was tried, and what was survived."""
    cases: dict[str, dict[str, int]] = result("attack/whole")["cases"]
    inputs = {INPUTS[name]: cases[f"inputs: {name}"] for name in INPUTS}
    damages = {
        name.removeprefix("damage: "): case
        for name, case in cases.items()
        if name.startswith("damage: ")
    }
    rows = {
        "**bad inputs**: rejected with one message, nothing paid": _sum(inputs),
        **inputs,
        "**damaged files of a finished run**: repaired, or reported with the command that repairs "
        "it": _sum(damages),
        **damages,
        **{title: cases[name] for name, title in ATTACKS.items() if name in cases},
    }
    lines = columns(
        [{"title": title, **case} for title, case in rows.items()],
        ("", "{title}"),
        ("tried", "{tried:,}"),
        ("survived", "{survived:,}"),
    )
    return f"{lines}\n\n{source('attack/whole')}."


def _sum(cases: dict[str, dict[str, int]]) -> Counter[str]:
    return sum(map(Counter, cases.values()), Counter())


def throughput() -> str:
    """A thousand requests to a loopback endpoint."""
    clients = clients_of(result("teachers/throughput"))
    cells = {
        "seconds, share of ideal throughput": "{wall_s:.1f} s, {share:.1%}",
        "CPU seconds, imports included": "{cpu_s:.1f}",
        "with one request in ten failing, in every way": "{faults[wall_s]:.1f} s",
        "lost, answered twice": "{faults[lost]}, {faults[answered_twice]}",
        "killed halfway: requests repeated": "{killed[asked_twice]}",
    }
    rows = [
        [title, *(cell.format_map(client) for client in clients.values())]
        for title, cell in cells.items()
    ]
    heads = ("", *(f"{name} concurrent requests" for name in clients))
    return f"{table(heads, rows)}\n\n{source('teachers/throughput')}."


def clients_of(measured: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the clients that were measured, with their share of the ideal throughput."""
    return {
        name: {**client, "share": client["ideal_s"] / client["wall_s"]}
        for name, client in measured.items()
        if isinstance(client, dict)
    }


def reverse() -> str:
    """How fast Mahjong items are made answer first."""
    return (
        "`benchmarks/tasks/mahjong_engine.py`: {items_per_s_a_core:,.0f} verified items a second "
        "on one core (target 2,000), {refused} rejected; the engine and the package `mahjong` "
        "agree on {agree:,} of {hands:,} hands".format_map(result("mahjong_engine"))
        + f" ({source('mahjong_engine')})."
    )


def house() -> str:
    """The size of the code, and how long its tests take."""
    sizes, tests = result("house")["sizes"], result("house")["tests"]
    return (
        f"{sizes['core_lines']:,} lines of code in the core and {sizes['contrib_lines']:,} in the "
        f"{sizes['rooms']} rooms of contrib (without blank lines, comments and docstrings), in\n"
        f"{sizes['files']} files and {sizes['packages']} packages. `make test` took "
        f"{tests['seconds'] / 60:.1f} minutes, {tests['cpu_seconds'] / 60:.1f} of CPU time "
        f"(`benchmarks/product/house.py`; {source('house')})."
    )


def _of_results() -> dict[str, Callable[[], str]]:
    """Return the blocks that are named by a result: runs of the gallery, blocks of tutorials."""
    blocks: dict[str, Callable[[], str]] = {
        f"gallery_{name}": partial(shown, name) for name in result("gallery")
    }
    for path in sorted((record.RESULTS / "tutorials").glob("*.json")):
        for figure in result(f"tutorials/{path.stem}"):
            if not figure.startswith("block "):
                blocks[figure] = partial(printed, path.stem, figure)
    return blocks


BLOCKS = {
    "demo": demo,
    "quick": quick,
    "look_printed": look_printed,
    "look_seconds": look_seconds,
    "attack_tried": attack,
    "throughput": throughput,
    "reverse": reverse,
    "house": house,
    **_of_results(),
}
