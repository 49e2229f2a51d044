"""Figures of logs: what the checks find, and what a large log takes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import logs
import record

from figures_of.common import source, table


def log_filters() -> str:
    """Each way to spoil an answer, and how many its check finds: `logs.py filters`."""
    kept = record.load("logs/filters")["result"]["logs"]
    head = ["spoilt", *(f"found, {one['share']:.1%} of the rows each" for one in kept)]
    rows = []
    for number, kind in enumerate(kept[0]["kinds"]):
        found = [one["kinds"][number] for one in kept]
        rows.append(
            [kind["kind"], *(f"{one['found_by_any_check']}/{one['spoilt']}" for one in found)]
        )
    rows.append(["nothing, and found all the same", *(f"{one['found_unspoilt']}" for one in kept)])
    replies = record.load("logs/filters")["result"]["replies"]
    for number, kind in enumerate(replies[0]["kinds"]):
        found = [one["kinds"][number] for one in replies]
        cells = [f"{one['found']}/{one['spoilt']}" for one in found]
        rows.append([f"{kind['kind']} among free texts", *cells])
    wrongly = [f"{sum(one['wrongly'].values())}" for one in replies]
    rows.append(["nothing among free texts, and found all the same", *wrongly])
    forms = ", ".join(replies[0]["unspoilt"])
    return (
        f"{table(head, rows)}\n\n{source('logs/filters')}. {replies[0]['rows']:,} free texts "
        f"({forms}) are a log of their own."
    )


def log_personal() -> str:
    """Each kind of personal data, planted and found: `logs.py filters`."""
    kept = record.load("logs/filters")["result"]["personal"]
    rows = [
        [
            one["kind"],
            f"{one['forms']}",
            f"{one['found']}/{one['planted']}",
            _forms(one["missed"]),
            f"{one['wrongly']}/{one['others']}",
            _forms(one["mistaken"]),
        ]
        for one in kept
    ]
    head = ["planted", "forms", "found", "not found", "found where it is not", "there"]
    return table(head, rows)


def _forms(forms: list[str]) -> str:
    return ", ".join(f"`{one}`" for one in forms) or "–"


def log_size() -> str:
    """Rows, CPU seconds and memory of a log: `logs.py size`."""
    whole = record.load("logs/size")
    kept = whole["result"]
    rows = [
        [
            f"`{one['what']}`",
            f"{one['rows']:,}",
            f"{one['file_mib']:,.0f}",
            f"{one['cpu_s']:.1f}",
            f"{one['wall_s']:.1f}",
            f"{one['peak_mib']:,.0f}",
        ]
        for one in kept
    ]
    head = ["command", "rows", "MiB", "CPU s", "s", "peak MiB"]
    load = f"with other work: load of {whole['load_average']:.0f}"
    idle = "CPU seconds are what a core takes that does nothing else"
    return f"{table(head, rows)}\n\n{source('logs/size')}, {load}; {idle}."


def log_students() -> str:
    """Students from what the filters leave and from the raw log: `log_students.py`."""
    files = sorted((record.RESULTS / "logs").glob("students_*k.json"), key=_tokens)
    whole = [record.load(f"logs/{one.stem}") for one in files]
    rows = [
        [
            f"{one['verify']['train_tokens']:,} / {one['trust']['train_tokens']:,}",
            f"{one['seed']}",
            f"{one['spoilt']} of {one['rows']:,}",
            f"{one['left_out']}",
            _right(one["verify"]),
            _right(one["trust"]),
            f"{one['only_filtered']} / {one['only_raw']}",
        ]
        for kept in whole
        for one in kept["result"]["runs"]
    ]
    head = ["tokens of training, filtered / raw", "seed", "rows spoilt", "left out"]
    head += ["from filtered", "from raw", "right alone, of the requests"]
    n = whole[0]["result"]["n_test"]
    made_by = source(f"logs/{files[0].stem}")
    n_forms = sum(len(said) for said in logs.OPINIONS.values())
    return (
        f"{table(head, rows)}\n\n{whole[0]['student']}, {n:,} fresh requests. Each ends in one of "
        f"{n_forms} sentences, which alone decides its label; the words before it are drawn and "
        f"tell nothing. So these are {n_forms} different requests, each asked about "
        f"{n // n_forms} times: the intervals are too narrow for other requests, and no p-value "
        f"is given. {made_by}."
    )


def _tokens(path: Path) -> int:
    return int(path.stem.removeprefix("students_").removesuffix("k"))


def _right(one: dict[str, Any]) -> str:
    mean, low, high = one["right"]
    return f"{mean:.1%} ({low:.1%} to {high:.1%})"


BLOCKS = {
    "log_students": log_students,
    "log_filters": log_filters,
    "log_personal": log_personal,
    "log_size": log_size,
}
