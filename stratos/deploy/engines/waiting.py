"""Requests that wait for an answer: how many there may be, and what ends when a client leaves."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.types import ASGIApp, Receive, Scope, Send

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
