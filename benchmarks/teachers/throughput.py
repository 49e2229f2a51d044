"""A thousand requests to a loopback endpoint that takes 200 ms: throughput, faults, a kill.

    python benchmarks/teachers/throughput.py [--curator <python with bespokelabs-curator>]
    python benchmarks/teachers/throughput.py --endpoints 2

The server is a process of its own (tests/teachers/fault_server.py). Ideal is what the allowed
concurrency gives if nothing but the server's 200 ms took time.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from threading import Timer
from typing import Any

ROOT = Path(__file__).parents[2]
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
CURATOR = """
import os, sys, time
url, folder, n, concurrency = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
os.environ.update(CURATOR_CACHE_DIR=folder, CURATOR_DISABLE_RICH_DISPLAY="1",
    TELEMETRY_ENABLED="false", OPENAI_API_KEY="none", HF_HUB_OFFLINE="1")
import tiktoken
from types import SimpleNamespace
# Its token counts want a file from the network: bytes stand in, which take less time.
counts = SimpleNamespace(encode=lambda text, **_: list(text.encode()))
tiktoken.get_encoding = tiktoken.encoding_for_model = lambda name: counts
from bespokelabs import curator
llm = curator.LLM(model_name="gpt-4o-mini", backend="openai", backend_params={
    "base_url": url, "max_concurrent_requests": concurrency, "max_requests_per_minute": 1000000,
    "max_tokens_per_minute": 1000000000, "max_retries": 8, "require_all_responses": True})
print("ready", flush=True)
started = time.perf_counter()
made = llm([f"word {i}" for i in range(n)])
rows = made if hasattr(made, "__len__") else made.dataset
assert len(rows) == n, len(rows)
print("took", time.perf_counter() - started, time.process_time(), 0.0, flush=True)
"""


@contextmanager
def server(share: float = 0.0) -> Iterator[str]:
    """Run the endpoint; gives its base URL."""
    with serving(share) as (url, _):
        yield url


@contextmanager
def serving(share: float = 0.0) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """Run the endpoint; gives its base URL and its process."""
    script = ROOT / "tests" / "teachers" / "fault_server.py"
    command = [sys.executable, str(script), "--delay-s", str(DELAY_S), "--share", str(share),
               "--models", "gpt-4o-mini"]  # fmt: skip
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield process.stdout.readline().strip(), process
    finally:
        process.kill()
        process.wait()


def told(url: str) -> dict[str, Any]:
    """Return what the endpoint was asked and has answered."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    reply: dict[str, Any] = json.load(opener.open(url.removesuffix("/v1") + "/told"))
    for counts in (reply["tries"], reply["answered"]):
        counts.pop("", None)  # a peer begins with an empty question, to read rate limits
    return reply


def run(
    python: str, code: str, url: str, folder: str, n: int, concurrency: int, kill_at: int = 0
) -> tuple[float, float, float] | None:
    """Ask; return seconds, CPU seconds and dollars, or None if it was killed on the way."""
    command = [python, "-c", code, url, folder, str(n), str(concurrency)]
    log = Path(folder) / "stderr.log"
    with log.open("w") as errors:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True,
                                   env={**os.environ, "PYTHONPATH": str(ROOT)})  # fmt: skip
        assert process.stdout is not None
        if kill_at:
            while sum(told(url)["answered"].values()) < kill_at and process.poll() is None:
                time.sleep(0.05)
            process.send_signal(signal.SIGKILL)
            process.wait()
            return None
        for line in process.stdout:
            if line.startswith("took"):
                took, cpu, usd = map(float, line.split()[1:])
                process.wait()
                return took, cpu, usd
    raise SystemExit(log.read_text()[-2000:])


def compare(name: str, python: str, code: str, n: int, concurrency: int) -> dict[str, Any]:
    """Print throughput, the same with faults, and what is asked after a kill; return it."""
    ideal = math.ceil(n / concurrency) * DELAY_S
    with server() as url, tempfile.TemporaryDirectory() as folder:
        result = run(python, code, url, folder, n, concurrency)
        assert result is not None
        took, cpu, _ = result
        found: dict[str, Any] = {"wall_s": took, "ideal_s": ideal, "cpu_s": cpu}
        print(f"{name} {n} requests, {concurrency} at once: {took:.2f} s, ideal {ideal:.2f} s, "
              f"{ideal / took:.1%} of ideal, {cpu:.1f} s CPU, load {os.getloadavg()[0]:.1f}",
              flush=True)  # fmt: skip
    with server(0.1) as url, tempfile.TemporaryDirectory() as folder:
        result = run(python, code, url, folder, n, concurrency)
        assert result is not None
        took, _, usd = result
        seen = told(url)
        answered = seen["answered"].values()
        print(f"{name} with 10% faults: {took:.2f} s, {sum(seen['tries'].values())} tries, "
              f"{n - len(answered)} lost, {sum(answered) - n} answered twice, "
              f"${usd:.5f} settled for ${n * 25e-6:.5f} of whole answers", flush=True)  # fmt: skip
        found["faults"] = {"wall_s": took, "tries": sum(seen["tries"].values()), "usd": usd}
        found["faults"] |= {"lost": n - len(answered), "answered_twice": sum(answered) - n}
    with server() as url, tempfile.TemporaryDirectory() as folder:
        run(python, code, url, folder, n, concurrency, kill_at=n // 2)
        before = told(url)
        run(python, code, url, folder, n, concurrency)
        after = told(url)
        n_before, n_after = sum(before["tries"].values()), sum(after["tries"].values())
        print(f"{name} killed after {sum(before['answered'].values())} answers ({n_before} asked): "
              f"asked for {n_after - n_before} more; {n_after - n} questions twice",
              flush=True)  # fmt: skip
        found["killed"] = {"asked_before": n_before, "asked_twice": n_after - n}
    return found


def share(n: int, concurrency: int, n_endpoints: int) -> None:
    """Print the pace with one endpoint, two, … `n_endpoints`, and with one killed on the way."""
    ideal = math.ceil(n / concurrency) * DELAY_S
    for kills in (False, True):
        for n_urls in range(1 + kills, n_endpoints + 1):
            with ExitStack() as stack, tempfile.TemporaryDirectory() as folder:
                urls, processes = zip(
                    *(stack.enter_context(serving()) for _ in range(n_urls)), strict=True
                )
                if kills:
                    when = ideal / n_urls / 2
                    killer = Timer(when, processes[0].kill)
                    stack.callback(killer.join)
                    killer.start()
                result = run(sys.executable, OURS, " ".join(urls), folder, n, concurrency)
                assert result is not None
                print(f"{n_urls} endpoints, {concurrency} at once each"
                      f"{f', one killed after {when:.1f} s' if kills else ''}: {result[0]:.2f} s, "
                      f"ideal {ideal / n_urls:.2f} s, load {os.getloadavg()[0]:.1f}",
                      flush=True)  # fmt: skip


def main() -> None:
    """Compare."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--n", type=int, default=1000)
    parser.add_argument("--concurrency", type=int, nargs="*", default=[16])
    parser.add_argument("--curator", help="Python of an environment with bespokelabs-curator")
    parser.add_argument("--endpoints", type=int, help="compare so many with one")
    parser.add_argument("--keep", action="store_true", help="write benchmarks/results")
    asked = parser.parse_args()
    if asked.endpoints:
        share(asked.n, asked.concurrency[0], asked.endpoints)
        return
    found: dict[str, Any] = {"n": asked.n, "delay_s": DELAY_S}
    for concurrency in asked.concurrency:
        found[f"stratos, {concurrency}"] = compare(
            "stratos", sys.executable, OURS, asked.n, concurrency
        )
        if asked.curator:
            found[f"curator, {concurrency}"] = compare(
                "curator", asked.curator, CURATOR, asked.n, concurrency
            )
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    print(f"{usage.ru_maxrss / 1024:.0f} MiB at most in one process")
    if asked.keep:
        sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
        from record import keep

        keep("teachers/throughput", found)


if __name__ == "__main__":
    main()
