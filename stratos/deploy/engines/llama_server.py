"""Serve a bundle's GGUF file with llama.cpp, behind the bundle's own chat template and tokenizer.

    python -m stratos.deploy.engines.llama_server serve BUNDLE --format q8_0 --port 8000

llama.cpp's server runs in this process and listens on a socket file that no one else can reach. It
is given token ids and gives token ids, so that a chat is cut as in the evaluation whatever GGUF can
express, and an answer is put together as transformers does.

    python -m stratos.deploy.engines.llama_server tokens FILE.gguf < chats.jsonl

prints the ids that llama.cpp itself makes of each chat, by the template and tokenizer in the file.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import time
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from stratos.core.errors import StratosError
from stratos.deploy.engines.base import export_path, facts_in
from stratos.deploy.engines.chat_ids import ChatError, ChatIds, StopCut, first_stop
from stratos.deploy.engines.chat_request import AnswerForms, Asked, Requests
from stratos.deploy.engines.gguf_file import end_ids, has_byte_pairs
from stratos.deploy.engines.http_api import (
    GONE,
    MOST_BYTES,
    OwnConnections,
    PassedOn,
    allow_open_files,
    api_error,
    event,
    head_of,
    leave_out_of_log,
    lines_of,
    models_of,
    name_of,
    read_body,
    socket_folder,
    too_long,
    unless_gone,
    web_application,
)

THREADS = "OMP_NUM_THREADS"
"""Variable of the environment with the threads of one answer; `deploy` sets it for small models."""
MOST_TOKENS = 1024
"""Longest answer of a bundle that says none."""
_LOGS_S = 0.5
"""What the lines of an engine that fails take to be written."""
LEAST_CONTEXT = 2048
"""Tokens of a slot: four of the longest answers, and so many at least, where the model has them.
llama.cpp takes the memory of all slots at its start."""
LONG_BYTES = 2**16
"""Size from which requests are read one at a time."""
ERRORS = 1
"""What llama.cpp logs: nothing but errors."""


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
    told = parser.parse_args(argv)
    try:
        if told.command == "tokens":
            _print_tokens(told.file)
        else:
            _serve(told)
    except StratosError as error:
        time.sleep(_LOGS_S)  # llama.cpp logs from a thread of its own: what counts comes last
        print(error, file=sys.stderr, flush=True)
        sys.exit(1)


def _serve(told: argparse.Namespace) -> None:
    import uvicorn

    path = export_path(told.bundle, f"{told.format}.gguf")
    context = min(told.context, max(LEAST_CONTEXT, 4 * _longest_answer(told.bundle)))
    if not path.is_file():
        raise StratosError(f"{told.bundle} has no {told.format} export for llama.cpp.")
    with socket_folder() as socket:
        server = _llama(path, socket, told.slots, context, own_template=False)
        app = application(told.bundle, socket, told.slots, context)
        leave_out_of_log()
        allow_open_files()
        uvicorn.run(app, host=told.host, port=told.port, log_level="warning", access_log=False)
        del server


def _llama(path: Path, socket: str, slots: int, context: int, *, own_template: bool) -> Any:
    """Load a file into llama.cpp's server, which listens on a socket file.

    Raises:
        StratosError: llama.cpp refuses the file.
    """
    import xllamacpp

    asked = xllamacpp.CommonParams()
    asked.model.path = str(path)
    asked.hostnames = [socket]
    asked.ui = False
    asked.n_parallel = slots
    # No copies of earlier chats: their number grows with each request, and none comes again.
    asked.cache_ram_mib = 0
    asked.verbosity = ERRORS  # else eight lines of log a request
    asked.n_ctx = slots * context
    threads = int(os.environ.get(THREADS) or os.cpu_count() or 1)
    asked.cpuparams.n_threads = asked.cpuparams_batch.n_threads = threads
    # Flash attention rounds otherwise than transformers, and takes a CPU twice as long.
    asked.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
    if path.stem == "f32":
        asked.cache_type_k = asked.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
    if not own_template:  # that of a file without a tokenizer refuses all chats
        asked.chat_template, asked.use_jinja = "chatml", False
    try:
        return xllamacpp.Server(asked)
    except RuntimeError as error:
        raise StratosError(f"llama.cpp cannot load {path} ({error}).") from error


def application(bundle: Path, socket: str, slots: int, context: int) -> Starlette:
    """Return the web application that answers chats with llama.cpp's answers.

    Args:
        bundle: chat template, tokenizer, and the longest answer.
        socket: file that llama.cpp listens on.
        slots: requests that llama.cpp answers at once; `MOST_WAITING` more wait there.
        context: tokens of the longest chat.
    """
    chats = ChatIds(bundle)
    front = _Front(
        chats,
        Requests(chats, AnswerForms(bundle), _longest_answer(bundle), context),
        httpx.AsyncClient(
            # A connection each: llama.cpp closes those that are kept, maybe just as one is used.
            transport=OwnConnections(socket),
            base_url="http://llama",
            timeout=None,
        ),
        name_of(bundle),
        end_ids(bundle),
        has_byte_pairs(bundle),
    )
    return web_application(front.chat, front.models, front.health, slots)


def _longest_answer(bundle: Path) -> int:
    facts = facts_in(bundle, "generation_config.json")
    return int(facts.get("max_new_tokens") or MOST_TOKENS)


@dataclass(eq=False)
class _Front:
    """The OpenAI API, as far as a narrow model has it."""

    _chats: ChatIds
    _requests: Requests
    _llama: httpx.AsyncClient
    _model: str
    _ends: frozenset[int]
    _streams_text: bool
    _turn: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(1))

    async def health(self, request: Request) -> Response:
        found = await self._llama.get("/health")
        return JSONResponse(found.json(), found.status_code)

    async def models(self, request: Request) -> Response:
        return models_of(self._model)

    async def chat(self, request: Request) -> Response:
        """Answer a chat, at once or in parts."""
        data = await read_body(request, MOST_BYTES)
        if data is None:
            return too_long()
        # While llama.cpp works, nothing is sent that could tell that the client is gone.
        answer = await unless_gone(request, self._answered(data))
        return Response(status_code=GONE) if answer is None else answer

    async def _answered(self, data: bytes) -> Response:
        try:
            asked = await self._read(data)
        except (ChatError, ValueError, TypeError) as error:
            return api_error(400, str(error))
        return await self._asked(asked)

    async def _read(self, data: bytes) -> Asked:
        """Read a request in a thread; of long ones one at a time, so that short ones are read, too.

        A thread cannot be ended: one that is cancelled meanwhile has its turn until it ends.

        Raises:
            ChatError, ValueError, TypeError: it cannot be answered.
        """
        if len(data) <= LONG_BYTES:
            return await run_in_threadpool(self._requests.read, data)
        await self._turn.acquire()
        work = asyncio.ensure_future(run_in_threadpool(self._requests.read, data))
        work.add_done_callback(self._end_turn)
        return await asyncio.shield(work)

    def _end_turn(self, work: asyncio.Future[Asked]) -> None:
        self._turn.release()
        if not work.cancelled():
            work.exception()  # where nobody waits for it any more, it is no error

    async def _asked(self, asked: Asked) -> Response:
        """Ask llama.cpp; being cancelled closes the connection, and so ends its work."""
        head = head_of(self._model)
        request = self._llama.build_request("POST", "/completion", json=asked.llama)
        try:
            answer = await self._llama.send(request, stream=asked.is_stream)
            if answer.status_code != 200:
                await answer.aread()
                await answer.aclose()
                return _passed_on(answer)
        except httpx.HTTPError as error:
            return api_error(502, f"llama.cpp did not answer ({type(error).__name__}).")
        if asked.is_stream:
            head["object"] = "chat.completion.chunk"
            return PassedOn(
                self._stream(answer, head, asked.stops), answer, media_type="text/event-stream"
            )
        found = answer.json()
        text = self._chats.text(self._before_end(found["tokens"]))
        cut = first_stop(text, asked.stops)
        finish = "stop" if cut < len(text) else _finish(found)
        is_whole = cut == len(text) and finish == "stop"
        if asked.fits is not None and is_whole and not asked.fits(text):
            return api_error(
                500, "response_format: the model could not keep to it; there is no answer."
            )
        message: dict[str, Any] = {"role": "assistant", "content": text[:cut]}
        if asked.has_tools and (calls := _calls(text[:cut])):
            message, finish = (
                {"role": "assistant", "content": None, "tool_calls": calls},
                "tool_calls",
            )
        choice = {"index": 0, "message": message, "finish_reason": finish}
        if asked.has_logprobs:
            told = self._chats.likelihood(found["completion_probabilities"])
            choice["logprobs"] = {"content": told}
        head["object"] = "chat.completion"
        return JSONResponse({**head, "choices": [choice], "usage": _usage(found)})

    def _before_end(self, ids: Sequence[int]) -> Sequence[int]:
        """Return the ids of an answer before the first that ends it: llama.cpp may know fewer."""
        place = next((place for place, one in enumerate(ids) if one in self._ends), len(ids))
        return ids[:place]

    async def _stream(
        self, answer: httpx.Response, head: Mapping[str, Any], stops: Sequence[str]
    ) -> AsyncIterator[str]:
        """Yield an answer's parts as events; closing it early ends the work of llama.cpp."""
        pieces, cut, last = self._chats.pieces(), StopCut(stops), {}
        try:
            yield event(head, {"role": "assistant", "content": ""})
            async for line in lines_of(answer.aiter_bytes()):
                if not line.startswith("data: {"):
                    if line.startswith("error: "):
                        yield f"data: {line.removeprefix('error: ')}\n\n"
                        return  # what has come is no whole answer: no reason of an end is told
                    continue
                last = json.loads(line.removeprefix("data: "))
                ids = last.get("tokens") or []
                # Of a character of several tokens llama.cpp names the last one alone.
                text = (
                    last.get("content", "")
                    if self._streams_text
                    else pieces.take(self._before_end(ids))
                )
                if part := cut.take(text):
                    yield event(head, {"content": part})
                if cut.is_over or last.get("stop") or self._ends & set(ids):
                    break
            if part := cut.rest():
                yield event(head, {"content": part})
            finish = "stop" if cut.is_over else _finish(last)
            yield event(head, {}, finish, _usage(last))
            yield "data: [DONE]\n\n"
        finally:
            await answer.aclose()


def _calls(text: str) -> list[dict[str, Any]]:
    """Return the calls that an answer is, as the API has them; none where it is none."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return []
    if not isinstance(found, list):
        return []
    calls = []
    for one in found:
        if not isinstance(one, dict) or not isinstance(one.get("name"), str):
            return []
        arguments = json.dumps(one.get("arguments", {}), ensure_ascii=False)
        function = {"name": one["name"], "arguments": arguments}
        calls.append({"id": f"call_{uuid.uuid4().hex}", "type": "function", "function": function})
    return calls


def _finish(found: Mapping[str, Any]) -> str:
    return "length" if found.get("stop_type") == "limit" else "stop"


def _usage(found: Mapping[str, Any]) -> dict[str, int]:
    asked, made = int(found.get("tokens_evaluated", 0)), int(found.get("tokens_predicted", 0))
    return {"prompt_tokens": asked, "completion_tokens": made, "total_tokens": asked + made}


def _passed_on(answer: httpx.Response) -> Response:
    """Return llama.cpp's own error, such as a chat that is longer than the context."""
    try:
        message = str(answer.json()["error"]["message"])
    except (ValueError, KeyError, TypeError):
        message = answer.text[:200]
    return api_error(answer.status_code, message)


def _print_tokens(path: Path) -> None:
    """Print the ids of the chats on standard input, as llama.cpp makes them."""
    with socket_folder() as socket:
        server = _llama(path, socket, 1, 512, own_template=True)
        transport = httpx.HTTPTransport(uds=socket)
        with httpx.Client(transport=transport, base_url="http://llama", timeout=60) as llama:
            for line in sys.stdin:
                told = llama.post("/apply-template", json={"messages": json.loads(line)})
                text = told.json().get("prompt", "")
                asked = {"content": text, "add_special": False, "parse_special": True}
                print(json.dumps(llama.post("/tokenize", json=asked).json()["tokens"]), flush=True)
        del server


if __name__ == "__main__":
    main()
