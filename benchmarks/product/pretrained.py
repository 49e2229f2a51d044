"""A pretrained student on rows of a user's own: CPU seconds and peak memory of each stage.

    python benchmarks/product/pretrained.py ../shared/real --keep

SmolLM2-135M-Instruct, which is the teacher that is probed, too, learns ten labels of banking77 from
300 rows, by the command that a user types, one stage after another. The training is short
(`--train-tokens`): what a step holds in memory does not depend on how many follow.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parents[1] / "kinds"))

import record
from own_rows import sets, write

SET = "banking77, ten labels on cards"
STAGES = ("probe", "plan", "synthesize", "distill", "evaluate")


def main() -> None:
    """Type the command, stage by stage."""
    parser = record.arguments(__doc__)
    parser.add_argument("real", type=Path, help="folder of banking77/")
    parser.add_argument("--train-tokens", type=int, default=60_000)
    parser.add_argument("--more", nargs="*", default=[], help="further words of the command")
    options = parser.parse_args()
    task, rows, _ = sets(options.real)[SET]
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        command = [
            *(sys.executable, "-m", "stratos", f"+task={task}", "cloud=local"),
            f"task.path={write(folder / 'rows.jsonl', rows)}",
            *("teacher=smollm2", "student=smollm2_135m", "strategy=supervised"),
            *(f"student.train_tokens={options.train_tokens}", "hydra.run.dir=run", *options.more),
        ]
        apart = {"STRATOS_CACHE": str(folder / "cache"), "HF_HUB_OFFLINE": "1"}
        environ = {**os.environ, **apart, "OMP_NUM_THREADS": "1"}
        stages = {}
        for n, stage in enumerate(STAGES, 1):
            words = [*command, f"stages=[{','.join(STAGES[:n])}]"]
            stages[stage] = record.measured_process(words, cwd=folder, env=environ)
            print(stage, {k: v for k, v in stages[stage].items() if k != "printed"}, flush=True)
            print(stages[stage].pop("printed"))
        records = {
            stage: json.loads((folder / "run" / f"{stage}.json").read_text())["record"]
            for stage in STAGES
        }
    result = {
        "stages": stages,
        "n_rows": len(rows),
        "n_probed": records["probe"]["teachers"][0]["n_items"],
        "n_evaluated": records["evaluate"]["scores"][0]["slices"][0]["n_items"],
        "train_tokens": records["distill"]["train_tokens"],
    }
    record.finish("pretrained", result, options, seed=0)


if __name__ == "__main__":
    main()
