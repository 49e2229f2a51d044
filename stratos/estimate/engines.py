"""Serving engines (vLLM, transformers) and their host overhead.

The estimate, the plan, the service file and the load test speak of the same engine: `engines_on`
is the one place that says which ones a server may run.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from stratos.estimate import constants as k
from stratos.estimate.fleet import Bools, Fleet
from stratos.records import ModelCard


@dataclass(frozen=True)
class ServingEngine:
    """A program that answers requests with one model.

    What its host does is counted in blocks: the seconds that Python takes to issue one transformer
    block (`Device.decode_floor_s`), so that a slower host is slower in all of it. A step of n
    sequences takes the host

        block · L + step + n · (sequence + row · L)      blocks, of a model with L
    """

    name: str
    slots: tuple[int, ...]
    """Answers at once that it is considered at; (1,) answers one after another."""
    utilisations: tuple[float, ...]
    """Shares of its capacity that it is planned at."""
    all_devices: bool
    """Whether one command fills all GPUs of a server, by tensor and data parallelism."""
    request_s: float | None
    """Seconds of a request beside the model: HTTP, chat template, tokenizer; None for those that
    the engines of the fitted rows took."""
    block: float
    step: float
    sequence: float = 0.0
    row: float = 0.0

    def host_blocks(self, n_layers: int, batch: float) -> float:
        """Return what a step of a batch takes the host, in blocks."""
        of_model = self.block * n_layers + self.step
        return of_model + batch * (self.sequence + self.row * n_layers)


TRANSFORMERS = ServingEngine(
    name="transformers",
    slots=(1,),
    utilisations=(0.1, 0.3, 0.5, k.UTILISATION, 0.8),
    all_devices=False,
    request_s=k.REQUEST_S,
    block=1.0,
    step=1.0,
)
"""`transformers serve`: one thread, one `generate` after another. A second request waits."""

TRANSFORMERS_BATCHING = ServingEngine(
    name="transformers-batching",
    slots=(4, 16),
    utilisations=(k.UTILISATION,),
    all_devices=False,
    request_s=k.REQUEST_S,
    block=1.2,
    step=1.5,
    sequence=0.3,
    row=0.2,
)
"""`transformers serve --continuous-batching` on a CPU: answers are those of the above to the token,
an answer alone takes it 1.4 times as long (benchmarks/serving)."""

VLLM = ServingEngine(
    name="vllm",
    slots=(1, 4, 16, 64, 256),
    utilisations=(k.UTILISATION,),
    all_devices=True,
    request_s=None,
    block=0.0,
    step=3.6,
)
"""vLLM: continuous batching, steps that are compiled and captured in graphs. Beside the model a
step takes 2.5 ms of the host (scheduler, sampler, detokenizer): 2.7 ms a token of a model that
needs none, one at a time on one EPYC core; before version 0.6 it was 8 ms of a Llama 3 8B's 13 on
an H100 (vLLM blog, 2024-09-05)."""

LLAMA_CPP = ServingEngine(
    name="llamacpp",
    slots=(8,),
    utilisations=(k.UTILISATION,),
    all_devices=False,
    request_s=0.003,
    block=0.1,
    step=0.1,
)
"""llama.cpp on a CPU: its host is compiled code, and its front takes 2 to 3 ms a request
(benchmarks/engines.py)."""

GENERATE = ServingEngine(
    name="generate",
    slots=(1,),
    utilisations=(1.0,),
    all_devices=True,
    request_s=0.0,
    block=1.0,
    step=1.0,
)
"""`generate` of transformers on a whole batch, as local teachers answer: no server."""

ENGINES = {engine.name: engine for engine in (TRANSFORMERS, TRANSFORMERS_BATCHING, VLLM, LLAMA_CPP)}
"""Those that serve, by name."""

VLLM_LEAST_HEAD, VLLM_MOST_HEAD = 32, 256
"""Widths of an attention head that vLLM has kernels for on every GPU that it runs on, where they
are multiples of 8 (its Triton and flash attention backends)."""

NO_VLLM = ("M60", "P4", "P100", "MI25", "MI300X", "MI325X", "MI355X")
"""GPUs that vLLM's wheel does not run on: older than CUDA's compute capability 7.0, or AMD's."""


def vllm_serves(card: ModelCard) -> bool:
    """Return whether vLLM has kernels for the model's attention heads."""
    head = card.head_size or card.hidden_size // card.n_heads
    return head % 8 == 0 and VLLM_LEAST_HEAD <= head <= VLLM_MOST_HEAD


def engines_on(card: ModelCard, fleet: Fleet) -> Iterator[tuple[ServingEngine, Bools]]:
    """Yield each engine that serves a model, with the servers of a fleet that it runs on.

    A GPU runs vLLM where vLLM knows GPU and model, else `transformers serve`; a CPU runs the
    latter, one after another or in batches.
    """
    vllm = fleet.is_gpu & ~np.isin(fleet.name, NO_VLLM) & vllm_serves(card)
    yield VLLM, vllm
    yield TRANSFORMERS, ~vllm
    yield TRANSFORMERS_BATCHING, ~fleet.is_gpu
