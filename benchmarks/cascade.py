r"""A cascade beside its student and its teacher, on two tasks: dollars at equal accuracy.

    python benchmarks/cascade.py run [--tasks tickets sentiment] [--out /tmp/cascade]
    python benchmarks/cascade.py resplits [--out /tmp/cascade] [--draws 1000]

`run` makes a small student of each task, with a teacher that a server of this script plays: it
answers from a table, wrong on a fixed share of the questions, at the price of a real hosted model.
Then it serves the cascade (`stratos serve RUN --cascade`), asks it test items over HTTP,
and keeps accuracy, share escalated, dollars and milliseconds of the student alone, of the teacher
alone, and of the cascade, as they were promised and as they came.

`resplits` takes the items that both answered in such a run, draws those that choose from them anew,
and counts how often the promised accuracy is not that of all items: for who looks once at as many
as chose in the run, for who starts with a quarter and asks more until something is promised, and
for who lowers the accuracy until something is.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parent / "own_data"))

import opinions
import record
import tickets

from stratos import records
from stratos.contrib.cascade.pairs import level, read_pairs
from stratos.contrib.cascade.threshold import Pair, choose, is_escalated, is_right, thresholds
from stratos.evaluate.answer_files import read_answers

PRICED_AS = "gpt_oss_120b"
KEY = "GROQ_API_KEY"
WRONG_SHARE = 0.03
"""Of the questions that the teacher answers wrongly."""
N_ROWS = 6000
REQUESTS_PER_DAY = 500_000
TASKS: dict[str, Any] = {
    "tickets": {"accuracies": (0.95,), "tokens": 600_000},
    "sentiment": {"accuracies": (0.94, 0.93), "tokens": 270_000},
}
"""Accuracies are asked for in turn, until one is promised."""
STEP = 0.005
"""By which an accuracy is lowered by who asks for less until it is promised."""
DELTA = 0.05
"""With which a promise may be broken, over all looks."""
_PORTION = 400
"""Test items that are asked of the endpoint."""


def rows_of(name: str) -> list[dict[str, str]]:
    """Return the rows of a task."""
    opinions.N_ROWS, opinions.WRONG_SHARE = N_ROWS, 0.0
    tickets.N_PER_LABEL = N_ROWS // len(tickets.WANTED)
    return opinions.opinions() if name == "sentiment" else tickets.tickets()


class Teacher(BaseHTTPRequestHandler):
    """Answers from a table, at a known rate of errors."""

    protocol_version = "HTTP/1.1"
    known: ClassVar[dict[str, str]] = {}

    def do_POST(self) -> None:
        """Answer a question."""
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        texts = [one["content"] for one in asked["messages"]]
        question = max((one for one in self.known if one in texts[-1]), key=len, default="")
        text = self.said(question)
        sizes = [max(1, sum(map(len, texts)) // 4), max(1, len(text) // 4)]
        usage = dict(zip(("prompt_tokens", "completion_tokens"), sizes, strict=True))
        message = {"role": "assistant", "content": text}
        self.reply({
            "model": asked["model"], "object": "chat.completion", "usage": usage,
            "choices": [{"index": 0, "finish_reason": "stop", "message": message}],
        })  # fmt: skip

    def said(self, question: str) -> str:
        """Return the right answer, or another one where it is to be wrong."""
        right = self.known.get(question, "")
        draw = random.Random(hashlib.sha256(question.encode()).digest())
        if draw.random() >= WRONG_SHARE:
            return right
        others = sorted({*self.known.values()} - {right})
        return draw.choice(others)

    def do_GET(self) -> None:
        """List the models."""
        self.reply({"object": "list", "data": [{"id": "openai/gpt-oss-120b", "object": "model"}]})

    def reply(self, body: Any) -> None:
        """Send JSON."""
        data = json.dumps(body).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *args: Any) -> None:
        """Say nothing."""


@contextmanager
def teacher(rows: list[dict[str, str]]) -> Iterator[str]:
    """Yield the address of a teacher that knows these rows."""
    known = {row["text"]: row["label"] for row in rows}
    handler = type("Known", (Teacher,), {"known": known})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/v1"
    finally:
        server.shutdown()


def run(name: str, out: Path) -> dict[str, Any]:
    """Run one task, serve its cascade, and return what came."""
    facts, rows = TASKS[name], rows_of(name)
    folder, path = out / name, out / f"{name}.jsonl"
    out.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    environment = {
        **os.environ, KEY: "none", "HF_HUB_OFFLINE": "1", "STRATOS_CACHE": str(out / "cache"),
        "WANDB_MODE": "disabled",
    }  # fmt: skip
    with teacher(rows) as url:
        call = [
            sys.executable, "-m", "stratos", "+task=classify", f"task.path={path}",
            f"task.name={name}", "cloud=aws",
            "student=stratos_300k", "strategy=supervised", f"teacher={PRICED_AS}",
            f"teacher.base_url={url}", f"trainer.max_tokens={facts['tokens']}", "logger=none",
            "complexity=low", "plan.pilot=false", "task.validation_share=0.25",
            f"traffic.requests_per_day={REQUESTS_PER_DAY}", "evaluate.max_new_tokens=24",
            "evaluate.n_items=1000", "deploy.load_seconds=3",
            f"hydra.run.dir={folder}",
        ]  # fmt: skip
        refused = []
        for accuracy in facts["accuracies"]:
            subprocess.run([*call, f"cascade.accuracy={accuracy}"], env=environment, check=True)
            made = records.load(folder / "cascade.json", None, records.Cascade)
            assert made is not None
            if made.is_promised:
                break
            refused.append(accuracy)
        assert made.is_promised, made.text
        serve = [sys.executable, "-m", "stratos", "serve"]
        subprocess.run([*serve, str(folder), "--cascade"], env=environment, check=True)
        try:
            asked = through_endpoint(folder, serve, environment)
        finally:
            subprocess.run([*serve, "stop", str(folder)], env=environment, check=True)
    plain = {key: value for key, value in records.to_plain(made).items() if key != "pairs_path"}
    return {
        "n_rows": len(rows), "wrong_share": WRONG_SHARE, "priced_as": PRICED_AS, "cascade": plain,
        "refused": refused, "equal": as_right_as_the_teacher(folder), "endpoint": asked,
    }  # fmt: skip


def as_right_as_the_teacher(folder: Path) -> dict[str, Any]:
    """Return what a cascade comes to that is as accurate as the teacher, without a promise.

    Of the thresholds by which it is on the items that choose, the one that escalates least; what it
    comes to is told on the others.
    """
    kept = read_pairs(folder)
    halves: tuple[list[Pair], list[Pair]] = ([], [])
    for one in kept:
        sure = float("-inf") if one.confidence is None else one.confidence
        halves[not one.chooses].append(Pair(sure, one.student, one.teacher))
    choosing, measuring = halves

    def right(pairs: list[Pair], threshold: float) -> int:
        return sum(is_right(one, threshold) for one in pairs)

    goal = sum(one.teacher for one in choosing)
    able = [one for one in thresholds() if right(choosing, one) >= goal]
    threshold = min(able)
    return {
        "n": len(measuring),
        "right": right(measuring, threshold),
        "teacher_right": sum(one.teacher for one in measuring),
        "student_right": sum(one.student for one in measuring),
        "escalated": sum(is_escalated(one.confidence, threshold) for one in measuring),
    }


def through_endpoint(folder: Path, serve: list[str], environment: Any) -> dict[str, Any]:
    """Ask the endpoint test items; return how many it has right, and what it says of itself."""
    from stratos.run.kept_config import config_of

    status = [*serve, "status", str(folder), "--json"]
    told = subprocess.run(status, env=environment, check=True, capture_output=True, text=True)
    url = json.loads(told.stdout)["url"].removesuffix("/v1")
    task = config_of(folder).task
    items = {one.id: one for one in task.items("test", 1000)}
    kept = [one for one in read_answers(folder) if one.id in items][:_PORTION]
    n_right, by, seconds = 0, {"student": 0, "teacher": 0}, []
    for one in kept:
        body = json.dumps({"model": "cascade", "messages": one.messages}).encode()
        request = urllib.request.Request(
            f"{url}/v1/chat/completions", body, {"Content-Type": "application/json"}
        )
        began = time.perf_counter()
        with urllib.request.urlopen(request, timeout=60) as answer:
            reply = json.load(answer)
            by[answer.headers["X-Stratos-Answer"]] += 1
        seconds.append(time.perf_counter() - began)
        text = reply["choices"][0]["message"]["content"]
        n_right += task.score(text, items[one.id]).exact >= 1
    with urllib.request.urlopen(f"{url}/cascade", timeout=60) as answer:
        counters = json.load(answer)
    return {
        "n": len(kept), "right": n_right, "by": by, "mean_ms": 1000 * sum(seconds) / len(seconds),
        "counters": counters,
    }  # fmt: skip


def resplits(folder: Path, accuracy: float, draws: int) -> dict[str, Any]:
    """Draw anew which items of a run choose; return how often the promise was broken on all.

    All items that both answered stand for the requests that come. Those that choose are drawn from
    them with replacement, as many as chose in the run; "asking_more" looks at the first quarter of
    them, then at the first half, then at all, and stops at the first promise.
    """
    pairs, n = all_pairs(folder)
    right_at, rng = right_by_threshold(pairs), random.Random(0)
    sizes = {"one_look": [n], "asking_more": [n // 4, n // 2, n]}
    came = {way: {"promised": 0, "broken": 0} for way in sizes}
    for _ in range(draws):
        drawn = rng.choices(pairs, k=n)
        for way, looks in sizes.items():
            tried = (
                choose(drawn[:size], accuracy, level(DELTA, look))
                for look, size in enumerate(looks, 1)
            )
            found = next((one for one in tried if one is not None), None)
            came[way]["promised"] += found is not None
            came[way]["broken"] += found is not None and right_at[found.threshold] < accuracy
    return {"accuracy": accuracy, "delta": DELTA, "draws": draws, "n_choosing": n,
            "n_items": len(pairs), **came}  # fmt: skip


def asking_less(folder: Path, draws: int) -> dict[str, Any]:
    """Draw anew as `resplits`, for who lowers the accuracy until one is promised, at one level.

    The first is what the teacher alone has.
    """
    pairs, n = all_pairs(folder)
    right_at, rng = right_by_threshold(pairs), random.Random(0)
    first = round(sum(one.teacher for one in pairs) / len(pairs), 3)
    accuracies = [first - STEP * i for i in range(int(first / STEP))]
    broken, taken = 0, []
    for _ in range(draws):
        drawn = rng.choices(pairs, k=n)
        tried = ((one, choose(drawn, one, level(DELTA, 1))) for one in accuracies)
        accuracy, found = next((a, one) for a, one in tried if one is not None)
        taken.append(accuracy)
        broken += right_at[found.threshold] < accuracy
    return {"first": first, "step": STEP, "delta": DELTA, "draws": draws, "broken": broken,
            "mean_promised": sum(taken) / draws}  # fmt: skip


def all_pairs(folder: Path) -> tuple[list[Pair], int]:
    """Return all items of a run that both answered, and how many of them chose."""
    kept = read_pairs(folder)
    pairs = [
        Pair(float("-inf") if one.confidence is None else one.confidence, one.student, one.teacher)
        for one in kept
    ]
    return pairs, sum(one.chooses for one in kept)


def right_by_threshold(pairs: list[Pair]) -> dict[float, float]:
    """Return the share that the cascade has right of these items at each threshold."""
    return {
        threshold: sum(is_right(one, threshold) for one in pairs) / len(pairs)
        for threshold in thresholds()
    }


def main() -> None:
    """Run, or draw anew, and keep what came."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("run", "resplits"))
    parser.add_argument("--tasks", nargs="+", choices=sorted(TASKS), default=list(TASKS))
    parser.add_argument("--out", type=Path, default=Path("/tmp/cascade"))
    parser.add_argument("--draws", type=int, default=1000)
    told = parser.parse_args()
    if told.what == "run":
        for name in told.tasks:
            record.keep(f"cascade/{name}", run(name, told.out.absolute()))
        return
    found: dict[str, Any] = {}
    for name in told.tasks:
        folder = told.out / name
        pairs, _ = all_pairs(folder)
        teacher_right = sum(one.teacher for one in pairs) / len(pairs)
        # Promises that are kept with room, hardly, and not at all by any threshold.
        found[name] = {
            "promises": [
                resplits(folder, round(teacher_right + over, 3), told.draws)
                for over in (-0.05, -0.03, -0.02, -0.01, 0.0)
            ],
            "asking_less": asking_less(folder, told.draws),
        }
    record.keep("cascade/resplits", found)


if __name__ == "__main__":
    main()
