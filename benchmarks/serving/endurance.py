"""One hour's equivalent of load on a server of `deploy`: errors, and growth of memory.

    python benchmarks/serving/endurance.py --requests 50000 --keep

The 1M Mahjong student's shape, served by llama.cpp in q8_0, is asked so many questions with eight
in flight, each answered in 40 tokens or fewer. Memory is that of the server's process group,
after each twentieth of the requests; its growth is that of the last over the second, when all
slots have been filled. `--run outputs/<run>` takes the bundle of a run in place of the shape.
"""

from __future__ import annotations

import argparse
import itertools
import os
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil

sys.path.insert(0, str(Path(__file__).parents[1]))

from engines import IN_FLIGHT, asker, hosted, untrained
from record import keep

from stratos.core.machine import group_seconds
from stratos.deploy.engines.gguf_file import export
from stratos.evaluate.answer_files import read_answers
from stratos.evaluate.metrics import percentile
from stratos.records import ServingSetting

N_PARTS = 20


def main() -> None:
    """Ask, and print requests per second, errors and memory after each part."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", type=Path)
    parser.add_argument("--requests", type=int, default=50_000)
    parser.add_argument("--tokens", type=int, default=40)
    parser.add_argument("--format", default="q8_0")
    parser.add_argument("--nice", type=int, default=10)
    parser.add_argument("--keep", action="store_true")
    told = parser.parse_args()
    os.nice(told.nice)
    with tempfile.TemporaryDirectory() as work:
        if told.run is None:
            bundle, chats = untrained(Path(work) / "shape", 512)
        else:
            bundle = told.run / "bundle"
            chats = [one.messages for one in read_answers(told.run)]
        export(bundle, [told.format], chats)
        result = endured(bundle, chats, told)
    print({name: value for name, value in result.items() if name != "parts"})
    if told.keep:
        keep("serving/endurance", result)


def endured(bundle: Path, chats: list, told: argparse.Namespace) -> dict:
    """Return what the server showed."""
    run = ServingSetting("llamacpp", IN_FLIGHT, format=told.format)
    with hosted(bundle, run) as server:
        ask, errors = asker(server, str(bundle), told.tokens), Counter[str]()

        def one(chat: list) -> tuple[float, int]:
            try:
                seconds, _, tokens = ask(chat)
            except Exception as error:  # whatever came is counted
                errors[type(error).__name__] += 1
                return 0.0, 0
            return seconds, tokens

        asked, parts = itertools.cycle(chats), []
        started, cpu = time.perf_counter(), group_seconds(server.process.pid)
        with ThreadPoolExecutor(IN_FLIGHT) as pool:
            for _ in range(N_PARTS):
                begun = time.perf_counter()
                some = list(itertools.islice(asked, told.requests // N_PARTS))
                found = list(pool.map(one, some))
                milliseconds = [1000 * seconds for seconds, _ in found]
                parts.append(
                    {
                        "requests": len(some),
                        "seconds": round(time.perf_counter() - begun, 2),
                        "tokens": sum(tokens for _, tokens in found),
                        "p50_ms": round(percentile(milliseconds, 0.5), 1),
                        "p95_ms": round(percentile(milliseconds, 0.95), 1),
                        "memory_mib": round(memory_mib(server.process.pid), 1),
                        "open_files": psutil.Process(server.process.pid).num_fds(),
                        "log_bytes": (bundle / "server.log").stat().st_size,
                    }
                )
                print(parts[-1], dict(errors), flush=True)
        return {
            "format": told.format,
            "in_flight": IN_FLIGHT,
            "requests": sum(part["requests"] for part in parts),
            "errors": dict(errors),
            "seconds": round(time.perf_counter() - started, 1),
            "cpu_seconds": round(group_seconds(server.process.pid) - cpu, 1),
            "memory_growth": round(parts[-1]["memory_mib"] / parts[1]["memory_mib"] - 1, 4),
            "parts": parts,
        }


def memory_mib(pid: int) -> float:
    """Return the resident memory of a process and its children."""
    process = psutil.Process(pid)
    group = [process, *process.children(recursive=True)]
    return sum(one.memory_info().rss for one in group) / 2**20


if __name__ == "__main__":
    main()
