"""A cascade beside its student and its teacher, on real rows: dollars and accuracy.

    python benchmarks/contrib/cascade.py REAL --teacher REAL/recorded_teacher.py --keep

Of `REAL/banking77/` 2,000 messages: some are learnt, the others choose the threshold and
measure. A large model's answers to all of them were recorded, with tokens and milliseconds;
`--teacher` is a program that serves them, so that its errors are those that it made. The cascade is
served (`stratos serve RUN --cascade`) and asked test items over HTTP. What is kept are accuracy,
share escalated, dollars and milliseconds of the student alone, of the teacher alone, and of the
cascade, as they were promised and as they came.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parents[1] / "kinds"))

import record
from own_rows import read, write
from taught import PRICES, named

from stratos import records
from stratos.contrib.cascade.pairs import read_pairs
from stratos.contrib.cascade.record import Cascade
from stratos.contrib.cascade.threshold import Pair, is_escalated, is_right, thresholds
from stratos.evaluate.answers import read_answers

N_ROWS = 2000
SHARES = ("task.validation_share=0.35", "task.test_share=0.45")
STUDENT, ACCURACIES = "encoder", (0.85, 0.8)
"""The accuracies are asked for in turn, until one is promised."""
REQUESTS_PER_DAY = 500_000
N_ASKED = 400
"""Test items that are asked of the endpoint."""


def run(real: Path, program: Path, out: Path) -> dict[str, Any]:
    """Run the task, serve its cascade, and return what came."""
    folder, banking = out / "run", real / "banking77"
    rows = random.Random(0).sample(named(read(banking / "train.jsonl")), N_ROWS)
    path = write(out / "messages.jsonl", rows)
    environment = {
        **os.environ, "HF_HUB_OFFLINE": "1", "STRATOS_CACHE": str(out / "cache"),
        "WANDB_MODE": "disabled",
    }  # fmt: skip
    recording = [sys.executable, str(program.absolute()), str(banking / "teacher_train.jsonl")]
    with subprocess.Popen([*recording, "--latency", "1"], stdout=subprocess.PIPE, text=True) as of:
        assert of.stdout is not None
        call = [
            sys.executable, "-m", "stratos", "+task=classify", f"task.path={path}",
            "task.name=banking77", "cloud=aws", *SHARES, "teacher=endpoint",
            f"teacher.base_url=http://127.0.0.1:{int(of.stdout.readline())}/v1",
            "teacher.model=recorded", "teacher.concurrency=64", "strategy=supervised",
            *(f"teacher.usd_per_million_{name}_tokens={usd}" for name, usd in PRICES.items()),
            f"traffic.requests_per_day={REQUESTS_PER_DAY}", "limits.budget_usd=2000",
            f"student={STUDENT}", "logger=none", f"hydra.run.dir={folder}",
        ]  # fmt: skip
        try:
            return served(call, folder, environment)
        finally:
            of.terminate()


def served(call: list[str], folder: Path, environment: dict[str, str]) -> dict[str, Any]:
    """Make the cascade and ask it."""
    refused = []
    for accuracy in ACCURACIES:
        subprocess.run([*call, f"cascade.accuracy={accuracy}"], env=environment, check=True)
        made = records.load(folder / "cascade.json", None, Cascade)
        assert made is not None
        if made.is_promised:
            break
        refused.append(accuracy)
    else:
        raise SystemExit("Nothing was promised.")
    serve = [sys.executable, "-m", "stratos", "serve"]
    subprocess.run([*serve, str(folder), "--cascade"], env=environment, check=True)
    try:
        endpoint = through_endpoint(folder, serve, environment)
    finally:
        subprocess.run([*serve, "stop", str(folder)], env=environment, check=True)
    plain = {key: value for key, value in records.to_plain(made).items() if key != "pairs_path"}
    return {
        "n_rows": N_ROWS, "cascade": plain, "refused": refused,
        "equal": as_right_as_the_teacher(folder), "endpoint": endpoint,
    }  # fmt: skip


def as_right_as_the_teacher(folder: Path) -> dict[str, Any]:
    """Return what a cascade comes to that is as accurate as the teacher, without a promise.

    Of the thresholds by which it is on the items that choose, the one that escalates least; what it
    comes to is counted on the others.
    """
    choosing: list[Pair] = []
    measuring: list[Pair] = []
    for item in read_pairs(folder):
        confidence = float("-inf") if item.confidence is None else item.confidence
        half = choosing if item.chooses else measuring
        half.append(Pair(confidence, item.student, item.teacher))

    def right(pairs: list[Pair], threshold: float) -> int:
        return sum(is_right(pair, threshold) for pair in pairs)

    goal = sum(pair.teacher for pair in choosing)
    threshold = min(value for value in thresholds() if right(choosing, value) >= goal)
    return {
        "n": len(measuring),
        "right": right(measuring, threshold),
        "teacher_right": sum(pair.teacher for pair in measuring),
        "student_right": sum(pair.student for pair in measuring),
        "escalated": sum(is_escalated(pair.confidence, threshold) for pair in measuring),
    }


def through_endpoint(folder: Path, serve: list[str], environment: Any) -> dict[str, Any]:
    """Ask the endpoint test items; return how many it has right, and who answered."""
    from stratos.run.stored_config import config_of

    status = [*serve, "status", str(folder), "--json"]
    done = subprocess.run(status, env=environment, check=True, capture_output=True, text=True)
    hosted = json.loads(done.stdout)
    url = hosted["url"].removesuffix("/v1")
    task = config_of(folder).task
    items = {item.id: item for item in task.items("test", 1000)}
    answers = [answer for answer in read_answers(folder) if answer.id in items][:N_ASKED]
    n_right, by, seconds = 0, {"student": 0, "teacher": 0}, []
    for item in answers:
        body = json.dumps({"model": hosted["name"], "messages": item.messages}).encode()
        request = urllib.request.Request(
            f"{url}/v1/chat/completions", body, {"Content-Type": "application/json"}
        )
        start = time.perf_counter()
        with urllib.request.urlopen(request, timeout=60) as answer:
            reply = json.load(answer)
            by[answer.headers["X-Stratos-Answer"]] += 1
        seconds.append(time.perf_counter() - start)
        text = reply["choices"][0]["message"]["content"]
        n_right += task.score(text, items[item.id]).exact >= 1
    return {
        "n": len(answers),
        "right": n_right,
        "by": by,
        "mean_ms": 1000 * sum(seconds) / len(seconds),
    }


def main() -> None:
    """Run the task."""
    parser = record.arguments(__doc__)
    parser.add_argument("real", type=Path)
    parser.add_argument("--teacher", type=Path, required=True)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        result = run(options.real.absolute(), options.teacher, Path(folder))
    record.finish(f"cascade/{STUDENT}", result, options)


if __name__ == "__main__":
    main()
