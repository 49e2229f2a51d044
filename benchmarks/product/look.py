"""What `stratos look` takes: seconds to its first line and to its verdict, and CPU seconds.

    python benchmarks/product/look.py ../shared/real --keep

Real rows (`banking77/`, `invoices/`), and 100,000 rows made of those of banking77, their words in
other orders. Each file is looked at in a process of its own.
"""

from __future__ import annotations

import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import record
from kinds.own_rows import sets, write

N_MANY = 100_000
Row = dict[str, Any]


def many(rows: Sequence[Row], n: int) -> list[Row]:
    """Return so many rows, each with the words of a real one in another order, and a number."""
    draw = random.Random(0)
    made = []
    for number in range(n):
        row = draw.choice(rows)
        words = row["text"].split()
        made.append({**row, "text": " ".join([*draw.sample(words, len(words)), str(number)])})
    return made


def looked(path: Path) -> Row:
    """Look at a file; return the seconds, what was printed, and what came of it."""
    load_before, lines = os.getloadavg()[0], list[str]()
    before, began, first_s = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic(), 0.0
    with subprocess.Popen(
        [sys.executable, "-m", "stratos", "look", path.name],
        cwd=path.parent, env={**os.environ, "HF_HUB_OFFLINE": "1"}, text=True,
        stdout=subprocess.PIPE,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        for line in process.stdout:
            first_s = first_s or time.monotonic() - began
            print(f"{time.monotonic() - began:7.1f} s  {line}", end="")
            lines.append(line.rstrip("\n"))
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if process.returncode:
        raise SystemExit(f"the command failed with code {process.returncode}")
    return {
        "first_line_s": first_s,
        "verdict_s": time.monotonic() - began,
        "cpu_s": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
        "load_before": load_before,
        "printed": lines,
    }


def main() -> None:
    """Look at each file."""
    parser = record.arguments(__doc__)
    parser.add_argument("real", type=Path, help="folder of banking77 and invoices")
    options = parser.parse_args()
    files = {name: rows for name, (_, rows, _) in sets(options.real).items()}
    files["banking77, words in other orders"] = many(files["banking77, all rows"], N_MANY)
    result = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, rows in files.items():
            path = write(Path(folder) / "questions.jsonl", rows)
            result[name] = {"n_rows": len(rows), **looked(path)}
    record.finish("look", result, options, seed=0)


if __name__ == "__main__":
    main()
