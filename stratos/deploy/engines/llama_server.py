"""Serve a bundle's GGUF file with llama.cpp, behind the bundle's own chat template and tokenizer.

    python -m stratos.deploy.engines.llama_server serve BUNDLE --format q8_0 --port 8000

llama.cpp runs in this process. It is given token ids and gives token ids, so that a chat is cut as
in the evaluation whatever GGUF can express, and an answer is put together as transformers does.

    python -m stratos.deploy.engines.llama_server tokens FILE.gguf < chats.jsonl

prints the ids that llama.cpp itself makes of each chat, by the template and tokenizer in the file.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import secrets
import sys
import threading
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from pathlib import Path
from typing import Any

import anyio
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response

from stratos.core.errors import StratosError
from stratos.deploy.engines.base import export_path
from stratos.deploy.engines.chat_ids import ChatError, ChatIds, first_stop
from stratos.deploy.engines.chat_request import (
    NOT_SERVED,
    AnswerForms,
    ChatRequest,
    longest_answer,
    whole_answer,
)
from stratos.deploy.engines.gguf_file import end_ids, has_byte_pairs
from stratos.deploy.engines.http_api import (
    LEAST_LOGPROB,
    StreamParts,
    api_error,
    handled,
    name_of,
    run,
    streamed,
    usage_of,
    web_application,
)
from stratos.models.pretrained import why_no_gguf

THREADS = "OMP_NUM_THREADS"
"""Variable of the environment with the threads of one answer; `deploy` sets it for small models."""
_LOGS_S = 0.5
"""What the lines of an engine that fails take to be written."""
LEAST_CONTEXT = 2048
"""Tokens of a slot: four of the longest answers, and so many at least, where the model has them.
llama.cpp takes the memory of all slots at its start."""
ERRORS = 1
"""What llama.cpp logs: nothing but errors."""
PLAIN = {"temperature": 0.0, "top_k": 0, "top_p": 1.0, "min_p": 0.0}
"""Greedy where a request says nothing else, as the bundle is; what is drawn is drawn from all."""


def main(argv: Sequence[str] | None = None) -> None:
    """Serve a bundle, or print how llama.cpp itself cuts chats; exit with 1 where that fails."""
    parser = argparse.ArgumentParser(prog="python -m stratos.deploy.engines.llama_server")
    commands = parser.add_subparsers(dest="command", required=True)
    serve = commands.add_parser("serve", help="serve a bundle until the process ends")
    serve.add_argument("bundle", type=Path)
    serve.add_argument("--host", default="127.0.0.1")
    serve.add_argument("--port", type=int, default=8000)
    serve.add_argument("--format", required=True, help="f32, f16, q8_0 or q4_k_m")
    serve.add_argument("--slots", type=int, default=8, help="answers at once")
    serve.add_argument("--context", type=int, default=8192, help="tokens of the longest chat")
    tokens = commands.add_parser("tokens", help="print llama.cpp's ids of chats, as JSON lines")
    tokens.add_argument("file", type=Path)
    args = parser.parse_args(argv)
    try:
        if args.command == "tokens":
            _print_tokens(args.file)
        else:
            _serve(args)
    except StratosError as error:
        time.sleep(_LOGS_S)  # llama.cpp logs from a thread of its own: what counts comes last
        print(error, file=sys.stderr, flush=True)
        sys.exit(1)


def _serve(args: argparse.Namespace) -> None:
    path = export_path(args.bundle, f"{args.format}.gguf")
    context = min(args.context, max(LEAST_CONTEXT, 4 * longest_answer(args.bundle)))
    if not path.is_file():
        raise StratosError(f"{args.bundle} has no {args.format} export for llama.cpp.")
    llama = _llama(path, args.slots, context)
    run(application(args.bundle, llama, args.slots, context), args.host, args.port)


def _llama(
    path: Path, slots: int, context: int, *, own_template: bool = False, key: str = ""
) -> Any:
    """Load a file into llama.cpp.

    It listens at a port of this machine, too, and asks for a key there that nobody has.

    Raises:
        StratosError: llama.cpp refuses the file.
    """
    import xllamacpp

    if reason := why_no_gguf(path):
        raise StratosError(f"llama.cpp cannot load {path} ({reason}).")
    params = xllamacpp.CommonParams()
    params.model.path = str(path)
    params.api_keys = [key or secrets.token_hex()]
    params.ui = False
    params.n_parallel = slots
    # No copies of earlier chats: their number grows with each request, and none comes again.
    params.cache_ram_mib = 0
    params.verbosity = ERRORS  # else eight lines of log a request
    if slots * context >= 2**31:
        raise StratosError(f"llama.cpp cannot answer {slots:,} requests at once: name fewer.")
    params.n_ctx = slots * context
    threads = int(os.environ.get(THREADS) or os.cpu_count() or 1)
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = threads
    # Flash attention rounds otherwise than transformers, and takes a CPU twice as long.
    params.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
    if path.stem == "f32":
        params.cache_type_k = params.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
    if not own_template:  # that of a file without a tokenizer refuses all chats
        params.chat_template, params.use_jinja = "chatml", False
    try:
        return xllamacpp.Server(params)
    except RuntimeError as error:
        raise StratosError(f"llama.cpp cannot load {path} ({error}).") from error


def application(bundle: Path, llama: Any, slots: int, context: int) -> Starlette:
    """Return the web application that answers chats with llama.cpp's answers.

    Args:
        bundle: chat template, tokenizer, and the longest answer.
        llama: llama.cpp's server.
        slots: requests that it answers at once; `MOST_WAITING` more wait.
        context: tokens of the longest chat.
    """
    front = _Front(bundle, llama, slots, context)
    return web_application(front.model, front.chat)


class _Front:
    """The OpenAI API, as far as a narrow model has it."""

    def __init__(self, bundle: Path, llama: Any, slots: int, context: int) -> None:
        self.model = name_of(bundle)
        self._llama, self._slots, self._context = llama, slots, context
        self._chats, self._forms = ChatIds(bundle), AnswerForms(bundle)
        more = ("tools", "response_format") if self._forms.labels else ()
        self._not_served = (*NOT_SERVED, *more)
        self._most_tokens = longest_answer(bundle)
        self._ends, self._has_byte_pairs = end_ids(bundle), has_byte_pairs(bundle)
        self._free_slots: anyio.CapacityLimiter | None = None  # is of the loop that serves

    async def chat(self, http: Request) -> Response:
        """Answer a chat, at once or in parts."""
        if self._free_slots is None:
            self._free_slots = anyio.CapacityLimiter(self._slots)
        return await handled(http, self._free_slots.statistics().tasks_waiting, self._answered)

    async def _answered(self, data: bytes) -> Response:
        try:
            request, llama = await anyio.to_thread.run_sync(self._read, data)
        except (ChatError, ValueError) as error:
            return api_error(400, str(error))
        if request.stream:
            return streamed(self.model, self._parts(request, llama), request.with_usage)
        result = await anyio.to_thread.run_sync(
            self._llama.handle_completions, llama, limiter=self._free_slots
        )
        if "error" in result:
            return _refusal(result)
        return self._whole(request, llama, result["__verbose"])

    def _read(self, data: bytes) -> tuple[ChatRequest, dict[str, Any]]:
        """Return a request, and what llama.cpp is asked for it.

        Raises:
            ValueError, ChatError: it cannot be answered.
        """
        request = ChatRequest.read(data, self._not_served)
        llama = {
            **PLAIN,
            **request.sampling,
            **self._forms.options(request.response_format),
            "n_predict": request.most_tokens or self._most_tokens,
            "prompt": self._chats.ids(request.chat, request.tools or None, self._context),
            "return_tokens": True,
            "verbose": True,  # the tokens are told there
            "stream": bool(request.stream),
            # Of the distribution before sampling options: how likely the model itself finds it.
            **({"n_probs": 1} if request.logprobs else {}),
        }
        return request, llama

    def _whole(
        self, request: ChatRequest, llama: Mapping[str, Any], result: Mapping[str, Any]
    ) -> Response:
        """Return an answer of llama.cpp as the API has it."""
        text = self._chats.text(self._before_end(result["tokens"]))
        logprobs = self._logprobs(result) if request.logprobs else None
        return whole_answer(
            self.model, request, text, _finish(result), _usage(result), logprobs,
            self._forms.fits(text, llama),
        )  # fmt: skip

    def _before_end(self, ids: Sequence[int]) -> Sequence[int]:
        """Return the ids of an answer before the first that ends it: llama.cpp may know fewer."""
        end = next((i for i, token in enumerate(ids) if token in self._ends), len(ids))
        return ids[:end]

    def _logprobs(self, result: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Return llama.cpp's tokens with their log-probabilities as the API has them.

        The token that ends the answer is among them: how sure a short answer is shows there.
        """
        return [
            {
                "token": self._chats.tokenizer.convert_ids_to_tokens(token["id"]) or "",
                "logprob": max(LEAST_LOGPROB, token["logprob"]),
                "top_logprobs": [],
            }
            for token in result["completion_probabilities"]
        ]

    async def _parts(self, request: ChatRequest, llama: Mapping[str, Any]) -> StreamParts:
        """Yield an answer's texts as they are made, and why it ended."""
        from tokenizers.decoders import DecodeStream

        decoder = DecodeStream(ids=[], skip_special_tokens=True)
        tokenizer = self._chats.tokenizer.backend_tokenizer
        text, n_sent, last = "", 0, dict[str, Any]()
        n_unsure = max(map(len, request.stops), default=1) - 1  # may begin a stop sequence
        chunks = self._chunks(llama)
        async for chunk in chunks:
            if "error" in chunk:
                yield _refusal(chunk)
                return
            last = chunk["__verbose"]
            ids = last.get("tokens") or []
            if self._has_byte_pairs:  # of a character of several tokens the last alone is named
                text += last.get("content", "")
            else:
                steps = (decoder.step(tokenizer, token) for token in self._before_end(ids))
                text += "".join(step or "" for step in steps)
            if first_stop(text, request.stops) < len(text) or self._ends & set(ids):
                break
            if len(text) - n_unsure > n_sent:
                yield text[n_sent : len(text) - n_unsure]
                n_sent = len(text) - n_unsure
        await chunks.aclose()
        cut = first_stop(text, request.stops)
        finish = "stop" if cut < len(text) else _finish(last)
        yield text[n_sent:cut], finish, _usage(last)

    async def _chunks(self, llama: Mapping[str, Any]) -> AsyncGenerator[dict[str, Any]]:
        """Yield what llama.cpp says of an answer while it makes it; closing ends its work."""
        loop, is_closed = asyncio.get_running_loop(), threading.Event()
        queue: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue()

        def take(chunk: dict[str, Any]) -> bool:
            loop.call_soon_threadsafe(queue.put_nowait, chunk)
            return is_closed.is_set()

        work = asyncio.ensure_future(
            anyio.to_thread.run_sync(
                self._llama.handle_completions, llama, take, limiter=self._free_slots
            )
        )
        work.add_done_callback(lambda _: queue.put_nowait(None))
        try:
            while (chunk := await queue.get()) is not None:
                yield chunk
        finally:
            is_closed.set()
            work.cancel()


def _finish(result: Mapping[str, Any]) -> str:
    return "length" if result.get("stop_type") == "limit" else "stop"


def _usage(result: Mapping[str, Any]) -> dict[str, int]:
    return usage_of(int(result.get("tokens_evaluated", 0)), int(result.get("tokens_predicted", 0)))


def _refusal(result: Mapping[str, Any]) -> Response:
    """Return llama.cpp's own error, such as a chat that is longer than the context."""
    error = result["error"]
    return api_error(int(error.get("code", 500)), str(error.get("message", "")))


def _print_tokens(path: Path) -> None:
    """Print the ids of the chats on standard input, as llama.cpp makes them."""
    import httpx

    key = secrets.token_hex()
    server = _llama(path, 1, 512, own_template=True, key=key)
    head = {"Authorization": f"Bearer {key}"}
    with httpx.Client(base_url=server.listening_address, headers=head, trust_env=False) as llama:
        for line in sys.stdin:
            text = llama.post("/apply-template", json={"messages": json.loads(line)}).json()
            body = {"content": text.get("prompt", ""), "add_special": False, "parse_special": True}
            print(json.dumps(llama.post("/tokenize", json=body).json()["tokens"]), flush=True)


if __name__ == "__main__":
    main()
