"""The estimate of each engine and format on this machine, beside what its server shows.

    python benchmarks/serving/estimate.py --shapes 300k 1m 2m --rounds 2 --keep
    python benchmarks/serving/estimate.py --shapes 1m --rates 5 10 20 --rounds 3 --keep

For each student, engine and format: milliseconds of an answer alone, requests per second with all
slots busy (closed loop), and the 95th percentile with random arrivals (open loop, Poisson) at 70%
of these. Predicted is that at 70% of the requests per second predicted, as a plan has it. The
estimate knows of this machine what `calibrate` measures just before and after, and of load tests
nothing. Its rates of llama.cpp are those of shapes from 300k to 28m, and what a block takes the
host of transformers that of 300k and 1m; the shape 2m took no part in either.

`--rates` takes the engine of the hosted student alone, and the 95th percentile at given requests
per second.

Other work counts: the load average, and the gaps between requests as sent, stand with each row.
"""

from __future__ import annotations

import os
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from statistics import fmean

sys.path.insert(0, str(Path(__file__).parents[1]))

import record
from engines import FORMATS, SHAPE_TOKENS, Chats, Row, Shape, untrained

from stratos.catalog.offers import local_offer
from stratos.config import StudentConfig
from stratos.deploy.bundle_server import serving_bundle
from stratos.deploy.engines.gguf_file import cannot_export, export
from stratos.deploy.load_test import LoadTest, load_test, open_loop
from stratos.estimate.cards import Workload, card_of_student
from stratos.estimate.fleet import Calibration, measure
from stratos.estimate.serving import foresee
from stratos.records import ModelCard, ServingSetting
from stratos.tasks.mahjong import MahjongTask

SHAPES = {
    "300k": Shape(64, 256, 4, 4),
    "1m": Shape(128, 384, 4, 4),
    "2m": Shape(160, 512, 5, 5),
}
ALONE, ROUNDS = 8, 8
"""Questions one at a time, and rounds of all slots."""
LOAD = 0.7
"""Share of the measured requests per second that the open loop asks."""
HOSTED = ServingSetting("direct", 8)
"""How the plan of `+task=mahjong` serves."""
OPEN_S, MOST_REQUESTS = 45.0, 300
"""Seconds and requests of an open loop, at most."""


def between(before: Calibration, after: Calibration) -> Calibration:
    """Return the machine between two measurements: other work takes of its speed, too."""
    names = ("gemm_flops", "bytes_per_s", "operation_s")
    means = {name: fmean((getattr(before, name), getattr(after, name))) for name in names}
    return replace(before, **means)


def measured(name: str, bundle: Path, chats: Chats) -> list[Row]:
    """Return a row for each engine and format of a bundle."""
    card = card_of_student(StudentConfig(name=name, path=str(bundle)), MahjongTask())
    forms = [form for form in FORMATS if cannot_export(bundle, form) is None]
    export(bundle, forms, chats[:32])
    settings = [ServingSetting("transformers"), ServingSetting("transformers-batching", 4), HOSTED]
    settings += [ServingSetting("llamacpp", 8, format=form) for form in forms]
    return [
        {"student": name, "n_params": card.n_params, **one_case(bundle, card, setting, chats)}
        for setting in settings
    ]


def one_case(bundle: Path, card: ModelCard, setting: ServingSetting, chats: Chats) -> Row:
    """Serve a bundle by one engine; return what it showed, and what was expected."""
    before = measure()
    with serving_bundle(bundle, setting, bundle / "server.log") as server:

        def closed(n: int, concurrency: int) -> LoadTest:
            questions = [chats[i % len(chats)] for i in range(n)]
            return load_test(
                server, questions, max_tokens=SHAPE_TOKENS, concurrency=concurrency,
                tick=lambda done, total: None,
            )  # fmt: skip

        alone = closed(ALONE, 1)
        busy = alone if setting.slots == 1 else closed(ROUNDS * setting.slots, setting.slots)
        rate = LOAD * busy.requests_per_s
        under = open_loop(
            server, chats, requests_per_s=rate, max_tokens=SHAPE_TOKENS, seed=0,
            n_requests=max(30, min(MOST_REQUESTS, round(rate * OPEN_S))),
            tick=lambda done, total: None,
        )  # fmt: skip
    work = Workload(
        fmean(answer.prompt_tokens for answer in under.answers),
        fmean(answer.output_tokens for answer in under.answers),
    )
    expected = foresee(card, local_offer(), work, setting, between(before, measure()))
    p95 = expected.p95_ms(LOAD * expected.requests_per_s.mean)
    return {
        "engine": setting.engine,
        "format": setting.format,
        "at_once": setting.slots,
        "answer_ms": round(1000 * alone.mean_seconds, 2),
        "answer_ms_predicted": round(expected.answer_ms.mean, 2),
        "requests_per_s": round(busy.requests_per_s, 3),
        "requests_per_s_predicted": round(expected.requests_per_s.mean, 3),
        "p95_ms": round(under.latency_ms(0.95), 1),
        "p95_ms_predicted": None if p95 is None else round(p95.mean, 1),
        "kept_up": under.kept_up,
        "gap_variation": round(under.gap_variation, 3),
        "latest_ms": round(under.latest_ms, 1),
        "load_average": round(os.getloadavg()[0], 1),
    }


def at_rates(name: str, bundle: Path, chats: Chats, rates: list[float]) -> list[Row]:
    """Return a row for each rate of requests to a hosted student."""
    card = card_of_student(StudentConfig(name=name, path=str(bundle)), MahjongTask())
    before = measure()
    with serving_bundle(bundle, HOSTED, bundle / "server.log") as server:
        tests = [
            open_loop(
                server, chats, requests_per_s=rate, max_tokens=SHAPE_TOKENS, seed=0,
                n_requests=MOST_REQUESTS, slots=HOSTED.slots, tick=lambda done, total: None,
            )
            for rate in rates
        ]  # fmt: skip
    machine = between(before, measure())
    rows: list[Row] = []
    for rate, under in zip(rates, tests, strict=True):
        work = Workload(fmean(answer.prompt_tokens for answer in under.answers), SHAPE_TOKENS)
        p95 = foresee(card, local_offer(), work, HOSTED, machine).p95_ms(rate)
        assert p95 is not None, "each rate is below what the server answers"
        rows.append(
            {
                "student": name,
                "engine": HOSTED.engine,
                "requests_per_s": rate,
                "p95_ms": round(under.latency_ms(0.95), 1),
                "p95_ms_predicted": round(p95.mean, 1),
                "ratio": round(under.latency_ms(0.95) / p95.mean, 2),
                "gap_variation": round(under.gap_variation, 3),
                "latest_ms": round(under.latest_ms, 1),
                "load_average": round(os.getloadavg()[0], 1),
            }
        )
    return rows


def main() -> None:
    """Measure a row for each engine and format, or for each rate."""
    parser = record.arguments(__doc__)
    parser.add_argument("--shapes", nargs="*", default=["300k", "1m", "2m"], choices=SHAPES)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--rates", nargs="*", type=float, default=[])
    options = parser.parse_args()
    rows: list[Row] = []
    for _ in range(options.rounds):
        for name in options.shapes:
            with tempfile.TemporaryDirectory() as work:
                bundle, chats = untrained(Path(work) / name, 128, SHAPES[name])
                shape = f"shape {name}"
                if options.rates:
                    rows += at_rates(shape, bundle, chats, options.rates)
                else:
                    rows += measured(shape, bundle, chats)
    record.finish(f"serving/{'hosted' if options.rates else 'estimate'}", rows, options)


if __name__ == "__main__":
    main()
