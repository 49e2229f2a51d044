"""Waits by the formulas of `stratos.estimate.queueing` beside simulations of an engine's steps.

    python benchmarks/estimate/queues.py --keep

The engine batches: prompts are admitted between steps, a step takes the longer the more sequences
it has, and the pass over a prompt gives the first token. It runs at the rate that the plan has for
one server. A plan counts every step as one of a full batch, so that it is to be above the
simulation and not below. The queue itself, request by request, is that of
`tests/estimate/test_queueing.py`.
"""

from __future__ import annotations

import heapq
import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parent))

import record
from measured_rows import card_of, gpu_device

from stratos.deploy.engines.base import Engine
from stratos.deploy.engines.cost import UTILISATION
from stratos.deploy.engines.hugging_face import Transformers, TransformersBatching
from stratos.deploy.engines.vllm import Vllm
from stratos.estimate.answering import Pace, pace
from stratos.estimate.cards import Workload
from stratos.estimate.fleet import Device, device_of
from stratos.estimate.queueing import (
    busy_probability,
    p95_over_service,
    spread,
    wait_of_waiting,
)
from stratos.records import ModelCard, Offer

Floats = NDArray[np.float64]

N_BATCHED = 12_000
STUDENT = ModelCard("student", 869_504, 4, 128, 2, 2, 384, 512, 2048)
WORK = Workload(64, 150)


def lengths(rng: np.random.Generator, n: int) -> Floats:
    """Return random lengths of mean 1, as answers are assumed to vary."""
    drawn: Floats = np.exp(spread() * rng.standard_normal(n) - spread() ** 2 / 2)
    return drawn


def of_tokens(rate: Pace, slots: int, requests_per_s: float) -> tuple[Floats, Floats]:
    """Return seconds to the first token and of the whole answer, by request."""
    rng = np.random.default_rng(slots)
    come = np.cumsum(rng.exponential(1 / requests_per_s, N_BATCHED))
    tokens = np.maximum(1, np.rint(lengths(rng, N_BATCHED) * rate.work.answer_tokens)).astype(int)
    # What a request takes beside the model holds up an engine that is one thread.
    blocking_s = rate.request_s if slots == 1 else 0.0
    beside_s = rate.request_s - blocking_s
    steps = [float(rate.step(n).seconds) for n in range(slots + 1)]
    first, whole = np.empty(N_BATCHED), np.empty(N_BATCHED)
    running: list[tuple[int, int]] = []
    """(step at which it ends, request), the first to end first."""
    now, step, next_one = 0.0, 0, 0
    while next_one < N_BATCHED or running:
        if not running:
            now = max(now, come[next_one])
        admitted = []
        while next_one < N_BATCHED and come[next_one] <= now and len(running) < slots:
            heapq.heappush(running, (step + int(tokens[next_one]), next_one))
            admitted.append(next_one)
            next_one += 1
        now += len(admitted) * (float(rate.prefill) + blocking_s)
        first[admitted] = now - come[admitted] + beside_s
        now += steps[len(running)]
        step += 1
        while running and running[0][0] <= step:
            _, i = heapq.heappop(running)
            whole[i] = now - come[i] + beside_s
    steady = slice(N_BATCHED // 10, None)
    return first[steady], whole[steady]


def cases() -> list[tuple[str, ModelCard, Device, type[Engine], tuple[int, ...]]]:
    """Return the servers that are simulated by the token."""
    cpu = device_of(Offer("c", "r", "cpu", None, 0, 4, 16, 0, 1.0))
    llama = card_of("meta-llama/Llama-3.1-8B-Instruct")
    return [
        ("student, CPU", STUDENT, cpu, Transformers, (1,)),
        ("student, CPU", STUDENT, cpu, TransformersBatching, (4, 16)),
        ("Llama 3.1 8B, H100", llama, gpu_device("h100_sxm", 1), Vllm, (4, 16, 64)),
    ]


def tokens_rows() -> list[dict[str, Any]]:
    """Return a line for each server, number of slots and utilisation: predicted and simulated."""
    rows = []
    for name, card, device, engine, slots_of in cases():
        work = WORK if card is STUDENT else Workload(512, 150)
        speed = pace(card, device, work, 1, engine.cost)
        for slots in slots_of:
            answer = speed.steady(slots)
            seconds = float(answer.seconds(work.answer_tokens))
            for utilisation in (0.3, UTILISATION, 0.85):
                theta = float(wait_of_waiting(slots, utilisation, seconds))
                wait = busy_probability(slots, utilisation) * theta
                p95 = seconds * float(p95_over_service(slots, utilisation, theta / seconds))
                first, whole = of_tokens(speed, slots, utilisation * slots / seconds)
                rows.append(
                    {
                        "server": name,
                        "engine": engine.kind,
                        "slots": slots,
                        "utilisation": utilisation,
                        "mean_first_token_ms": [
                            round(1000 * (float(answer.first_token) + wait), 1),
                            round(1000 * float(first.mean()), 1),
                        ],
                        "p95_ms": [
                            round(1000 * p95, 1),
                            round(1000 * float(np.quantile(whole, 0.95)), 1),
                        ],
                    }
                )
    return rows


def main() -> None:
    """Simulate and print: in each pair the formula is first."""
    options = record.arguments(__doc__).parse_args()
    record.finish("estimate/queues", {"tokens": tokens_rows()}, options, seed=0)


if __name__ == "__main__":
    main()
