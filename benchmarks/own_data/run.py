r"""One command without a setting for each of the six small tasks, and what it came to.

    python benchmarks/own_data/run.py                      all, one after the other
    python benchmarks/own_data/run.py --tasks dates sql    some of them

Of each task 300 rows are written (`make.py`), and the command is

    python -m stratos +task=<classify or jsonl> task.path=<file>

with a run folder below `--out`. What came is kept in `benchmarks/results/own_data/<task>.json`:
student, teacher and baselines on the test rows, whether the student beats the best baseline,
whether the planned interval of accuracy held, and the minutes. A run that fails or passes
`--minutes` ends the script. A task that is kept is not run again.
"""

from __future__ import annotations

import subprocess
import sys
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
"""Of the results."""
STAGES = {
    "probe": records.Probe,
    "pilot": records.Pilot,
    "plan": records.Plan,
    "synthesize": records.Corpus,
    "distill": records.Student,
    "evaluate": records.Scorecard,
    "deploy": records.Deployment,
}


def run(name: str, out: Path, minutes: float) -> dict[str, Any]:
    """Run the command of one task; return what it came to."""
    rows, folder = make.write(name, out / "rows"), out / name
    command = [sys.executable, "-m", "stratos", f"+task={make.TASKS[name].task}"]
    command += [f"task.path={rows}", f"hydra.run.dir={folder}"]
    seconds = record.measured_process(
        ["timeout", f"{minutes}m", *command], stderr=subprocess.STDOUT
    )
    return {
        "n_rows": len(rows.read_text().splitlines()),
        "minutes": seconds["wall_s"] / 60,
        "cpu_minutes": seconds["cpu_s"] / 60,
        **measured(folder),
    }


def measured(folder: Path) -> dict[str, Any]:
    """Return what a finished run came to, from its records."""
    made: dict[str, Any] = {
        name: records.load(folder / f"{name}.json", None, kind)
        for name, kind in STAGES.items()
        if (folder / f"{name}.json").exists()
    }
    plan, corpus, student, card = (
        made[name] for name in ("plan", "synthesize", "distill", "evaluate")
    )
    best, judged = card.best_baseline, verdict(card)
    accuracy = next(row for row in planned_rows(plan, made) if row.quantity == "accuracy")
    return {
        "teacher": plan.teacher,
        "student": plan.student,
        "strategy": plan.strategy,
        "n_corpus_items": corpus.n_items,
        "train_tokens": student.train_tokens,
        "scores": record.scores_of(card),
        "best_baseline": best
        and {"name": best.name, "exact": best.other_exact.mean, "p_value": best.p_value},
        "outcome": judged and judged.outcome,
        "planned_accuracy": {
            "mean": plan.accuracy.mean,
            "low": plan.accuracy.low,
            "high": plan.accuracy.high,
            "is_known": plan.accuracy.is_known,
            "outcome": accuracy.outcome,
        },
    }


def main() -> None:
    """Run what is missing, and keep it."""
    parser = record.arguments(__doc__)
    parser.add_argument("--tasks", nargs="*", default=list(make.TASKS), choices=list(make.TASKS))
    parser.add_argument("--out", type=Path, default=Path("sweeps/own_data"))
    parser.add_argument("--minutes", type=float, default=40.0, help="of a run, at most")
    options = parser.parse_args()
    for name in options.tasks:
        if not (record.RESULTS / FOLDER / f"{name}.json").exists():
            result = run(name, options.out.resolve(), options.minutes)
            record.finish(f"{FOLDER}/{name}", result, options)


if __name__ == "__main__":
    main()
