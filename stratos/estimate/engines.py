"""Serving engines (vLLM, transformers, llama.cpp), their formats and their host overhead.

The estimate, the plan, the service file and the load test speak of the same engine: `runners`
is the one place that says which ones a server may run.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from stratos.deploy.engines.gguf_file import BLOCK_WIDTH, K_WIDTH
from stratos.deploy.engines.vllm import no_kernel
from stratos.estimate import constants as k
from stratos.estimate.calibrate import COMPILED
from stratos.estimate.fleet import Bools, Fleet
from stratos.records import ModelCard


@dataclass(frozen=True)
class WeightFormat:
    """How an engine holds the weights, and how fast a CPU multiplies with them."""

    name: str
    """Of the export; "" for the bundle's own weights."""
    weight_bytes: float = k.BYTES_PER_PARAM_INFER
    """Bytes per parameter."""
    cache_bytes: float = k.BYTES_KV
    """Bytes per number of the cache."""
    alone: float = 0.0
    """FLOP/s of one answer alone over those of a prefill; 0 where no CPU was measured."""
    batch: float = 0.0
    """The same of several answers together."""

    def holds(self, card: ModelCard) -> bool:
        """Return whether a model can be exported in it."""
        widths = (card.hidden_size, card.intermediate_size)
        if self.name == "q4_k_m":
            return any(width % K_WIDTH == 0 for width in widths)
        return self.name != "q8_0" or not any(width % BLOCK_WIDTH for width in widths)


OWN_WEIGHTS = WeightFormat("")


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
    formats: tuple[WeightFormat, ...] = (OWN_WEIGHTS,)
    front_s: float = 0.0
    """Seconds of one thread that every request passes."""
    least_context: int = 0
    """Tokens of a slot that it takes the memory of at least, where the model has them."""

    @property
    def is_compiled(self) -> bool:
        """Whether it computes by code of its own, whose rates its formats have."""
        return self.name == COMPILED

    def format(self, name: str) -> WeightFormat:
        """Return one of its formats by name."""
        return next((one for one in self.formats if one.name == name), self.formats[0])

    def slot_context(self, card: ModelCard, context: float) -> float:
        """Return the tokens that it takes the memory of for one answer."""
        return max(context, min(card.context_length, self.least_context))

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
    name=COMPILED,
    slots=(1, 8),
    utilisations=(k.UTILISATION,),
    all_devices=False,
    request_s=0.006,
    block=0.035,
    step=0.0,
    row=0.06,
    front_s=0.002,
    formats=(
        WeightFormat("f32", 4.0, 4.0, alone=0.165, batch=0.154),
        WeightFormat("f16", 2.0, 2.0, alone=0.38, batch=0.216),
        WeightFormat("q8_0", 1.0625, 2.0, alone=0.39, batch=0.322),
        WeightFormat("q4_k_m", 0.61, 2.0, alone=0.495, batch=0.332),
    ),
    least_context=2048,
)
"""llama.cpp on a CPU. Its rates are those of students of 0.3 to 31 million parameters on one EPYC
core whose fp32 product reaches 120 GFLOP/s (benchmarks/engine_estimate.py); one thread answers, and
one more hands requests on."""

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

NO_VLLM = ("M60", "P4", "P100", "MI25", "MI300X", "MI325X", "MI355X")
"""GPUs that vLLM's wheel does not run on: older than CUDA's compute capability 7.0, or AMD's."""


def vllm_serves(card: ModelCard) -> bool:
    """Return whether vLLM has kernels for the model's attention heads."""
    return no_kernel(card.head_size or card.hidden_size // card.n_heads) is None


@dataclass(frozen=True)
class EngineChoice:
    """An engine that a plan may take."""

    engine: str
    """Name, of `ENGINES`."""
    formats: tuple[str, ...] = ()
    """Formats that it may serve; none for all of its own."""
    slots: tuple[int, ...] = ()
    """Answers at once that it may give; none for those it is considered at."""


@dataclass(frozen=True)
class Runner:
    """An engine with a format, and the servers of a fleet that it runs on."""

    engine: ServingEngine
    format: WeightFormat
    runs: Bools


def runners(
    card: ModelCard, fleet: Fleet, choices: Sequence[EngineChoice] | None = None
) -> Iterator[Runner]:
    """Yield each engine and format that serve a model, with the servers that they run on.

    Args:
        card: the student.
        fleet: the servers.
        choices: engines that are asked for. None takes vLLM where it knows GPU and model, else
            `transformers serve`: on a CPU one after another or in batches.
    """
    vllm = fleet.is_gpu & ~np.isin(fleet.name, NO_VLLM) & vllm_serves(card)
    if choices is None:
        yield Runner(VLLM, OWN_WEIGHTS, vllm)
        yield Runner(TRANSFORMERS, OWN_WEIGHTS, ~vllm)
        yield Runner(TRANSFORMERS_BATCHING, OWN_WEIGHTS, ~fleet.is_gpu)
        return
    runs = {
        VLLM.name: vllm,
        TRANSFORMERS.name: ~vllm if VLLM.name in [one.engine for one in choices] else vllm | True,
        TRANSFORMERS_BATCHING.name: ~fleet.is_gpu,
        LLAMA_CPP.name: ~fleet.is_gpu & card.is_gguf,
    }
    for choice in choices:
        engine = ENGINES[choice.engine]
        if choice.slots:
            engine = replace(engine, slots=choice.slots)
        for form in engine.formats:
            if form.holds(card) and (not choice.formats or form.name in choice.formats):
                yield Runner(engine, form, runs[choice.engine])
