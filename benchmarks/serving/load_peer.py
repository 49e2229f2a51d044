"""The load generator of `deploy` beside AIPerf, on the same server with the same questions.

    python -m venv /tmp/aiperf && /tmp/aiperf/bin/pip install aiperf
    python benchmarks/serving/load_peer.py outputs/<run> --aiperf /tmp/aiperf/bin/aiperf --keep

Both send held-out questions of a run to llama.cpp at random moments, at the same mean rate, one
after the other and in turns. What they are compared by: the rate that was reached, the variation of
the gaps between requests as sent (1 for a Poisson process), and p50 and p95 of whole answers.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from itertools import pairwise
from pathlib import Path
from statistics import fmean, pstdev

sys.path.insert(0, str(Path(__file__).parents[1]))

from engine_estimate import prefer
from engines import hosted
from record import keep

from stratos.deploy.engines.gguf_file import export
from stratos.deploy.load_test import open_loop
from stratos.deploy.server import Server
from stratos.evaluate.answer_files import read_answers
from stratos.evaluate.metrics import percentile
from stratos.records import ServingSetting

MAX_TOKENS = 768


def main() -> None:
    """Ask in turns, print a row each, and keep all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--aiperf", type=Path, required=True)
    parser.add_argument("--rate", type=float, default=10.0)
    parser.add_argument("--requests", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--priority", type=int, default=0)
    parser.add_argument("--keep", action="store_true")
    told = parser.parse_args()
    prefer(os.getpid(), told.priority)
    rows = []
    with tempfile.TemporaryDirectory() as work:
        bundle = Path(shutil.copytree(told.run / "bundle", Path(work) / "bundle"))
        chats = [one.messages for one in read_answers(told.run)][: told.requests]
        export(bundle, ["q8_0"], chats[:8])
        with hosted(bundle, ServingSetting("llamacpp", 8, format="q8_0")) as server:
            prefer(server.process.pid, told.priority)
            for seed in range(told.rounds):
                rows.append({"generator": "stratos", **ours(server, chats, told, seed)})
                print(json.dumps(rows[-1]), flush=True)
                rows.append({"generator": "aiperf", **theirs(server, bundle, chats, told, seed)})
                print(json.dumps(rows[-1]), flush=True)
    if told.keep:
        asked = {"rate": told.rate, "requests": told.requests}
        keep("serving/load_peer", {**asked, "rows": rows})


def ours(server: Server, chats: list, told: argparse.Namespace, seed: int) -> dict:
    """Return what the load test of `deploy` finds."""
    found = open_loop(
        server, chats, requests_per_s=told.rate, n_requests=told.requests, max_tokens=MAX_TOKENS,
        seed=seed, tick=lambda done, total: None,
    )  # fmt: skip
    sent = [one.due + one.late for one in found.answers]
    return row(sent, [1000 * one.seconds for one in found.answers], found.n_errors)


def theirs(server: Server, bundle: Path, chats: list, told: argparse.Namespace, seed: int) -> dict:
    """Return what AIPerf finds, from its record of each request."""
    folder = Path(tempfile.mkdtemp(dir=bundle.parent))
    questions = folder / "questions.jsonl"
    questions.write_text(
        "".join(json.dumps({"text": chat[-1]["content"]}) + "\n" for chat in chats)
    )
    command = [
        told.aiperf, "profile", "--model", str(bundle), "--url", server.url,
        "--endpoint-type", "chat", "--input-file", questions,
        "--custom-dataset-type", "single_turn", "--request-rate", told.rate,
        "--arrival-pattern", "poisson", "--request-count", told.requests,
        "--random-seed", seed, "--tokenizer", bundle, "--artifact-dir", folder,
        "--extra-inputs", f"max_tokens:{MAX_TOKENS}", "--extra-inputs", "temperature:0",
        "--ui", "none", "--workers-max", 2,
    ]  # fmt: skip
    environment = {name: v for name, v in os.environ.items() if name != "HF_HUB_OFFLINE"}
    subprocess.run(list(map(str, command)), check=True, env=environment, stdout=subprocess.DEVNULL)
    [path] = folder.rglob("profile_export.jsonl")
    records = [json.loads(line) for line in path.read_text().splitlines()]
    good = [one for one in records if not one.get("error")]
    sent = [one["metadata"]["request_start_ns"] / 1e9 for one in records]
    times = [one["metrics"]["request_latency"]["value"] for one in good]
    return row(sent, times, len(records) - len(good))


def row(sent: list[float], milliseconds: list[float], n_errors: int) -> dict:
    """Return rate and gaps of moments, and quantiles of times."""
    moments = sorted(sent)
    gaps = [b - a for a, b in pairwise(moments)]
    return {
        "sent_per_s": round(len(gaps) / (moments[-1] - moments[0]), 3),
        "gap_variation": round(pstdev(gaps) / fmean(gaps), 3),
        "p50_ms": round(percentile(milliseconds, 0.5), 1),
        "p95_ms": round(percentile(milliseconds, 0.95), 1),
        "errors": n_errors,
        "load_average": round(os.getloadavg()[0], 1),
    }


if __name__ == "__main__":
    main()
