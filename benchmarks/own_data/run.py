r"""One command without a setting for each of the eight small tasks, and what it came to.

    python benchmarks/own_data/run.py                      all eight, one after the other
    python benchmarks/own_data/run.py --tasks dates sql    some of them
    python benchmarks/own_data/run.py --table              prints what is kept, and runs nothing

Of each task 300 rows are written (`make.py`), and the command is

    python -m stratos +task=<classify or jsonl> task.path=<file>

with a run folder below `--out`. What came is kept in `benchmarks/results/own_data/<task>.json`:
student, teacher and baselines on the test rows, whether the student beats the best baseline and
what the terminal said of that, whether the planned interval of accuracy held, and the minutes. A
run that fails or passes `--minutes` is kept as such. A task that is kept is not run again.

The same rows with more rows that a teacher writes, beside the labelled rows alone:

    python benchmarks/own_data/run.py --tasks tickets sentiment --variant supervised \
        strategy=supervised teacher=smollm2
    python benchmarks/own_data/run.py --tasks tickets sentiment --variant augmentation \
        strategy=augmentation strategy.min_coverage=0 teacher=smollm2
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parent))

import make
import record

from stratos import records
from stratos.evaluate.verdict import verdict
from stratos.report.planned import planned_rows

FOLDER = "own_data"
"""Of the kept results."""
STAGES = {
    "probe": records.Probe,
    "pilot": records.Pilot,
    "plan": records.Plan,
    "synthesize": records.Corpus,
    "distill": records.Student,
    "evaluate": records.Scorecard,
    "deploy": records.Deployment,
}
_TAIL = 4000
"""Characters of what a failed run printed that are kept."""


def run(name: str, out: Path, minutes: float, extra: Sequence[str]) -> dict[str, Any]:
    """Run the command of one task; return what it came to.

    Args:
        name: of the task, and of the variant.
        out: folder of rows and runs.
        minutes: after which the run is ended.
        extra: settings of a variant; none for the command itself.
    """
    task = name.partition("-")[0]
    rows = make.write(task, out / "rows")
    folder = out / name
    command = [sys.executable, "-m", "stratos", f"+task={make.TASKS[task].task}"]
    command += [f"task.path={rows}", *extra, f"hydra.run.dir={folder}"]
    print(f"{name}: {' '.join(command[1:])}", flush=True)
    log = out / f"{name}.log"
    before, started = os.times(), time.monotonic()
    with log.open("w") as file:
        process = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT)
        try:
            code: int | None = process.wait(60 * minutes)
        except subprocess.TimeoutExpired:
            process.terminate()
            process.wait()
            code = None
    seconds, after = time.monotonic() - started, os.times()
    cpu = sum(after[2:4]) - sum(before[2:4])
    told = {
        "task": task,
        "n_rows": len(rows.read_text().splitlines()),
        "extra": list(extra),
        "minutes": seconds / 60,
        "cpu_minutes": cpu / 60,
    }
    if code != 0:
        why = f"longer than {minutes:g} minutes" if code is None else f"exit status {code}"
        return {**told, "failed": why, "printed": log.read_text()[-_TAIL:]}
    return {**told, "failed": None, **measured(folder)}


def measured(folder: Path) -> dict[str, Any]:
    """Return what a finished run came to, from its records."""
    found = {
        name: records.load(folder / f"{name}.json", None, kind)
        for name, kind in STAGES.items()
        if (folder / f"{name}.json").exists()
    }
    plan, corpus, student, card = (
        found[name] for name in ("plan", "synthesize", "distill", "evaluate")
    )
    said = verdict(card)
    best = card.best_baseline
    accuracy = next(row for row in planned_rows(plan, found) if row.quantity == "accuracy")
    return {
        "teacher": plan.teacher,
        "student": plan.student,
        "strategy": plan.strategy,
        "n_corpus_items": corpus.n_items,
        "n_by_source": corpus.n_by_source,
        "train_tokens": student.train_tokens,
        "train_minutes": student.seconds / 60,
        "scores": {
            one.role: {
                "name": one.name,
                "exact": one.slice().exact.mean,
                "low": one.slice().exact.low,
                "high": one.slice().exact.high,
                "n_items": one.slice().n_items,
            }
            for one in card.scores
        },
        "best_baseline": None
        if best is None
        else {
            "role": best.role,
            "name": best.name,
            "exact": best.other_exact.mean,
            "student_exact": best.student_exact.mean,
            "n_items": best.n_items,
            "p_value": best.p_value,
        },
        "outcome": None if said is None else said.outcome,
        "said": None if said is None else said.text,
        "planned_accuracy": {
            "mean": plan.accuracy.mean,
            "low": plan.accuracy.low,
            "high": plan.accuracy.high,
            "is_known": plan.accuracy.is_known,
            "source": plan.accuracy.source,
            "outcome": accuracy.outcome,
        },
        "had_pilot": "pilot" in found,
        "usd": corpus.usd,
    }


def table() -> None:
    """Print a row of each kept run, and how many reach what they should."""
    head = (
        "task", "student", "by", "student's exact", "best baseline", "", "p", "planned", "held",
        "minutes",
    )  # fmt: skip
    print(f"| {' | '.join(head)} |\n|{'---|' * len(head)}")
    kept = {
        path.stem: record.load(f"{FOLDER}/{path.stem}")["result"]
        for path in sorted((record.RESULTS / FOLDER).glob("*.json"))
    }
    for name, one in kept.items():
        if one["failed"]:
            print(f"| {name} | {one['failed']} |" + " |" * 7 + f" {one['minutes']:.1f} |")
            continue
        best, planned = one["best_baseline"], one["planned_accuracy"]
        score = one["scores"]["student"]
        known = planned["is_known"]
        cells = [
            name,
            one["student"],
            one["strategy"],
            f"{score['exact']:.1%} ({score['low']:.1%}–{score['high']:.1%}) of {score['n_items']}",
            f"{best['exact']:.1%} {best['name']}" if best else "–",
            one["outcome"] or "–",
            f"{best['p_value']:.2g}" if best else "–",
            f"{planned['low']:.0%}–{planned['high']:.0%}" if known else "unknown",
            planned["outcome"],
            f"{one['minutes']:.1f}",
        ]
        print(f"| {' | '.join(cells)} |")
    plain = [one for one in kept.values() if not one["extra"]]
    done = [one for one in plain if not one["failed"]]
    print(
        f"\n{len(plain)} tasks, {len(done)} finished. Better than the best baseline: "
        f"{sum(one['outcome'] == 'better' for one in done)}; said not to be: "
        f"{sum(one['outcome'] in ('open', 'worse') for one in done)}. Planned interval held: "
        f"{sum(one['planned_accuracy']['outcome'] == 'inside' for one in done)}, missed: "
        f"{sum(one['planned_accuracy']['outcome'] == 'outside' for one in done)}, nothing "
        f"predicted: {sum(one['planned_accuracy']['outcome'] == 'open' for one in done)}. Within "
        f"10 minutes: {sum(one['minutes'] <= 10 for one in done)}."
    )


def main() -> None:
    """Run what is missing and keep it, or print what is kept."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tasks", nargs="*", default=list(make.TASKS), choices=list(make.TASKS))
    parser.add_argument("--out", type=Path, default=Path("sweeps/own_data"))
    parser.add_argument("--minutes", type=float, default=40.0, help="after which a run is ended")
    parser.add_argument("--variant", default="", help="name of a run with settings")
    parser.add_argument("--again", action="store_true", help="run what is kept, too")
    parser.add_argument("--table", action="store_true")
    arguments, extra = parser.parse_known_args()
    if bool(extra) != bool(arguments.variant):
        parser.error("settings need --variant=<name>, and a variant needs settings")
    for task in () if arguments.table else arguments.tasks:
        name = f"{task}-{arguments.variant}" if arguments.variant else task
        if (record.RESULTS / FOLDER / f"{name}.json").exists() and not arguments.again:
            print(f"{name} is kept already")
            continue
        found = run(name, arguments.out.resolve(), arguments.minutes, extra)
        record.keep(f"{FOLDER}/{name}", found)
    table()


if __name__ == "__main__":
    main()
