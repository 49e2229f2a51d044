r"""Train, evaluate and serve the embedded students: the runs that their cards are written from.

    python benchmarks/training/students.py --student stratos_1m --seeds 0 1 2

Each run is the main command with `deploy=local`, one after the other, so that times are not shared.
What came is kept in `benchmarks/results/students/<student>-<seed>.json`, with date, machine,
versions and seed; a run that is kept there is not run again. The run folders lie below `--out`.

The same student and items without a reasoning path, the answer alone, as often as epochs allow:

    python benchmarks/training/students.py --bare --student stratos_1m --seeds 0 1 2

Both beside each other on the same test items need the same seeds: the seed draws them.

    python benchmarks/training/students.py --cards   prints `runs:` of each card from the results

Minutes depend on what else the machine does; CPU seconds less so, but they too grow beside other
work. So a fixed matrix product is timed just before and after each run, and the training's CPU
seconds are also given in units of it (`train / GEMM`).
"""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

sys.path.insert(0, str(Path(__file__).parents[1]))

import record

from stratos import records
from stratos.records import CardRun, Interval

FOLDER = "students"
"""Of the kept results."""
N_VALIDATION = 1000
"""Validation items of the figure that cards keep: more than a run's own 512, since plans of every
machine rest on it."""
BARE = ("strategy=injection", "strategy.rationale=none")

YARDSTICK = """
import time, torch
a, b = torch.randn(2, 2048, 2048).unbind()
a @ b
start = time.process_time()
for _ in range(10):
    a @ b
print(time.process_time() - start)
"""


def yardstick_cpu_seconds() -> float:
    """Return CPU seconds of ten float32 products of 2048 x 2048 matrices, in a fresh process."""
    command = [sys.executable, "-c", YARDSTICK]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def run(student: str, seed: int, folder: Path, extra: list[str]) -> None:
    """Run the main command once in its own folder."""
    command = [sys.executable, "-m", "stratos", "+task=mahjong", "cloud=aws"]
    command += [f"student={student}", f"seed={seed}", "logger=none", f"hydra.run.dir={folder}"]
    command += ["deploy=local"]
    command += [f"callbacks.n_final_validation_items={N_VALIDATION}"]
    before = yardstick_cpu_seconds()
    start = time.monotonic()
    subprocess.run([*command, *extra], check=True)
    minutes = (time.monotonic() - start) / 60
    gemm = (before + yardstick_cpu_seconds()) / 2
    (folder / "times.json").write_text(json.dumps({"minutes": minutes, "gemm_cpu_seconds": gemm}))


def measured(folder: Path) -> dict[str, Any]:
    """Return what a finished run came to, from its records."""

    def load(name: str, kind: Any) -> Any:
        return records.load(folder / f"{name}.json", None, kind)

    plan, corpus = load("plan", records.Plan), load("synthesize", records.Corpus)
    student, scores = load("distill", records.Student), load("evaluate", records.Scorecard)
    served = load("deploy", records.Deployment)
    score, teacher = scores.score("student"), scores.score("teacher")
    composed = yaml.safe_load((folder / ".hydra" / "config.yaml").read_text())
    times = folder / "times.json"
    return {
        "student": student.name,
        "task": scores.task,
        "task_version": composed["task"]["version"],
        "strategy": plan.strategy,
        "n_corpus_items": corpus.n_items,
        "corpus_sha256": corpus.sha256,
        "weights_sha256": student.weights_sha256,
        "train_tokens": student.train_tokens,
        "train_seconds": student.seconds,
        "train_cpu_seconds": student.cpu_seconds,
        "best_step": student.best_step,
        "validation": {
            "exact": student.validation_exact,
            "n_items": student.n_validation_items,
            "n_reused": student.n_validation_reused,
        },
        "test_seed": scores.seed,
        "test": {row.slice: _share(row.exact, row.n_items) for row in score.slices},
        "tokens_per_answer": score.output_tokens / score.slice().n_items,
        "teacher": None
        if teacher is None
        else {
            "name": teacher.name,
            "n_params": teacher.n_params,
            "prompt": plan.prompt,
            **_share(teacher.slice().exact, teacher.slice().n_items),
        },
        "baselines": {
            role: score
            for role, score in record.scores_of(scores).items()
            if role not in ("student", "teacher")
        },
        "ratio_at_least": None if scores.comparison is None else scores.comparison.ratio_at_least,
        "ratio_bound": None if scores.comparison is None else scores.comparison.ratio_bound,
        "served": None
        if served is None
        else {
            "p50_ms": served.latency_p50_ms,
            "p95_ms": served.latency_p95_ms,
            "n_requests": served.n_requests,
            "n_equal": served.n_equal,
        },
        "times": json.loads(times.read_text()) if times.exists() else None,
    }


def _share(exact: Interval, n_items: int) -> dict[str, float]:
    return {"exact": exact.mean, "low": exact.low, "high": exact.high, "n_items": n_items}


def recorded() -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the name and content of every kept run."""
    for path in sorted((record.RESULTS / FOLDER).glob("*.json")):
        yield path.stem, record.load(f"{FOLDER}/{path.stem}")


def card_run(kept_run: dict[str, Any]) -> CardRun:
    """Return a kept run as it stands on a card."""
    run = kept_run["result"]
    whole, served = run["test"]["all"], run["served"]
    load = (served or {}).get("load_average", kept_run["load_average"])
    is_busy = load > 2 * kept_run["cores"]  # then milliseconds are of the queue
    return CardRun(
        task=run["task"],
        task_version=run["task_version"],
        strategy=run["strategy"],
        accuracy=round(whole["exact"], 4),
        n_items=whole["n_items"],
        validation_accuracy=round(run["validation"]["exact"], 4),
        n_validation_items=run["validation"]["n_items"],
        train_tokens=run["train_tokens"],
        tokens_per_answer=round(run["tokens_per_answer"], 1),
        ms_per_answer=0.0 if is_busy or served is None else float(round(served["p50_ms"])),
        train_cpu_seconds=float(round(run["train_cpu_seconds"])),
        seed=kept_run["seed"],
        date=kept_run["date"],
        machine=f"{kept_run['machine']}, {kept_run['cores']} cores, no GPU",
        accuracy_by_slice={
            name: round(row["exact"], 4) for name, row in run["test"].items() if name != "all"
        },
    )


def is_bare(name: str) -> bool:
    """Return whether a kept run learnt answers without a path: it stands on no card."""
    return "-bare-" in name


def cards() -> None:
    """Print the runs of each card."""
    for name, content in recorded():
        if not is_bare(name):
            plain = dataclasses.asdict(card_run(content))
            del plain["student"]
            text = yaml.safe_dump([plain], sort_keys=False, default_flow_style=False)
            print(f"\n# {name}\n" + "".join(f"  {line}\n" for line in text.splitlines()))


def main() -> None:
    """Run what is missing and keep it, or print what is kept."""
    parser = record.arguments(__doc__)
    parser.add_argument("--student", default="stratos_1m")
    parser.add_argument("--seeds", type=int, nargs="*", default=[0])
    parser.add_argument("--out", type=Path, default=Path("sweeps/students"))
    parser.add_argument("--bare", action="store_true", help="the answer alone, without a path")
    parser.add_argument("--cards", action="store_true")
    arguments, extra = parser.parse_known_args()
    if arguments.cards:
        cards()
        return
    middle = "-bare" if arguments.bare else ""
    for seed in arguments.seeds:
        name = f"{arguments.student}{middle}-{seed}"
        folder = arguments.out / name
        if (record.RESULTS / FOLDER / f"{name}.json").exists():
            print(f"{name} is kept already")
            continue
        if not (folder / "report.json").exists():
            bare = BARE if arguments.bare else ()
            run(arguments.student, seed, folder, [*bare, *extra])
        record.keep(f"{FOLDER}/{name}", measured(folder), seed=seed, more={"extra": extra})


if __name__ == "__main__":
    main()
