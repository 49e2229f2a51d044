"""What servers with the OpenAI API of ours share: how requests and events are read, and errors."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import shutil
import signal
import socket
import ssl
import sys
import tempfile
import time
import uuid
from collections.abc import AsyncIterable, AsyncIterator, Callable, Coroutine, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import anyio
import httpx
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
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


async def gone(request: Request, error: Exception) -> Response:
    """Return what nobody reads, for a client that left while it was read."""
    return Response(status_code=GONE)


async def read_body(request: Request, most_bytes: int) -> bytes | None:
    """Return the body of a request; None where it is too long, and then it is read no further."""
    parts, n = [], 0
    async for part in request.stream():
        n += len(part)
        if n > most_bytes:
            return None
        parts.append(part)
    return b"".join(parts)


async def lines_of(parts: AsyncIterable[bytes]) -> AsyncIterator[str]:
    """Yield the lines of a stream of events without their ends.

    A line feed alone ends one. Text in JSON may have other line separators as they are (U+2028,
    U+0085), at which `str.splitlines`, and so `httpx`, would cut an event in two.

    Args:
        parts: bytes as they arrive, cut anywhere.
    """
    rest = b""
    async for part in parts:
        *whole, rest = (rest + part).split(b"\n")
        for line in whole:
            yield line.removesuffix(b"\r").decode(errors="replace")
    if rest:
        yield rest.decode(errors="replace")


def api_error(status: int, message: str, headers: Mapping[str, str] | None = None) -> Response:
    """Return an error as the API has it."""
    error = {"message": message, "type": "invalid_request_error", "code": status}
    return JSONResponse({"error": error}, status, headers)


def too_long() -> Response:
    """Return the error of a request that is not read."""
    return api_error(413, f"A request may have {MOST_BYTES // 2**20} MiB.")


def too_many() -> Response:
    """Return the error of a request that finds too many others waiting."""
    message = f"{MOST_WAITING:,} requests wait already. Ask again later."
    return api_error(429, message, {"Retry-After": str(RETRY_S)})


Handler = Callable[[Request], Coroutine[Any, Any, Response]]
"""Answers a request."""


async def no_path(request: Request, error: Exception) -> Response:
    """Return the error of a path or method that a server of one student does not have."""
    assert isinstance(error, HTTPException)
    message = (
        f"{request.method} {request.url.path}: this server does not have it. It has POST "
        "/v1/chat/completions, and GET /v1/models."
    )
    return api_error(error.status_code, message, error.headers)


def web_application(chat: Handler, models: Handler, health: Handler, slots: int) -> Starlette:
    """Return the web application of a server of one student.

    Args:
        chat: answers a request for a chat.
        models: answers one for the list of models.
        health: answers one that asks whether it is up.
        slots: answers at once; `MOST_WAITING` more requests wait.
    """
    app = Starlette(
        routes=[
            Route(
                "/v1/chat/completions",
                chat,
                methods=["POST"],
                middleware=[Middleware(Waiting, most=slots + MOST_WAITING, refusal=too_many)],
            ),
            Route("/v1/models", models),
            Route("/health", health),
        ],
        exception_handlers={HTTPException: no_path, ClientDisconnect: gone},
    )
    app.router.redirect_slashes = False  # a client that follows one would send its chat twice
    return app


def name_of(bundle: Path) -> str:
    """Return a bundle's name: that of its folder, or of the run that the folder `bundle` is in."""
    path = bundle.resolve()
    return path.parent.name if path.name == "bundle" else path.name


def models_of(model: str) -> Response:
    """Return the list of models of a server that has one."""
    one = {"id": model, "object": "model", "created": 0, "owned_by": "stratos"}
    return JSONResponse({"object": "list", "data": [one]})


def head_of(model: str) -> dict[str, Any]:
    """Return what an answer, and each of its parts, begins with."""
    return {"id": f"chatcmpl-{uuid.uuid4().hex}", "created": int(time.time()), "model": model}


def event(
    head: Mapping[str, Any],
    delta: Mapping[str, Any],
    finish: str | None = None,
    usage: Mapping[str, Any] | None = None,
) -> str:
    """Return a part of a streamed answer."""
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    more = {} if usage is None else {"usage": usage}
    return f"data: {json.dumps({**head, 'choices': [choice], **more})}\n\n"


# Requests that wait for an answer: how many there may be, and what ends when a client leaves.

_T = TypeVar("_T")


class Waiting:
    """ASGI middleware that refuses a request while there are too many before it."""

    def __init__(self, app: ASGIApp, most: int, refusal: Callable[[], Response]) -> None:
        """Let `most` requests in at once, and answer others with what `refusal` returns."""
        self._app, self._most, self._refusal = app, most, refusal
        self._n = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request; it counts until its answer is sent, or its client is gone."""
        if self._n >= self._most:
            await self._refusal()(scope, receive, send)
            return
        self._n += 1
        try:
            await self._app(scope, receive, send)
        finally:
            self._n -= 1


async def unless_gone(request: Request, work: Coroutine[Any, Any, _T]) -> _T | None:
    """Return what a work gives; None where the client is gone first: the work is then cancelled.

    Args:
        request: whose body has been read.
        work: for its answer.
    """
    leaves = asyncio.ensure_future(_leaves(request))
    tasks: list[asyncio.Task[Any]] = [leaves]
    try:
        await asyncio.sleep(0)
        if leaves.done():  # it was gone before
            work.close()
            return None
        task = asyncio.ensure_future(work)
        tasks.append(task)
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        return task.result() if task.done() else None
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _leaves(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def allow_open_files() -> None:
    """Let this process open as many files as it may: each request that waits has two connections.

    Usual is a limit of 1,024, which it may raise itself.
    """
    if sys.platform == "win32":
        return
    import resource

    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):  # macOS takes no unlimited number
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def leave_out_of_log() -> None:
    """Keep out of asyncio's log what is no error: that a client left while something was sent."""
    logging.getLogger("asyncio").addFilter(_is_error)


def _is_error(record: logging.LogRecord) -> bool:
    # anyio sets the result of a read that was cancelled, where data came at the same moment.
    kind = record.exc_info[0] if record.exc_info else None
    is_cancelled = kind is not None and issubclass(kind, asyncio.InvalidStateError)
    return not is_cancelled and record.msg != "socket.send() raised exception."


# Requests with a connection each, which is closed with its request wherever that is cancelled.
#
# A pool of connections loses one for good where a request is cancelled between the connect and the
# first byte (httpcore 1.0: the connection is new, and neither idle nor closed ever after).


class OwnConnections(httpx.AsyncBaseTransport):
    """Sends each request over a connection of its own."""

    def __init__(self, socket: str | None = None) -> None:
        """Take the socket file that is connected to; None takes the host of a request."""
        self._socket = socket
        self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # no one is asked over it: made once

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request; its connection ends with its answer, or with this call."""
        transport = httpx.AsyncHTTPTransport(uds=self._socket, verify=self._tls)
        try:
            answer = await transport.handle_async_request(request)
        except BaseException:
            await _close(transport)
            raise
        assert isinstance(answer.stream, httpx.AsyncByteStream)
        return httpx.Response(
            answer.status_code,
            headers=answer.headers,
            stream=_Closing(answer.stream, transport),
            extensions=answer.extensions,
        )


class _Closing(httpx.AsyncByteStream):
    """The body of an answer, whose end is that of its connection."""

    def __init__(self, body: httpx.AsyncByteStream, transport: httpx.AsyncBaseTransport) -> None:
        self._body, self._transport = body, transport

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for part in self._body:
            yield part

    async def aclose(self) -> None:
        try:
            await self._body.aclose()
        finally:
            await _close(self._transport)


async def _close(transport: httpx.AsyncBaseTransport) -> None:
    with anyio.CancelScope(shield=True):
        await transport.aclose()


class PassedOn(StreamingResponse):
    """A stream that is made of another server's answer, which is closed however this one ends.

    A client may leave before the first part: then nothing in the stream itself runs.
    """

    def __init__(
        self,
        parts: AsyncIterator[str] | AsyncIterator[bytes],
        answer: httpx.Response,
        status: int = 200,
        headers: Mapping[str, str] | None = None,
        media_type: str | None = None,
    ) -> None:
        super().__init__(parts, status, headers, media_type)
        self._answer = answer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the parts."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            with anyio.CancelScope(shield=True):
                await self._answer.aclose()


# A folder for the socket file of a server, which is deleted however the server ends.

PREFIX = "stratos-llama-"
SOCKET = "llama.sock"
_STARTING_S = 600.0
"""Age from which a folder whose socket nobody listens on is that of a process that was killed."""


@contextmanager
def socket_folder() -> Iterator[str]:
    """Yield the path of a socket file in a folder of this user alone, until the block is left.

    SIGTERM leaves the block, too: web servers raise it again after their shutdown, which would end
    the process with the folder left behind. Folders of processes that were killed are deleted
    first.
    """
    sweep()
    with tempfile.TemporaryDirectory(prefix=PREFIX, ignore_cleanup_errors=True) as folder:
        before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
        try:
            yield str(Path(folder) / SOCKET)
        finally:
            signal.signal(signal.SIGTERM, before)


def sweep(starting_s: float = _STARTING_S) -> None:
    """Delete the folders of this user's servers that were killed; what cannot be deleted stays.

    Args:
        starting_s: seconds in which a server listens once it has made its folder.
    """
    for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError):
            found = folder.lstat()
            is_old = time.time() > found.st_mtime + starting_s
            if found.st_uid == os.getuid() and is_old and not _is_listened_on(folder / SOCKET):
                shutil.rmtree(folder)


def _is_listened_on(path: Path) -> bool:
    """Return whether a process listens on a socket file, which outlives its process."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.setblocking(False)
        try:
            client.connect(str(path))
        except (ConnectionRefusedError, FileNotFoundError):
            return False
        except OSError:  # such as a full queue
            return True
    return True
