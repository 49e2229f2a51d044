"""The estimate of each engine and format on this machine, beside what its server shows.

    python benchmarks/serving/estimate.py --shapes 300k 1m 2m --runs outputs/<run> --rounds 2 --keep

For each student, engine and format: milliseconds of an answer alone, requests per second with all
slots busy (closed loop), and the 95th percentile with random arrivals (open loop, Poisson) at 70%
of these. Predicted is that at 70% of the requests per second predicted, as a plan has it. The
estimate knows of this machine what `calibrate` measures just before and after, and of load tests
nothing. Its rates of llama.cpp are those of the shapes 300k, 1m, 3m, 7m and 28m, and what a block
takes the host of transformers that of 300k and 1m; the shape 2m took no part in either.

Other work on the machine is kept off as far as Linux allows (`--priority`, as root: the share of
this process group and of the servers'). The load average, and the gaps between requests as sent,
stand with each row.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from statistics import fmean

sys.path.insert(0, str(Path(__file__).parents[1]))

from engines import FORMATS, SHAPE_TOKENS, Shape, hosted, untrained
from record import keep, load

from stratos.catalog.offers import local_offer
from stratos.config import StudentConfig
from stratos.deploy.engines.gguf_file import cannot_export, export
from stratos.deploy.load_test import load_test, open_loop
from stratos.estimate.cards import Workload, card_of_student
from stratos.estimate.fleet import Calibration, measure
from stratos.estimate.serving import foresee
from stratos.evaluate.answer_files import read_answers
from stratos.records import ModelCard, ServingSetting
from stratos.tasks.mahjong import MahjongTask

SHAPES = {
    "300k": Shape(64, 256, 4, 4),
    "1m": Shape(128, 384, 4, 4),
    "2m": Shape(160, 512, 5, 5),
    "3m": Shape(192, 576, 6, 6),
    "7m": Shape(256, 1024, 7, 8),
    "28m": Shape(512, 1536, 9, 8),
}
ALONE, ROUNDS = 8, 8
"""Questions one at a time, and rounds of all slots."""
LOAD = 0.7
"""Share of the measured requests per second that the open loop asks."""
MOST_REQUESTS = 300
"""Of an open loop."""


def main() -> None:
    """Measure, print a row for each engine and format, and keep all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shapes", nargs="*", default=[], choices=SHAPES)
    parser.add_argument("--runs", nargs="*", type=Path, default=[])
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--only", help="engines whose name begins so")
    parser.add_argument("--seconds", type=float, default=45.0, help="of an open loop, at most")
    parser.add_argument("--add", action="store_true", help="to what is kept")
    parser.add_argument("--priority", type=int, default=0, help="such as -10")
    parser.add_argument("--keep", action="store_true")
    told = parser.parse_args()
    prefer(os.getpid(), told.priority)
    rows: list[dict] = []
    for _ in range(told.rounds):
        for name in told.shapes:
            with tempfile.TemporaryDirectory() as work:
                bundle, chats = untrained(Path(work) / name, 128, SHAPES[name])
                rows += measured(f"shape {name}", bundle, chats, told, SHAPE_TOKENS)
        for run in told.runs:
            with tempfile.TemporaryDirectory() as work:
                bundle = Path(shutil.copytree(run / "bundle", Path(work) / "bundle"))
                chats = [one.messages for one in read_answers(run)]
                rows += measured(run.name, bundle, chats, told, 768)
    if told.add:
        rows = [*load("serving/estimate")["result"], *rows]
    if told.keep:
        keep("serving/estimate", rows)


def prefer(pid: int, priority: int) -> None:
    """Set the share of the machine that a process group gets (Linux's autogroup)."""
    if priority:
        Path(f"/proc/{pid}/autogroup").write_text(str(priority))


def between(one: Calibration, other: Calibration) -> Calibration:
    """Return the machine between two measurements: other work takes of its speed, too."""
    names = ("gemm_flops", "bytes_per_s", "operation_s")
    means = {name: fmean((getattr(one, name), getattr(other, name))) for name in names}
    return replace(one, **means)


def measured(
    name: str, bundle: Path, chats: list, told: argparse.Namespace, most: int
) -> list[dict]:
    """Return a row for each engine and format of a bundle."""
    card = card_of_student(StudentConfig(name=name, path=str(bundle)), MahjongTask())
    forms = [form for form in FORMATS if cannot_export(bundle, form) is None]
    export(bundle, forms, chats[:32])
    settings = [ServingSetting("transformers"), ServingSetting("transformers-batching", 4)]
    settings += [ServingSetting("llamacpp", 8, format=form) for form in forms]
    rows = []
    for run in settings:
        if not run.engine.startswith(told.only or ""):
            continue
        row = one_case(bundle, card, run, chats, told, most)
        rows.append({"student": name, "n_params": card.n_params, **row})
        print(json.dumps(rows[-1]), flush=True)
    return rows


def one_case(
    bundle: Path,
    card: ModelCard,
    run: ServingSetting,
    chats: list,
    told: argparse.Namespace,
    most: int,
) -> dict:
    """Serve a bundle by one engine; return what it showed, and what was expected."""
    before = measure()
    with hosted(bundle, run) as server:
        prefer(server.process.pid, told.priority)

        def closed(n: int, at_once: int):
            some = [chats[i % len(chats)] for i in range(n)]
            return load_test(
                server, some, max_tokens=most, concurrency=at_once, tick=lambda done, total: None
            )

        alone = closed(ALONE, 1)
        busy = alone if run.slots == 1 else closed(ROUNDS * run.slots, run.slots)
        rate = LOAD * busy.requests_per_s
        under = open_loop(
            server, chats, requests_per_s=rate, max_tokens=most, seed=0,
            n_requests=max(30, min(MOST_REQUESTS, round(rate * told.seconds))),
            tick=lambda done, total: None,
        )  # fmt: skip
    work = Workload(
        fmean(one.prompt_tokens for one in under.answers),
        fmean(one.output_tokens for one in under.answers),
    )
    machine = between(before, measure())
    expected = foresee(card, local_offer(), work, run, machine)
    p95 = expected.p95_ms(LOAD * expected.requests_per_s.mean)
    return {
        "engine": run.engine,
        "format": run.format,
        "at_once": run.slots,
        "answer_tokens": round(work.answer_tokens, 1),
        "answer_ms": round(1000 * alone.mean_seconds, 2),
        "answer_ms_predicted": round(expected.answer_ms.mean, 2),
        "requests_per_s": round(busy.requests_per_s, 3),
        "requests_per_s_predicted": round(expected.requests_per_s.mean, 3),
        "asked_per_s": round(rate, 3),
        "n_requests": len(under.answers),
        "p95_ms": round(under.latency_ms(0.95), 1),
        "p95_ms_predicted": None if p95 is None else round(p95.mean, 1),
        "kept_up": under.kept_up,
        "gap_variation": round(under.gap_variation, 3),
        "sent_per_s": round(len(under.answers) / under.due_seconds, 3),
        "latest_ms": round(under.latest_ms, 1),
        "gemm_gflops": round(machine.gemm_flops / 1e9, 1),
        "gb_per_s": round(machine.bytes_per_s / 1e9, 2),
        "operation_us": round(1e6 * machine.operation_s, 3),
        "load_average": round(os.getloadavg()[0], 1),
    }


if __name__ == "__main__":
    main()
