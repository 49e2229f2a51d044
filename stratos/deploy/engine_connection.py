"""Requests of the proxy to an engine of this machine, over a connection each.

An engine closes connections that are kept, maybe just as one is used. httpx takes three times the
CPU time of a request, which is more than small students take for their answer.
"""

from __future__ import annotations

import asyncio
from asyncio import StreamReader, StreamWriter
from collections.abc import AsyncIterator
from dataclasses import dataclass

import h11

from stratos.deploy.server import HOST

ANSWER_S = 600.0
"""Longest silence of an engine in an answer."""
_CHUNK = 2**16


class BrokenError(Exception):
    """An engine has read a request, or a part of it, and not answered it whole."""


class UnreachableError(Exception):
    """No engine listens, so that nothing was sent."""


@dataclass
class EngineAnswer:
    """An answer that has begun."""

    status: int
    headers: dict[str, str]
    _protocol: h11.Connection
    _reader: StreamReader
    _writer: StreamWriter

    @property
    def is_stream(self) -> bool:
        """Whether it comes in parts, as events."""
        return self.headers.get("content-type", "").startswith("text/event-stream")

    async def parts(self) -> AsyncIterator[bytes]:
        """Yield its body as it comes.

        Raises:
            BrokenError: it ends before it is whole.
        """
        while True:
            event = await _next_event(self._protocol, self._reader)
            if isinstance(event, h11.Data):
                yield bytes(event.data)
            elif isinstance(event, h11.EndOfMessage):
                return

    async def read(self) -> bytes:
        """Return its whole body, and close the connection.

        Raises:
            BrokenError: it ends before it is whole.
        """
        try:
            return b"".join([part async for part in self.parts()])
        finally:
            self.close()

    def close(self) -> None:
        """Close the connection: an engine stops to write what nobody reads."""
        self._writer.close()


async def ask_engine(
    port: int, path: str, data: bytes = b"", method: str = "GET", answer_s: float = ANSWER_S
) -> EngineAnswer:
    """Send a request; return the answer when it begins.

    Args:
        port: where the engine listens.
        path: with its query, as it was sent.
        data: body, as JSON.
        method: of the request.
        answer_s: longest wait for the beginning.

    Raises:
        UnreachableError: nothing listens.
        BrokenError: there is no answer.
    """
    try:
        reader, writer = await asyncio.open_connection(HOST, port)
    except OSError as error:
        raise UnreachableError from error
    headers = [("Host", f"{HOST}:{port}"), ("Content-Type", "application/json")]
    headers += [("Content-Length", str(len(data))), ("Connection", "close")]
    try:
        protocol = h11.Connection(h11.CLIENT)
        request = h11.Request(method=method, target=path, headers=headers)
        for event in (request, h11.Data(data), h11.EndOfMessage()):
            writer.write(protocol.send(event) or b"")
        async with asyncio.timeout(answer_s):
            begun = await _next_event(protocol, reader)
        while isinstance(begun, h11.InformationalResponse):
            begun = await _next_event(protocol, reader)
    except BaseException as error:
        writer.close()
        if isinstance(error, (h11.LocalProtocolError, OSError)):  # TimeoutError is one
            raise BrokenError from error
        raise
    assert isinstance(begun, h11.Response)
    fields = {name.decode("latin-1"): value.decode("latin-1") for name, value in begun.headers}
    return EngineAnswer(begun.status_code, fields, protocol, reader, writer)


async def _next_event(protocol: h11.Connection, reader: StreamReader) -> object:
    """Return what comes next of an answer.

    Raises:
        BrokenError: the connection ends, or what comes is no HTTP.
    """
    try:
        while (event := protocol.next_event()) is h11.NEED_DATA:
            async with asyncio.timeout(ANSWER_S):
                protocol.receive_data(await reader.read(_CHUNK))
    except (OSError, h11.RemoteProtocolError) as error:
        raise BrokenError from error
    if isinstance(event, h11.ConnectionClosed):
        raise BrokenError
    return event
