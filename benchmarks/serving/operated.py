"""Requests that are lost while a hosted student is replaced, or its engine is killed; its cost.

    python benchmarks/serving/operated.py outputs/<run> outputs/<another> --keep

Both runs have one task. Requests come at a fixed rate through an nginx of `stratos door`, each over
a connection of its own, and none is sent again by its client.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import psutil
import record

from stratos.deploy.hosted_server import Hosted
from stratos.deploy.server import free_port

EXAMPLE = "Where is my parcel?"
IDLE_S = 60.0


def stratos(*words: str) -> str:
    """Type a command; return what it prints."""
    command = [sys.executable, "-m", "stratos", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    if done.returncode:
        raise SystemExit(f"{' '.join(words)}: {done.stderr or done.stdout}")
    return done.stdout


def one_request(url: str, key: str) -> tuple[str, float]:
    """Return status and seconds of a request; in place of a status, why nothing whole came."""
    began = time.perf_counter()
    body = {"model": "measured", "messages": [{"role": "user", "content": EXAMPLE}]}
    head = {"Authorization": f"Bearer {key}"}
    try:
        with httpx.Client(trust_env=False, timeout=120) as client:
            answer = client.post(f"{url}/v1/chat/completions", json=body, headers=head)
            status = str(answer.status_code)
            if status == "200" and not answer.json()["choices"][0]["message"]["content"]:
                status = "empty"
    except (httpx.HTTPError, ValueError, LookupError) as error:
        status = type(error).__name__
    return status, time.perf_counter() - began


def under_load(url: str, key: str, n: int, rate: float, events: dict[int, Any]) -> dict[str, Any]:
    """Send `n` requests at `rate` a second, with an event before some; return what was lost."""
    answers = []
    with ThreadPoolExecutor(256) as pool:
        began, threads = time.monotonic(), []
        for k in range(n):
            time.sleep(max(0.0, began + k / rate - time.monotonic()))
            if k in events:
                threads.append(threading.Thread(target=events[k]))
                threads[-1].start()
            answers.append(pool.submit(one_request, url, key))
        found = [answer.result() for answer in answers]
        for thread in threads:
            thread.join()
    times = sorted(seconds for _, seconds in found)
    statuses = [status for status, _ in found]
    return {
        "requests": n, "per_s": rate, "events": len(events),
        "lost": sum(status != "200" for status in statuses),
        "statuses": {status: statuses.count(status) for status in sorted(set(statuses))},
        "p50_ms": round(1000 * times[n // 2], 1), "p95_ms": round(1000 * times[int(0.95 * n)], 1),
        "longest_s": round(times[-1], 2),
    }  # fmt: skip


def cpu_s(pid: int) -> float:
    """Return the seconds of a core that a process has taken."""
    times = psutil.Process(pid).cpu_times()
    return times.user + times.system


def idle_share(pid: int) -> float:
    """Return the share of a core that a process takes while nobody asks."""
    before = cpu_s(pid)
    time.sleep(IDLE_S)
    return round((cpu_s(pid) - before) / IDLE_S, 5)


def alone_ms(url: str, key: str, n: int = 200) -> float:
    """Return the median milliseconds of an answer with the start of its client, one by one."""
    times = sorted(one_request(url, key)[1] for _ in range(n))
    return round(1000 * times[n // 2], 2)


def measured(old: Path, new: Path, state: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Return what is lost behind a door, of a student that is hosted."""
    port = free_port()
    said = stratos("door", str(old), "--listen", f"127.0.0.1:{port}")
    nginx = re.findall(r"start:  (.*)", said)[0]
    keys = state.with_suffix(".door") / "keys"
    url, key = f"http://127.0.0.1:{port}", keys.read_text().split()[1]

    def hosted() -> Hosted:
        found = Hosted.read(state)
        assert found is not None and found.supervisor is not None
        return found

    def replace(run: Path) -> Any:
        return lambda: stratos("serve", str(run), "--replace", "measured", "--force")

    def kill() -> None:
        os.kill(hosted().server_pid, signal.SIGKILL)

    subprocess.run(nginx, shell=True, check=True)
    try:
        one_request(url, key)
        n, rate = options.requests, options.rate
        first = hosted()
        assert first.supervisor is not None
        engine = f"http://127.0.0.1:{first.engine_port}"
        result: dict[str, Any] = {
            "alone_ms": {
                "engine": alone_ms(engine, ""),
                "address": alone_ms(first.url, ""),
                "door": alone_ms(url, key),
            }
        }
        before = cpu_s(first.supervisor.pid), cpu_s(first.server_pid)
        result["plain"] = under_load(url, key, n, rate, {})
        after = cpu_s(first.supervisor.pid), cpu_s(first.server_pid)
        result["cpu_ms"] = {
            name: round(1000 * (b - a) / n, 2)
            for name, a, b in zip(("proxy", "engine"), before, after, strict=True)
        }
        result["swap"] = under_load(url, key, n, rate, {n // 10: replace(new)})
        result["back"] = under_load(url, key, n, rate, {n // 10: replace(old)})
        result["kills"] = under_load(url, key, n, rate, {n // 5: kill, 3 * n // 5: kill})
        result["idle_cores"] = idle_share(first.supervisor.pid)
        result["load_average"] = round(os.getloadavg()[0], 1)
        return result
    finally:
        subprocess.run(f"{nginx} -s quit", shell=True, check=False)


def main() -> None:
    """Host the first run, and measure."""
    parser = record.arguments(__doc__)
    parser.add_argument("old", type=Path)
    parser.add_argument("new", type=Path)
    parser.add_argument("--requests", type=int, default=600)
    parser.add_argument("--rate", type=float, default=10.0, help="requests a second")
    options = parser.parse_args()
    stratos("serve", str(options.old), "--name", "measured")
    try:
        (facts,) = map(json.loads, stratos("serve", "status", "measured", "--json").splitlines())
        state = Path(facts["log"]).with_suffix(".json")
        result = {"engine": facts["engine"], **measured(options.old, options.new, state, options)}
    finally:
        stratos("serve", "stop", "measured")
    record.finish("serving/operated", result, options)


if __name__ == "__main__":
    main()
