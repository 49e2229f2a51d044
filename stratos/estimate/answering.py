"""Answer latency of a model on a server, with its range.

    answer       = first token + answer tokens · output token
    first token  = request + prefill + half a step, the one that runs when it comes (batch > 1)
    output token = step + (b - 1) · prefill / answer tokens
    step         = max( decode(b, prompt + answer/2), host(b) )       their sum on a CPU

A server in steady state at batch b admits a prompt whenever an answer ends, so that every answer
waits for the prefills of b - 1 others during its life. A batch job fills and empties its batch at
once: b prefills, then the steps. `Runner.cost` says what the host takes for a step.

Where the host decides (`transformers` issues kernels from Python) the range is that of hosts, else
that of the roofline's fit. On a CPU server the latency that a card's runs measured at batch 1
scales the arithmetic: by what it is over that of the same answer on the machine that measured it.
So longer answers and slower servers take longer. A load test on this very machine speaks before
them.

Which engine serves a model in which format, and on which servers of a fleet.

What an engine costs and runs on is said by its class (`deploy.engines`); the estimate, the plan,
the service file and the load test speak of the same one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stratos.catalog.table import Bools, Ints
from stratos.core.formats import counted
from stratos.deploy.engines.base import Engine, compiled_kinds
from stratos.deploy.engines.cost import OWN_WEIGHTS, ServingCost, WeightFormat
from stratos.deploy.engines.hugging_face import Transformers, TransformersBatching
from stratos.deploy.engines.vllm import Vllm
from stratos.estimate import constants as k
from stratos.estimate.cards import Workload, forward_flops_per_token, parts, serving_bytes
from stratos.estimate.fitted import fitted
from stratos.estimate.fleet import Device, Fleet, Ranges, ranged, recorded_machine, source_of
from stratos.estimate.roofline import DecodeLine, Number, ServeSetup, decode_line, prefill_seconds
from stratos.records import ModelCard

GENERATE = "generate"
"""`generate` of transformers on a whole batch, as local teachers answer: no server."""
GENERATE_COST = ServingCost(
    slots=(1,), utilisations=(1.0,), all_devices=True, request_s=0.0, block=1.0, step=1.0
)


@dataclass(frozen=True)
class EngineChoice:
    """An engine that a plan may take."""

    engine: Engine
    formats: tuple[WeightFormat, ...] = ()
    """Formats that it may serve; none for all of its own."""
    slots: tuple[int, ...] = ()
    """Answers at once that it may give; none for those it is considered at."""


USUAL = tuple(map(EngineChoice, (Vllm(), Transformers(), TransformersBatching())))
"""Engines of a plan that is not to choose: vLLM where it knows GPU and model, else `transformers
serve`, on a CPU one after another or in batches."""


@dataclass(frozen=True)
class Runner:
    """An engine with a format, and the servers of a fleet that it runs on."""

    kind: str
    """Of the engine."""
    cost: ServingCost
    format: WeightFormat
    runs: Bools


def runners(
    card: ModelCard, fleet: Fleet, choices: Sequence[EngineChoice] | None = None
) -> Iterator[Runner]:
    """Yield each engine and format that serve a model, with the servers that they run on.

    Args:
        card: the student.
        fleet: the servers.
        choices: engines that are asked for; None takes the usual ones.
    """
    choices = USUAL if choices is None else choices
    runs = [_runs_on(choice.engine, card, fleet) for choice in choices]
    by_others = np.zeros(len(fleet), bool)
    for choice, servers in zip(choices, runs, strict=True):
        if not choice.engine.is_fallback:
            by_others |= servers & fleet.is_gpu
    for choice, servers in zip(choices, runs, strict=True):
        engine = choice.engine
        cost = replace(engine.cost, slots=choice.slots) if choice.slots else engine.cost
        served_on = servers & ~by_others if engine.is_fallback else servers
        for form in engine.weight_formats:
            if form.holds(card) and (not choice.formats or form in choice.formats):
                yield Runner(engine.kind, cost, form, served_on)


def _runs_on(engine: Engine, card: ModelCard, fleet: Fleet) -> Bools:
    """Return the servers that an engine serves a model on."""
    if engine.cannot_serve(card) is not None:
        return np.zeros(len(fleet), bool)
    unsupported = np.isin(fleet.name, engine.unsupported_gpus)
    on_gpu = fleet.is_gpu & ~unsupported & (engine.devices != "cpu")
    on_cpu = ~fleet.is_gpu & (engine.devices != "gpu")
    return np.asarray(on_gpu | on_cpu)


@dataclass(frozen=True, eq=False)
class AnswerTime:
    """Seconds of one answer at a batch."""

    first_token: Number
    output_token: Number
    launches: Any
    """Whether the host decides, which issues a step, and not what it computes."""
    hidden: Number
    """Seconds of the host in an output token that are hidden behind the device."""
    request: Number
    """Seconds of the first token beside the model that are those of the measured servers and load
    generators; 0 where the engine has its own."""

    def seconds(self, answer_tokens: float) -> Number:
        """Return the seconds of a whole answer."""
        return self.first_token + answer_tokens * self.output_token

    def take(self, index: Ints | Bools) -> AnswerTime:
        """Return the answers of some servers."""
        return AnswerTime(*(getattr(self, f.name)[index] for f in fields(self)))

    def where(self, chosen: Bools, alternative: AnswerTime) -> AnswerTime:
        """Return these answers where `chosen`, those of `alternative` elsewhere."""
        pairs = ((getattr(self, f.name), getattr(alternative, f.name)) for f in fields(self))
        return AnswerTime(*(np.where(chosen, mine, two) for mine, two in pairs))


def fits(
    card: ModelCard,
    fleet: Fleet,
    context: float,
    batch: Number,
    tensor_parallel: int,
    form: WeightFormat = OWN_WEIGHTS,
) -> Bools:
    """Return where a group of devices holds model and cache."""
    needed_bytes = serving_bytes(
        card,
        context,
        batch,
        tensor_parallel,
        weight_bytes=form.weight_bytes,
        cache_bytes=form.cache_bytes,
    )
    return needed_bytes <= fleet.memory_bytes


def all_degrees(card: ModelCard, fleet: Fleet) -> Iterator[int]:
    """Yield the degrees of tensor parallelism that the model and some server allow."""
    g = 1
    while g <= fleet.count.max(initial=0) and card.n_heads % g == 0:
        yield g
        g *= 2


@dataclass(frozen=True, eq=False)
class Step:
    """A step of a batch: its seconds, whether the host decides, and what of the host is hidden."""

    seconds: Number
    launches: Any
    hidden: Number


@dataclass(frozen=True)
class Pace:
    """A work on a group of devices, at any batch."""

    work: Workload
    prefill: Number
    decode: DecodeLine
    """Of an answer alone, and `decode_together` of several, where that is another."""
    cost: ServingCost
    n_layers: int
    request_s: float
    """Seconds of a request beside the model."""
    block_s: Number
    """Seconds that the host takes for a block."""
    is_gpu: Any
    scale: Number = 1.0
    """Recorded over predicted seconds of an answer alone, on a CPU."""
    decode_together: DecodeLine | None = None

    def steady(self, batch: int) -> AnswerTime:
        """Return what one answer takes on a server in steady state."""
        step = self.step(batch)
        first = self.prefill + (step.seconds / 2 if batch > 1 else 0.0)
        output = step.seconds + (batch - 1) * self.prefill / max(1.0, self.work.answer_tokens)
        if self.cost.is_compiled:  # requests pass through one thread, which may be slower
            answer = self.request_s + first + self.work.answer_tokens * output
            first = first + np.maximum(0.0, batch * self.cost.front_s - answer)
        return self._scaled(first, output, step)

    def together(self, batch: Number) -> AnswerTime:
        """Return what a batch takes whose prompts come and whose answers end together."""
        step = self.step(batch)
        return self._scaled(batch * self.prefill, step.seconds, step)

    def step(self, batch: Number) -> Step:
        """Return what a step of so many sequences takes."""
        alone = self.decode_together is None or (np.ndim(batch) == 0 and batch == 1)
        decode = self.decode if alone or self.decode_together is None else self.decode_together
        step = decode.seconds(batch)
        host = self.block_s * self.cost.host_blocks(self.n_layers, batch)
        # A CPU computes a block while it is issued: one after the other, without a GPU's floors.
        computed = step - decode.floor
        return Step(
            seconds=np.where(self.is_gpu, np.maximum(step, host), host + computed),
            launches=host >= computed,
            hidden=np.where(self.is_gpu, np.minimum(step, host), 0.0),
        )

    def _scaled(self, first: Number, output: Number, step: Step) -> AnswerTime:
        first = self.scale * (self.request_s + first)
        request = self.scale * self.request_s if self.cost.request_s is None else 0.0
        fitted_s = np.broadcast_to(request, np.shape(first))
        return AnswerTime(first, self.scale * output, step.launches, step.hidden, fitted_s)


def pace(
    card: ModelCard,
    device: Device | Fleet,
    work: Workload,
    tensor_parallel: int,
    cost: ServingCost,
    form: WeightFormat = OWN_WEIGHTS,
) -> Pace:
    """Return the pace of a work on `tensor_parallel` of the server's devices."""
    if cost.is_compiled:
        return _compiled_pace(card, device, work, cost, form)
    fit, setup = fitted().inference, ServeSetup(tensor_parallel)
    computed = Pace(
        work=work,
        prefill=prefill_seconds(card, device, setup, work.prompt_tokens, fit),
        decode=decode_line(card, device, setup, work.prompt_tokens + work.answer_tokens / 2, fit),
        cost=cost,
        n_layers=card.n_layers,
        request_s=fit.first_token_s if cost.request_s is None else cost.request_s,
        block_s=device.decode_floor_s,
        is_gpu=device.is_gpu,
    )
    recorded = recorded_over_computed(card, work)
    if not recorded:
        return computed
    own = device.is_gpu | device.load_tested
    return replace(computed, scale=np.where(own, 1.0, median(recorded)))


def _compiled_pace(
    card: ModelCard,
    device: Device | Fleet,
    work: Workload,
    cost: ServingCost,
    form: WeightFormat,
) -> Pace:
    """Return the pace of an engine that computes by code of its own, on a CPU.

        step(b) = host(b) + read + b · (2·N + 4·L·w·context) / (share · P)

    P is the FLOP/s of a prefill by as many threads as serve, `share` that of the format, alone or
    together; `read` are the seconds of the weights that no cache holds: of a step, however many
    sequences are in it.
    """
    small = k.BYTES_PER_PARAM_BUNDLE * card.n_params <= k.ONE_THREAD_BYTES
    cores = np.maximum(1.0, device.vcpus) ** k.CPU_SCALING
    unused = cores if small else 1.0
    flops = device.infer_flops / unused
    server: Any = device
    serving = replace(server, infer_flops=flops, attention_flops=flops)
    fit = fitted().inference
    cached = k.CPU_CACHE_BYTES if cost.cache_bytes is None else cost.cache_bytes
    n_bytes = max(0.0, form.weight_bytes * parts(card).products - cached)
    read = n_bytes * unused / (fit.weights * device.bytes_per_s)
    context = work.prompt_tokens + work.answer_tokens / 2
    block = k.COMPILED_OPERATIONS_PER_LAYER / k.DECODE_OPERATIONS_PER_LAYER
    in_operations = np.logical_and(device.calibrated, np.logical_not(device.load_tested))

    def line(share: float) -> DecodeLine:
        token = forward_flops_per_token(card, context) / (share * flops)
        return DecodeLine(weights=read, products=0.0, floor=0.0, sequence=token)

    return Pace(
        work=work,
        prefill=prefill_seconds(
            card, serving, ServeSetup(), work.prompt_tokens, replace(fit, prefill_floor_s=0.0)
        ),
        decode=line(form.alone),
        cost=cost,
        n_layers=card.n_layers,
        request_s=cost.request_s or 0.0,
        block_s=device.decode_floor_s * np.where(in_operations, block, 1.0),
        is_gpu=device.is_gpu,
        scale=device.compiled_scale,
        decode_together=line(form.batch),
    )


def recorded_over_computed(card: ModelCard, work: Workload) -> tuple[float, ...]:
    """Return what the latency of each of the card's runs is over the arithmetic's, on a CPU.

    The arithmetic is that of the run's own answer, alone, on the machine that runs are recorded on.
    """
    machine = recorded_machine()
    ratios = []
    for run in card.runs:
        if run.ms_per_answer <= 0 or (run.task, run.strategy) != (work.task, work.strategy):
            continue
        answer = Workload(k.STUDENT_PROMPT_TOKENS, max(1.0, run.tokens_per_answer))
        alone = pace(card, machine, answer, 1, Transformers.cost).steady(1)
        ratios.append(run.ms_per_answer / 1000 / float(alone.seconds(answer.answer_tokens)))
    return tuple(ratios)


def answer_ranges(
    card: ModelCard,
    fleet: Fleet,
    work: Workload,
    time: AnswerTime,
    factor: Number,
    engine: str | NDArray[np.str_],
) -> Ranges:
    """Return an answer's seconds times a factor, with their range."""
    mean, spared = factor * time.first_token, factor * time.request
    first = ranged(fleet, "first_token", mean, time.launches, engine, spared=spared)
    tokens = factor * work.answer_tokens
    output, hidden = tokens * time.output_token, tokens * time.hidden
    both = first + ranged(fleet, "output_token", output, time.launches, engine, hidden)
    seconds = factor * time.seconds(work.answer_tokens)
    ranges = replace(both, mean=seconds)
    recorded = recorded_over_computed(card, work)
    if not recorded:
        return ranges
    spread, middle = k.CPU_RECORDED_ERROR, median(recorded)
    low = seconds * min(min(recorded) / middle, 1 / spread)
    high = seconds * max(max(recorded) / middle, spread)
    own = fleet.is_gpu | fleet.load_tested | np.isin(engine, compiled_kinds())
    return ranges.where(own, Ranges(seconds, low, high))


def answer_source(
    card: ModelCard, device: Device, work: Workload, launches: bool, engine: str
) -> str:
    """Return the sentence that says where the range of `answer_ranges` is from."""
    own = device.is_gpu or device.load_tested or engine in compiled_kinds()
    recorded = () if own else recorded_over_computed(card, work)
    if recorded:
        return f"latency of {counted(len(recorded), 'recorded run')}"
    return source_of(device, "output_token", launches, engine)
