"""A bundle's server on this machine: started with its engine, and asked."""

from __future__ import annotations

import http.client
import json
import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from stratos.core.machine import has_gpu
from stratos.deploy.engines.base import Engine, facts_in
from stratos.deploy.engines.hugging_face import Transformers
from stratos.deploy.engines.known import engine_named
from stratos.deploy.manifest import read_known
from stratos.deploy.server import HOST, ServeError, Server, free_port, serving
from stratos.estimate import constants as k
from stratos.records import ServingSetting
from stratos.tasks.base import Message

# The serving command of a bundle, for the engine in the plan.

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
    return int(facts_in(bundle, "config.json").get("max_position_embeddings") or MOST_CONTEXT)


QUESTION: list[Message] = [{"role": "user", "content": "Hello"}]
"""What a server is asked where its bundle knows no question."""
_ANSWER_S = 120.0


@contextmanager
def serving_bundle(
    bundle: Path, run: ServingSetting | None, log_path: Path, *, port: int = 0
) -> Iterator[Server]:
    """Serve a bundle on this machine until the block is left.

    It is ready when it has answered a question: an engine may call itself healthy, and end at the
    first one.

    Args:
        bundle: folder of the model.
        run: the engine; None for one request at a time.
        log_path: takes everything that it writes.
        port: where it listens; 0 takes a free one.

    Raises:
        ServeError: the port is taken, or the server ended or was silent; with the end of its log.
    """
    engine, port = engine_of(run), port or free_port()
    with serving(
        arguments_here(bundle, port, run),
        port=port,
        log_path=log_path,
        module=engine.module,
        start_seconds=engine.start_s,
        environment=environment_of(bundle) | engine.environment,
        python=engine.python,
    ) as server:
        known = read_known(bundle)
        try:
            ask(port, known[0].messages if known else QUESTION, 1)
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise ServeError(
                f"The server started, and did not answer its first question "
                f"({str(error) or type(error).__name__}). The end of {log_path}:\n"
                f"{server.last_lines()}"
            ) from error
        yield server


def arguments_here(bundle: Path, port: int, run: ServingSetting | None) -> list[str]:
    """Return the arguments of an engine's program that serve a bundle on this machine."""
    n_devices, context = int(has_gpu()), context_of(bundle)
    return serve_arguments(str(bundle.absolute()), HOST, port, run, n_devices, context)


def ask(
    port: int, messages: Sequence[Message], max_tokens: int | None = None, model: str = ""
) -> str:
    """Return a server's greedy answer.

    Args:
        port: of this machine.
        messages: the question.
        max_tokens: longest answer; None leaves it to the server.
        model: which is asked; "" for the first that it lists.

    Raises:
        OSError: no connection.
        HTTPException: the connection broke.
        ValueError: what came is no answer.
    """
    asked: dict[str, Any] = {"messages": list(messages), "temperature": 0}
    if max_tokens is not None:
        asked["max_tokens"] = max_tokens
    models = _json(port, "GET", "/v1/models", None)
    asked["model"] = model or models["data"][0]["id"]
    answer = _json(port, "POST", "/v1/chat/completions", asked)
    return str(answer["choices"][0]["message"]["content"] or "")


def facts_of(port: int, path: str) -> Any:
    """Return what a server of this machine says at a path.

    Raises:
        OSError: no connection.
        HTTPException: the connection broke.
        ValueError: what came is no JSON.
    """
    return _json(port, "GET", path, None)


def _json(port: int, method: str, path: str, body: Any) -> Any:
    # The connection is made by hand: urllib would ask the proxy of the environment.
    connection = http.client.HTTPConnection(HOST, port, timeout=_ANSWER_S)
    try:
        data = None if body is None else json.dumps(body).encode()
        connection.request(method, path, data, {"Content-Type": "application/json"})
        response = connection.getresponse()
        text = response.read()
        if response.status != 200:
            raise ValueError(f"{path}: {response.status} {text[:200].decode(errors='replace')}")
        found = json.loads(text)
        if not isinstance(found, dict):
            raise ValueError(f"{path}: {text[:200].decode(errors='replace')}")
        return found
    finally:
        connection.close()
