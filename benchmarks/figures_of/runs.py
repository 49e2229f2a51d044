"""Figures of what was run as a user does: demo, gallery, tutorials, attacks, and their costs."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any

import record

from figures_of.tables import columns, load_average, result, source, span, table

QUICK = ("tried ", "student (", "TF-IDF with", "next ", "spent ", "The money")
"""How the lines begin that README shows of a run."""
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
        ]
        for name, looked in result("look").items()
    ]
    loads = span((looked["load_before"] for looked in result("look").values()), ".0f")
    heads = ["rows", "first line after", "verdict after", "CPU s"]
    return (
        f"{table(heads, rows)}\n\n`benchmarks/product/look.py`; {source('look')}, under a load of "
        f"{loads}."
    )


def quick() -> str:
    """What `stratos demo` printed: some of its lines, and each prediction that missed."""
    run = result("quick")
    lines, is_miss = [], False
    for line in run["printed"]:
        is_miss = line.startswith("missed ") or (is_miss and line.startswith(" " * 11))
        if is_miss or line.lstrip().startswith(QUICK):
            lines.append(line)
    printed_lines = "\n".join(lines)
    return (
        f"```text\n{printed_lines}\n```\n\nOf `stratos demo` without PyTorch, "
        f"{60 * run['minutes']:.0f} s (`benchmarks/product/demo.py`, {source('quick')})."
    )


def shown(name: str) -> str:
    """The picture of a run, the link to its report, its command, date, accuracy and misses."""
    run = result("gallery")[name]
    missed = "; ".join(run["missed"])
    return (
        f"[![The report of {name}](gallery/{name}.png)](gallery/{name}.html)\n\n"
        f"Student: {run['exact']:.1%} ({run['low']:.1%} to {run['high']:.1%}) of "
        f"{run['n_items']:,} test items. Predictions that missed: {missed or 'none'}. "
        f"[The report](gallery/{name}.html) ({run['size_kb']:,} kB), {run['date']}:\n\n"
        f"    {run['command']}"
    )


def printed(tutorial: str, figure: str) -> str:
    """What a block of a tutorial printed, with machine and minutes where it took one or more."""
    name = f"tutorials/{tutorial}"
    content = record.load(name)
    block = content["result"][figure]
    lines = ["```text", *_without_settings(block["printed"].splitlines()), "```"]
    if block["minutes"] >= 1:
        is_busy = content["load_average"] > content["cores"] + 1
        busy = ", with other work on the machine" if is_busy else ""
        lines += ["", f"{source(name)}; {block['minutes']:.0f} minutes{busy}."]
    return "\n".join(lines)


def _without_settings(lines: list[str]) -> list[str]:
    """Return the head of a comparison of two runs; all lines of anything else."""
    n = sum(bool(re.fullmatch(r"\w+\.[\w.]+", line)) for line in lines)
    first = next((i for i, line in enumerate(lines) if line.startswith("┏")), None)
    if not n or first is None:
        return lines
    return [*lines[:first], f"… (a table of both, and {n} settings that differ)"]


def attack() -> str:
    """Everything that was tried, and what was survived."""
    cases: dict[str, dict[str, int]] = result("attack/whole")["cases"]
    inputs = [case for name, case in cases.items() if name.startswith("inputs: ")]
    damages = [case for name, case in cases.items() if name.startswith("damage: ")]
    rows = {
        "bad inputs: rejected with one message, nothing paid": _sum(inputs),
        "damaged files of a finished run: repaired, or reported with what to type": _sum(damages),
        **{title: cases[name] for name, title in ATTACKS.items() if name in cases},
    }
    lines = columns(
        [{"title": title, **case} for title, case in rows.items()],
        ("", "{title}"),
        ("tried", "{tried:,}"),
        ("survived", "{survived:,}"),
    )
    return f"{lines}\n\n{source('attack/whole')}."


def _sum(cases: list[dict[str, int]]) -> Counter[str]:
    return sum(map(Counter, cases), Counter())


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
    sizes, tests = result("house")["sizes"], result("house").get("tests")
    timed = ""
    if tests is not None:
        minutes, of_cpu = tests["seconds"] / 60, tests["cpu_seconds"] / 60
        timed = f" `make test` took {minutes:.1f} minutes, {of_cpu:.1f} of CPU time"
    return (
        f"{sizes['core_lines']:,} lines of code in the core and {sizes['contrib_lines']:,} in the "
        f"{sizes['rooms']} rooms of contrib (without blank lines, comments and docstrings), in\n"
        f"{sizes['files']} files and {sizes['packages']} packages.{timed} "
        f"(`benchmarks/product/house.py`; {source('house')})."
    )


INSTALLS = {
    "core-uv": "the core, by uv",
    "core-pip": "the core, by pip, which compiles byte code",
    "train-pip": "`[train]`, by pip",
}


def install() -> str:
    """Return what an install takes and weighs, and what the demo takes in it."""
    measured = result("install")
    rows = [
        [what, f"{measured[name]['mb']:,.0f} MB",
         f"{measured[name]['seconds']:.0f} s ({measured[name]['cpu_s']:.0f} s of CPU time)",
         ", ".join(f"{package} {mb:,.0f}" for package, mb in _largest(measured[name]))]
        for name, what in INSTALLS.items()
    ]  # fmt: skip
    three = sum(measured["core-uv"]["packages"][name] for name in ("numpy", "scipy", "sklearn"))
    tried = measured["demo"]
    return (
        f"{table(('installed', 'files', 'from the index', 'of it, MB'), rows)}\n\n"
        f"NumPy, SciPy and scikit-learn are {three:,.0f} MB of the core: its students are fitted "
        f"with them. `stratos demo` in it: {tried['seconds']:.0f} s ({tried['cpu_s']:.0f} s of CPU "
        f"time), {tried['peak_mib']:,.0f} MiB. `benchmarks/product/install.py`, without a cache; "
        f"{source('install')}, under a load of {load_average('install')}: an idle machine takes "
        f"less."
    )


def _largest(measured: Any) -> list[tuple[str, float]]:
    """Return the packages of an install with their sizes, the largest first."""
    return list(measured["packages"].items())[:5]


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
    "quick": quick,
    "look_printed": look_printed,
    "look_seconds": look_seconds,
    "attack_tried": attack,
    "throughput": throughput,
    "reverse": reverse,
    "house": house,
    "install": install,
    **_of_results(),
}
