"""A thousand requests to a loopback endpoint that takes 200 ms: throughput, faults, a kill.

    python benchmarks/teachers/throughput.py --keep [--concurrency 16 32]

The server is a process of its own (tests/teachers/provider.py). Ideal is what the allowed
concurrency gives if nothing but the server's 200 ms took time.
"""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import record

DELAY_S = 0.2
OURS = """
import sys, time
from pathlib import Path
from stratos.core.context import Context
from stratos.ledger import Ledger
from stratos.teachers.asking import stream_ask
from stratos.teachers.base import Question
from stratos.teachers.openai import OpenAITeacher
url, folder, n, concurrency = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
teacher = OpenAITeacher("parrot", "gpt-4o-mini", base_url=tuple(url.split()), api_key_env=None,
    concurrency=concurrency, usd_per_million_input_tokens=1.0, usd_per_million_output_tokens=1.0)
ledger = Ledger(folder / "ledger.jsonl", 100.0)
context = Context(folder, folder, ledger)
assert teacher.unreachable() is None  # as every stage begins
print("ready", flush=True)
started = time.perf_counter()
questions = (Question([{"role": "user", "content": f"word {i}"}], 16) for i in range(n))
for i, answer in enumerate(stream_ask(teacher, questions, context)):
    assert answer.text == f"WORD {i}", answer
print("took", time.perf_counter() - started, time.process_time(), ledger.spent_usd, flush=True)
"""


@contextmanager
def serving(share: float = 0.0) -> Iterator[str]:
    """Run the endpoint, which fails a share of the requests; gives its base URL."""
    script = record.ROOT / "tests" / "teachers" / "provider.py"
    command = [sys.executable, str(script), "--delay-s", str(DELAY_S), "--share", str(share),
               "--models", "gpt-4o-mini"]  # fmt: skip
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
    finally:
        process.kill()
        process.wait()


def counts_of(url: str) -> dict[str, Any]:
    """Return what the endpoint was asked and has answered."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    reply: dict[str, Any] = json.load(opener.open(url.removesuffix("/v1") + "/bill"))
    for counts in (reply["tries"], reply["answered"]):
        counts.pop("", None)  # a peer begins with an empty question, to read rate limits
    return reply


def run(
    url: str, folder: str, n: int, concurrency: int, kill_at: int = 0
) -> tuple[float, float, float] | None:
    """Ask; return seconds, CPU seconds and dollars, or None if it was killed on the way."""
    command = [sys.executable, "-c", OURS, url, folder, str(n), str(concurrency)]
    log = Path(folder) / "stderr.log"
    with log.open("w") as errors:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True,
                                   env={**os.environ, "PYTHONPATH": str(record.ROOT)})  # fmt: skip
        assert process.stdout is not None
        if kill_at:
            while sum(counts_of(url)["answered"].values()) < kill_at and process.poll() is None:
                time.sleep(0.05)
            process.send_signal(signal.SIGKILL)
            process.wait()
            return None
        for line in process.stdout:
            if line.startswith("took"):
                wall_s, cpu_s, usd = map(float, line.split()[1:])
                process.wait()
                return wall_s, cpu_s, usd
    raise SystemExit(log.read_text()[-2000:])


def compare(n: int, concurrency: int) -> dict[str, Any]:
    """Return throughput, the same with faults, and what is asked after a kill."""

    def ask(url: str, folder: str, kill_at: int = 0) -> Any:
        return run(url, folder, n, concurrency, kill_at)

    with serving() as url, tempfile.TemporaryDirectory() as folder:
        wall_s, cpu_s, _ = ask(url, folder)
    with serving(0.1) as url, tempfile.TemporaryDirectory() as folder:
        faulty_s, _, usd = ask(url, folder)
        counts = counts_of(url)
        answered = counts["answered"].values()
    with serving() as url, tempfile.TemporaryDirectory() as folder:
        ask(url, folder, kill_at=n // 2)
        before = sum(counts_of(url)["tries"].values())
        ask(url, folder)
        after = sum(counts_of(url)["tries"].values())
    return {
        "wall_s": wall_s,
        "ideal_s": math.ceil(n / concurrency) * DELAY_S,
        "cpu_s": cpu_s,
        "faults": {
            "wall_s": faulty_s,
            "tries": sum(counts["tries"].values()),
            "usd": usd,
            "lost": n - len(answered),
            "answered_twice": sum(answered) - n,
        },
        "killed": {"asked_before": before, "asked_twice": after - n},
    }


def main() -> None:
    """Compare."""
    parser = record.arguments(__doc__)
    parser.add_argument("--n", type=int, default=1000)
    parser.add_argument("--concurrency", type=int, nargs="*", default=[16, 32])
    options = parser.parse_args()
    result: dict[str, Any] = {"n": options.n, "delay_s": DELAY_S}
    for concurrency in options.concurrency:
        result[f"stratos, {concurrency}"] = compare(options.n, concurrency)
    record.finish("teachers/throughput", result, options)


if __name__ == "__main__":
    main()
