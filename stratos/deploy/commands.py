"""The serving command of a bundle, for the engine in the plan."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

from stratos.deploy.engines.base import Engine
from stratos.deploy.engines.hugging_face import Transformers
from stratos.deploy.engines.known import engine_named
from stratos.estimate import constants as k
from stratos.records import ServingSetting

MOST_CONTEXT = 8192
"""Longest context that a server keeps a cache for, where a model allows more."""

ALONE = ServingSetting(Transformers.kind)
"""One request at a time: what every machine can serve."""


def environment_of(bundle: Path) -> dict[str, str]:
    """Return what a bundle's server finds in its environment, on a GPU and on a CPU alike.

    The model is a folder there, so that a look at the hub could only fail, or leak its name.
    """
    found = {"HF_HUB_OFFLINE": "1", "OMP_WAIT_POLICY": "PASSIVE"}
    n_bytes = sum(file.stat().st_size for file in bundle.glob("*.safetensors"))
    if 0 < n_bytes <= k.ONE_THREAD_BYTES:
        found["OMP_NUM_THREADS"] = "1"
    return found


def engine_of(run: ServingSetting | None) -> Engine:
    """Return the engine of a setting; None is one request at a time.

    Raises:
        StratosError: there is no such engine.
    """
    return engine_named((run or ALONE).engine)


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
    context = min(context, MOST_CONTEXT)
    return engine_of(run).arguments(model, host, port, run or ALONE, n_devices, context)


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
    return shlex.join([*engine_of(run).program.split(), *arguments])


def context_of(bundle: Path) -> int:
    """Return the longest context of a bundle's model, by its config."""
    try:
        facts = json.loads((bundle / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return MOST_CONTEXT
    return int(facts.get("max_position_embeddings") or MOST_CONTEXT)
