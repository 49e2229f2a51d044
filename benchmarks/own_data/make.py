"""Eight small tasks of different kinds, made by script: the same rows in every run.

python benchmarks/own_data/make.py --folder own_data
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from forms import addresses, dates, units
from mails import mails
from opinions import opinions
from problems import queries, sums
from tickets import tickets


@dataclass(frozen=True)
class Made:
    """One task: how its rows are made, and the task that reads them."""

    rows: Callable[[], list[dict[str, Any]]]
    task: str


TASKS = {
    "tickets": Made(tickets, "classify"),
    "sentiment": Made(opinions, "classify"),
    "addresses": Made(addresses, "jsonl"),
    "dates": Made(dates, "jsonl"),
    "units": Made(units, "jsonl"),
    "emails": Made(mails, "jsonl"),
    "sums": Made(sums, "jsonl"),
    "sql": Made(queries, "jsonl"),
}


def write(name: str, folder: Path) -> Path:
    """Write the rows of a task as JSON lines; return the file."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.jsonl"
    lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in TASKS[name].rows()]
    path.write_text("".join(lines), encoding="utf-8")
    return path


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, default=Path("own_data"))
    for name in TASKS:
        print(write(name, parser.parse_args().folder))
