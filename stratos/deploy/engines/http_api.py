"""What servers with the OpenAI API of ours share: how requests are read, answers, and errors."""

from __future__ import annotations

import asyncio
import logging
import re
import time
import uuid
from collections.abc import AsyncGenerator, Callable, Coroutine, Mapping
from contextlib import aclosing, suppress
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

GONE = 499
"""Status of a request whose client is gone, as nginx has it; no one sees it."""
MOST_BYTES = 2 * 2**20
"""Of a request: more than any chat that fits a context."""
MOST_WAITING = 1024
"""Requests that wait for a slot; more are answered 429. A door before the server allows fewer."""
RETRY_S = 1
"""When a client may ask again that was answered 429."""
LEAST_LOGPROB = -9999.0
"""What the API writes for minus infinity, which JSON does not have."""

_T = TypeVar("_T")
Handler = Callable[[Request], Coroutine[Any, Any, Response]]
"""Answers a request."""


def web_application(model: str, chat: Handler) -> Starlette:
    """Return the web application of a server of one student.

    Args:
        model: its name.
        chat: answers a request for a chat.
    """

    async def health(request: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def models(request: Request) -> Response:
        entry = {"id": model, "object": "model", "created": 0, "owned_by": "stratos"}
        return JSONResponse({"object": "list", "data": [entry]})

    app = Starlette(
        routes=[
            Route("/v1/chat/completions", chat, methods=["POST"]),
            Route("/v1/models", models),
            Route("/health", health),
        ],
        exception_handlers={HTTPException: no_path, ClientDisconnect: gone},
    )
    app.router.redirect_slashes = False  # a client that follows one would send its chat twice
    return app


LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})


class NoOtherSite:
    """Refuses what a page of another site sends through a browser on this machine.

    Such a page may send a form or a text without being asked, never JSON; and a name of its own
    that it has resolve to this machine is none of ours.
    """

    def __init__(self, app: ASGIApp, host: str) -> None:
        """Stand before an application that listens on `host`."""
        self._app = app
        self._names = LOOPBACK | {host} if host in LOOPBACK else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        refusal = self._refusal(Request(scope)) if scope["type"] == "http" else None
        await (self._app if refusal is None else refusal)(scope, receive, send)

    def _refusal(self, request: Request) -> Response | None:
        name = urlsplit(f"//{request.headers.get('host', '')}").hostname or ""
        if self._names is not None and name and name not in self._names:
            return api_error(421, f"{name}: this server is for this machine. Ask 127.0.0.1.")
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if request.method == "POST" and kind != "application/json":
            return api_error(415, "Send the header Content-Type: application/json.")
        return None


def run(app: Starlette, host: str, port: int) -> None:
    """Serve a web application until this process ends."""
    import uvicorn

    allow_open_files()
    logging.getLogger("asyncio").setLevel(logging.ERROR)  # that a client left is none
    uvicorn.run(NoOtherSite(app, host), host=host, port=port, log_level="warning", access_log=False)


def allow_open_files() -> None:
    """Let this process open as many files as it may: each request that waits is one.

    Usual is a limit of 1,024, which it may raise itself.
    """
    import resource

    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(OSError, ValueError):  # macOS takes no unlimited number
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def name_of(bundle: Path) -> str:
    """Return a bundle's name: that of its folder, or of the run that the folder `bundle` is in."""
    path = bundle.resolve()
    return path.parent.name if path.name == "bundle" else path.name


async def read_body(request: Request, most_bytes: int) -> bytes | None:
    """Return the body of a request; None where it is too long, and then it is read no further."""
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > most_bytes:
            return None
    return body


class Part(msgspec.Struct):
    """A part of a message: these servers read text alone."""

    type: Literal["text"]
    text: str = ""


class Turn(msgspec.Struct):
    """A message of a chat."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    """developer is what the API calls system since 2025: templates of chats know that alone."""
    content: str | list[Part] | None = None


_ESCAPE = re.compile(
    rb"\\(?:ud[89ab][0-9a-f]{2}\\ud[c-f][0-9a-f]{2}|(ud[89a-f][0-9a-f]{2})|.)", re.I | re.S
)
"""An escape of JSON: a pair of surrogates, a lone one, or any. They are matched one by one, so that
no backslash of one begins the next."""


def decoded(data: bytes, what: type[_T]) -> _T:
    """Return JSON as a type; a lone surrogate, which JSON may have and no text, is "?".

    Raises:
        msgspec.DecodeError: it is none.
        RecursionError: it has too many lists and objects inside each other.
    """
    try:
        return msgspec.json.decode(data, type=what)
    except msgspec.ValidationError:
        raise
    except msgspec.DecodeError:
        mended = _ESCAPE.sub(lambda escape: b"?" if escape[1] else escape[0], data)
        if mended == data:
            raise
        return msgspec.json.decode(mended, type=what)


def parsed(data: bytes) -> dict[str, Any]:
    """Return the object that the text of a request is.

    Raises:
        ValueError: it is none, or holds what JSON does not have.
    """
    try:
        body = decoded(data, dict[str, Any])
    except RecursionError:
        raise ValueError("It has too many lists and objects inside each other.") from None
    return body


def chat_of(messages: Any) -> list[dict[str, Any]]:
    """Return the messages of a request, each with a text; parts are lines, as vLLM joins them.

    Raises:
        ValueError: they are none, one has a role that no chat template knows, or no user asks
            anything.
    """
    try:
        turns = msgspec.convert(messages, Annotated[list[Turn], Meta(min_length=1)])
    except msgspec.ValidationError as error:
        raise ValueError(f"messages: {error}") from None
    if not any(turn.role == "user" for turn in turns):
        raise ValueError("messages: expected one of role user at least.")
    chat = [
        {
            **message,
            "role": "system" if turn.role == "developer" else turn.role,
            "content": "\n".join(part.text for part in turn.content)
            if isinstance(turn.content, list)
            else turn.content or "",
        }
        for message, turn in zip(messages, turns, strict=True)
    ]
    if not next(turn for turn in reversed(chat) if turn["role"] == "user")["content"].strip():
        raise ValueError("messages: the last one of role user has no text.")
    return chat


async def unless_gone(request: Request, work: Coroutine[Any, Any, _T]) -> _T | None:
    """Return what a work gives; None where the client is gone first: the work is then cancelled.

    Args:
        request: whose body has been read.
        work: for its answer.
    """
    own, is_done = asyncio.current_task(), False
    assert own is not None

    def stop(leaves: asyncio.Task[None]) -> None:
        if not is_done:
            own.cancel()

    leaves = asyncio.ensure_future(_leaves(request))
    leaves.add_done_callback(stop)
    try:
        await asyncio.sleep(0)
        if leaves.done():  # it was gone before
            work.close()
            return None
        return await work
    except asyncio.CancelledError:
        if not leaves.done():  # the server itself ends
            raise
        own.uncancel()
        return None
    finally:
        is_done = True
        leaves.cancel()


async def handled(
    request: Request, n_waiting: int, answered: Callable[[bytes], Coroutine[Any, Any, Response]]
) -> Response:
    """Return the answer to a request; none where too many wait, it is too long, or nobody does.

    Args:
        request: whose body is not read yet.
        n_waiting: other requests that wait.
        answered: answers its body.
    """
    if n_waiting >= MOST_WAITING:
        return too_many()
    data = await read_body(request, MOST_BYTES)
    if data is None:
        return too_long()
    answer = await unless_gone(request, answered(data))
    return Response(status_code=GONE) if answer is None else answer


async def _leaves(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def gone(request: Request, error: Exception) -> Response:
    """Return what nobody reads, for a client that left while it was read."""
    return Response(status_code=GONE)


async def no_path(request: Request, error: Exception) -> Response:
    """Return the error of a path or method that a server of one student does not have."""
    assert isinstance(error, HTTPException)
    message = (
        f"{request.method} {request.url.path}: this server does not have it. It has POST "
        "/v1/chat/completions, and GET /v1/models."
    )
    return api_error(error.status_code, message, error.headers)


def api_error(
    status: int, message: str, headers: Mapping[str, str] | None = None, code: str = ""
) -> Response:
    """Return an error as the API has it."""
    error = {"message": message, "type": "invalid_request_error", "code": code or status}
    return JSONResponse({"error": error}, status, headers)


def too_long() -> Response:
    """Return the error of a request that is not read."""
    return api_error(413, f"A request may have {MOST_BYTES // 2**20} MiB.")


def too_many() -> Response:
    """Return the error of a request that finds too many others waiting."""
    message = f"{MOST_WAITING:,} requests wait already. Ask again later."
    return api_error(429, message, {"Retry-After": str(RETRY_S)})


def completion(
    model: str,
    message: Mapping[str, Any],
    finish: str,
    usage: Mapping[str, int],
    logprobs: list[dict[str, Any]] | None = None,
) -> Response:
    """Return a whole answer as the API has it."""
    choice: dict[str, Any] = {"index": 0, "message": message, "finish_reason": finish}
    if logprobs is not None:
        choice["logprobs"] = {"content": logprobs}
    head = _head(model, "chat.completion")
    return JSONResponse({**head, "choices": [choice], "usage": usage})


StreamParts = AsyncGenerator[str | dict[str, Any] | tuple[str, str, dict[str, int]] | Response]
"""Texts of a streamed answer or deltas of its calls, and last its last text, the reason of its end,
and the tokens that it took; or an error, which ends it without these."""


def streamed(model: str, parts: StreamParts, with_usage: bool = False) -> Response:
    """Return an answer that comes in parts as the events of a stream.

    Args:
        model: its name.
        parts: are closed where the client leaves.
        with_usage: give the tokens that it took in an event of their own, as
            `stream_options.include_usage` asks, and not with the reason of its end.
    """
    head = _head(model, "chat.completion.chunk")

    def event(delta: Mapping[str, Any], finish: str | None = None, **more: Any) -> bytes:
        choice = {"index": 0, "delta": delta, "finish_reason": finish}
        return _event(msgspec.json.encode({**head, "choices": [choice], **more}))

    async def events() -> AsyncGenerator[bytes]:
        begin = event({"role": "assistant", "content": ""})
        async with aclosing(parts):
            async for part in parts:
                if isinstance(part, Response):
                    yield begin + _event(bytes(part.body))
                    return
                if isinstance(part, str | dict):
                    yield begin + event({"content": part} if isinstance(part, str) else part)
                    begin = b""
                    continue
                text, finish, usage = part
                rest = event({"content": text}) if text else b""
                end = event({}, finish) if with_usage else event({}, finish, usage=usage)
                if with_usage:
                    tokens = {**head, "choices": [], "usage": usage}
                    end += _event(msgspec.json.encode(tokens))
                yield begin + rest + end + _event(b"[DONE]")

    return _Stream(events())


_LINE_ENDS = tuple((char.encode(), b"\\u%04x" % ord(char)) for char in "\x85\u2028\u2029")
"""Characters at which httpx ends a line, as those of an event are; JSON may escape them."""


def _event(data: bytes) -> bytes:
    for char, escape in _LINE_ENDS:
        data = data.replace(char, escape)
    return b"data: " + data + b"\n\n"


class _Stream(StreamingResponse):
    """Events in one task: Starlette's own class has three, which take as long as the events."""

    def __init__(self, events: AsyncGenerator[bytes]) -> None:
        self._events = events
        super().__init__(events, media_type="text/event-stream")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the events; where the client leaves, close what yields them."""
        await unless_gone(Request(scope, receive), self._sent(send))

    async def _sent(self, send: Send) -> None:
        head = {"type": "http.response.start", "status": 200, "headers": self.raw_headers}
        await send(head)
        async with aclosing(self._events):
            async for event in self._events:
                await send({"type": "http.response.body", "body": event, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


def usage_of(n_prompt: int, n_answer: int) -> dict[str, int]:
    """Return the tokens of an answer as the API has them."""
    return {
        "prompt_tokens": n_prompt,
        "completion_tokens": n_answer,
        "total_tokens": n_prompt + n_answer,
    }


def _head(model: str, kind: str) -> dict[str, Any]:
    head = {"id": f"chatcmpl-{uuid.uuid4().hex}", "created": int(time.time())}
    return {**head, "model": model, "object": kind}
