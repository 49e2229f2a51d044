"""The serving command of a bundle, for the engine in the plan."""

from __future__ import annotations

import json
import math
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from stratos.estimate.engines import TRANSFORMERS, TRANSFORMERS_BATCHING, VLLM
from stratos.records import ServingSetting

PAGE_TOKENS = 256
"""Tokens of a block of the cache of transformers' continuous batching."""

MOST_CONTEXT = 8192
"""Longest context that a server keeps a cache for, where a model allows more."""

ALONE = ServingSetting(TRANSFORMERS.name)
"""One request at a time, as plans of earlier versions are served."""


@dataclass(frozen=True)
class Launch:
    """How an engine is installed and started."""

    requirement: str
    """What `pip install` takes."""
    program: str
    module: str
    """The program, as for `python -m`."""
    options: Callable[[ServingSetting, int, int], list[str]]
    """From the setting, the GPUs of the server and the context to the options beside address."""
    note: str = ""
    """What its user has to know, as a comment of the service file."""


def _none(run: ServingSetting, n_devices: int, context: int) -> list[str]:
    return []


def _in_pages(run: ServingSetting, n_devices: int, context: int) -> list[str]:
    # One page more for each answer, so that a request that comes finds room before one has ended.
    pages = run.slots * (math.ceil(context / PAGE_TOKENS) + 1)
    return ["--continuous-batching", "--cb-num-blocks", str(pages)]


def _vllm(run: ServingSetting, n_devices: int, context: int) -> list[str]:
    replicas = max(1, n_devices // run.tensor_parallel)
    # Greedy where a request says nothing else: vLLM's own default would draw at temperature 1.
    return [
        "--max-num-seqs",
        str(run.slots),
        "--max-model-len",
        str(context),
        *(["--tensor-parallel-size", str(run.tensor_parallel)] if run.tensor_parallel > 1 else []),
        *(["--data-parallel-size", str(replicas)] if replicas > 1 else []),
        "--override-generation-config",
        json.dumps({"temperature": 0}),
    ]


_TRANSFORMERS = "transformers.cli.transformers"

LAUNCHES = {
    TRANSFORMERS.name: Launch(
        "transformers[serving]>=5.0", "transformers", _TRANSFORMERS, _none,
        "It answers one request after another: a second one waits.",
    ),
    TRANSFORMERS_BATCHING.name: Launch(
        "transformers[serving]>=5.17", "transformers", _TRANSFORMERS, _in_pages,
        "It answers several requests at once; sampling options of the first request hold for all.",
    ),
    VLLM.name: Launch(
        "vllm>=0.11", "vllm", "vllm.entrypoints.cli.main", _vllm,
        "It answers several requests at once.",
    ),
}  # fmt: skip


ONE_THREAD_BYTES = 300_000_000
"""Weights up to which one CPU thread serves: two were 1% slower at 123M parameters and 23% at 0.9M
(`benchmarks/serving/threads.py`), and no larger model was tried. Threads wait for each other at
each of some hundred operations a token."""


def environment_of(bundle: Path) -> dict[str, str]:
    """Return what a bundle's server finds in its environment, on a GPU and on a CPU alike.

    The model is a folder there, so that a look at the hub could only fail, or leak its name.
    """
    found = {"HF_HUB_OFFLINE": "1", "OMP_WAIT_POLICY": "PASSIVE"}
    n_bytes = sum(file.stat().st_size for file in bundle.glob("*.safetensors"))
    if 0 < n_bytes <= ONE_THREAD_BYTES:
        found["OMP_NUM_THREADS"] = "1"
    return found


def launch_of(run: ServingSetting | None) -> Launch:
    """Return how the engine of a setting is started; None is that of earlier plans."""
    return LAUNCHES[(run or ALONE).engine]


def serve_arguments(
    model: str,
    host: str,
    port: int,
    run: ServingSetting | None = None,
    n_devices: int = 1,
    context: int = MOST_CONTEXT,
) -> list[str]:
    """Return the arguments of the engine's program that serve one model.

    Args:
        model: folder.
        host: address that it listens on.
        port: the same.
        run: the engine, and answers at once; None for one request at a time.
        n_devices: GPUs of the server.
        context: tokens of the longest chat with its answer.
    """
    options = launch_of(run).options(run or ALONE, n_devices, min(context, MOST_CONTEXT))
    return ["serve", model, "--host", host, "--port", str(port), *options]


def serve_command(
    model: str,
    host: str = "127.0.0.1",
    port: int = 8000,
    run: ServingSetting | None = None,
    n_devices: int = 1,
    context: int = MOST_CONTEXT,
) -> str:
    """Return the command line that serves one model, as a user types it."""
    arguments = serve_arguments(model, host, port, run, n_devices, context)
    return shlex.join([launch_of(run).program, *arguments])


def context_of(bundle: Path) -> int:
    """Return the longest context of a bundle's model, by its config."""
    try:
        facts = json.loads((bundle / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return MOST_CONTEXT
    return int(facts.get("max_position_embeddings") or MOST_CONTEXT)
