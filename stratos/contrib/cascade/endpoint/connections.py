"""Connections of a cascade: those to its student's server, and requests that wait."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import AsyncIterator, Callable, Mapping

import anyio
import httpx
from starlette.responses import Response, StreamingResponse
from starlette.types import ASGIApp, Receive, Scope, Send


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

    def __init__(self) -> None:
        self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # no one is asked over it: made once

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request; its connection ends with its answer, or with this call."""
        transport = httpx.AsyncHTTPTransport(verify=self._tls)
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
