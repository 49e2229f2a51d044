"""A cascade beside its student and its teacher, on two tasks: dollars at equal accuracy.

    python benchmarks/contrib/cascade.py [--tasks tickets sentiment] [--out /tmp/cascade] --keep

A small student of each task is made, with a teacher that a server of this script plays: it answers
from a table, wrong on a fixed share of the questions, at the price of a real hosted model. Then the
cascade is served (`stratos serve RUN --cascade`) and asked test items over HTTP. What is kept are
accuracy, share escalated, dollars and milliseconds of the student alone, of the teacher alone, and
of the cascade, as they were promised and as they came.
"""

from __future__ import annotations

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

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parents[1] / "own_data"))

import record
from make import opinions
from tickets import LABELS, tickets

from stratos import records
from stratos.contrib.cascade.pairs import read_pairs
from stratos.contrib.cascade.record import Cascade
from stratos.contrib.cascade.threshold import Pair, is_escalated, is_right, thresholds
from stratos.evaluate.answers import read_answers

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
N_ASKED = 400
"""Test items that are asked of the endpoint."""


def rows_of(name: str) -> list[dict[str, str]]:
    """Return the rows of a task."""
    if name == "sentiment":
        return opinions(n_rows=N_ROWS, wrong_share=0.0)
    return tickets(n_per_label=N_ROWS // len(LABELS))


class Teacher(BaseHTTPRequestHandler):
    """Answers from a table, at a known rate of errors."""

    protocol_version = "HTTP/1.1"
    known: ClassVar[dict[str, str]] = {}

    def do_POST(self) -> None:
        """Answer a question."""
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        texts = [message["content"] for message in body["messages"]]
        question = max((text for text in self.known if text in texts[-1]), key=len, default="")
        text = self.answer(question)
        sizes = [max(1, sum(map(len, texts)) // 4), max(1, len(text) // 4)]
        usage = dict(zip(("prompt_tokens", "completion_tokens"), sizes, strict=True))
        message = {"role": "assistant", "content": text}
        self.reply({
            "model": body["model"], "object": "chat.completion", "usage": usage,
            "choices": [{"index": 0, "finish_reason": "stop", "message": message}],
        })  # fmt: skip

    def answer(self, question: str) -> str:
        """Return the right answer, or another one where it is to be wrong."""
        right = self.known.get(question, "")
        draw = random.Random(hashlib.sha256(question.encode()).digest())
        if draw.random() >= WRONG_SHARE:
            return right
        return draw.choice(sorted({*self.known.values()} - {right}))

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
            made = records.load(folder / "cascade.json", None, Cascade)
            assert made is not None
            if made.is_promised:
                break
            refused.append(accuracy)
        assert made.is_promised, made.text
        serve = [sys.executable, "-m", "stratos", "serve"]
        subprocess.run([*serve, str(folder), "--cascade"], env=environment, check=True)
        try:
            endpoint = through_endpoint(folder, serve, environment)
        finally:
            subprocess.run([*serve, "stop", str(folder)], env=environment, check=True)
    plain = {key: value for key, value in records.to_plain(made).items() if key != "pairs_path"}
    return {
        "n_rows": len(rows), "wrong_share": WRONG_SHARE, "priced_as": PRICED_AS, "cascade": plain,
        "refused": refused, "equal": as_right_as_the_teacher(folder), "endpoint": endpoint,
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
    """Ask the endpoint test items; return how many it has right, and what it says of itself."""
    from stratos.run.stored_config import config_of

    status = [*serve, "status", str(folder), "--json"]
    done = subprocess.run(status, env=environment, check=True, capture_output=True, text=True)
    url = json.loads(done.stdout)["url"].removesuffix("/v1")
    task = config_of(folder).task
    items = {item.id: item for item in task.items("test", 1000)}
    answers = [answer for answer in read_answers(folder) if answer.id in items][:N_ASKED]
    n_right, by, seconds = 0, {"student": 0, "teacher": 0}, []
    for item in answers:
        body = json.dumps({"model": "cascade", "messages": item.messages}).encode()
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
    with urllib.request.urlopen(f"{url}/cascade", timeout=60) as answer:
        counters = json.load(answer)
    return {
        "n": len(answers),
        "right": n_right,
        "by": by,
        "mean_ms": 1000 * sum(seconds) / len(seconds),
        "counters": counters,
    }


def main() -> None:
    """Run each task."""
    parser = record.arguments(__doc__)
    parser.add_argument("--tasks", nargs="+", choices=sorted(TASKS), default=list(TASKS))
    parser.add_argument("--out", type=Path, default=Path("/tmp/cascade"))
    options = parser.parse_args()
    for name in options.tasks:
        record.finish(f"cascade/{name}", run(name, options.out.absolute()), options)


if __name__ == "__main__":
    main()
