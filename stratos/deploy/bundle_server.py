"""A bundle's server on this machine: started with its engine, and asked."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from stratos.core.machine import has_gpu
from stratos.deploy.engines.base import Engine, engine_named, facts_in
from stratos.deploy.engines.hugging_face import Transformers
from stratos.deploy.manifest import read_known
from stratos.deploy.server import HOST, ServeError, Server, call, free_port, serving
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
    environment = {"HF_HUB_OFFLINE": "1", "OMP_WAIT_POLICY": "PASSIVE"}
    n_bytes = sum(file.stat().st_size for file in bundle.glob("*.safetensors"))
    if 0 < n_bytes <= k.ONE_THREAD_BYTES:
        environment["OMP_NUM_THREADS"] = "1"
    return environment


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
        except ServeError as error:
            raise ServeError(
                f"The server started, and did not answer its first question ({error}). The end of "
                f"{log_path}:\n{server.last_lines()}"
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
        ServeError: there is no answer.
    """
    request: dict[str, Any] = {"messages": list(messages), "temperature": 0}
    if max_tokens is not None:
        request["max_tokens"] = max_tokens
    try:
        request["model"] = model or facts_of(port, "/v1/models")["data"][0]["id"]
        answer = facts_of(port, "/v1/chat/completions", request)
        return str(answer["choices"][0]["message"]["content"] or "")
    except (KeyError, IndexError, TypeError) as error:
        raise ServeError(f"port {port}: what came is no answer of the chat API") from error


def facts_of(port: int, path: str, body: Any = None) -> Any:
    """Return what a server of this machine says at a path, as JSON.

    Raises:
        ServeError: it says nothing, or no JSON.
    """
    status, text = call(port, path, body)
    with suppress(ValueError):
        if status == 200:
            return json.loads(text)
    raise ServeError(f"{path}: {status} {text[:200].decode(errors='replace')}")


# What a bundle answers in this process, without a server.

MOST_TOKENS = 1024
"""Longest answer of a bundle that says none."""
BATCH = 32

Answering = Callable[[Sequence[list[Message]]], list[str]]
"""Of chats, returns the texts of their answers."""


def longest_answer(bundle: Path) -> int | None:
    """Return the most tokens that a bundle's answers had in the evaluation; None if unsaid."""
    longest = facts_in(bundle, "generation_config.json").get("max_new_tokens")
    return int(longest) if longest else None


def answering(bundle: Path) -> Answering:
    """Load the student of a bundle; return what answers chats as the evaluation did, greedily.

    Raises:
        StratosError: it cannot be loaded.
    """
    from stratos.models.kinds import is_predictor, load_predictor, text_of
    from stratos.models.kinds.base import has_labels

    if is_predictor(bundle) or has_labels(bundle):
        predictor = load_predictor(bundle)
        return lambda chats: [answer.text for answer in predictor.predict([*map(text_of, chats)])]
    import torch

    from stratos.models.decode.batched import complete
    from stratos.models.pretrained import load_model, load_tokenizer

    tokenizer = load_tokenizer(bundle)
    model = load_model(bundle, dtype="auto").to("cuda" if torch.cuda.is_available() else "cpu")
    most = longest_answer(bundle) or MOST_TOKENS

    def answers(chats: Sequence[list[Message]]) -> list[str]:
        completions = complete(model, tokenizer, chats, max_new_tokens=most, batch_size=BATCH)
        return [completion.text for completion in completions]

    return answers
