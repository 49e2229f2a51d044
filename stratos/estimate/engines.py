"""Which engine serves a model in which format, and on which servers of a fleet.

What an engine costs and runs on is said by its class (`deploy.engines`); the estimate, the plan,
the service file and the load test speak of the same one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from stratos.deploy.engines.base import Engine
from stratos.deploy.engines.cost import ServingCost, WeightFormat
from stratos.deploy.engines.hugging_face import Transformers, TransformersBatching
from stratos.deploy.engines.vllm import Vllm
from stratos.estimate.fleet import Bools, Fleet
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
