"""No connection outlives its request, wherever that is cancelled, and whenever a client leaves."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import sys
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import pytest
from starlette.requests import Request

from stratos.contrib.cascade.endpoint.front import OwnConnections, PassedOn, Waiting
from stratos.deploy.engines.http_api import api_error, unless_gone

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="/proc lists the open files")
STEPS = 60
"""Of the event loop, after each of which a request is cancelled; it takes about 30."""
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ndone"


@pytest.fixture
def only_closed() -> Iterator[None]:
    """Let nothing but a close end a connection: no collection of what nobody holds."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def n_open() -> int:
    return len(os.listdir("/proc/self/fd"))


async def _answering(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"}")
    writer.write(ANSWER)
    await reader.read()  # until the client closes
    writer.close()


async def _served() -> tuple[asyncio.Server, httpx.AsyncClient]:
    server = await asyncio.start_server(_answering, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    return server, httpx.AsyncClient(transport=OwnConnections(), base_url=url)


async def _settled(before: int) -> int:
    """Return how many files are open beyond those before, when the server has seen all ends."""
    for _ in range(100):
        if n_open() <= before:
            break
        await asyncio.sleep(0.05)
    return n_open() - before


def test_a_request_leaves_no_connection_wherever_it_is_cancelled(only_closed):
    async def run() -> None:
        server, client = await _served()
        before, n_whole = n_open(), 0
        for is_stream in (False, True):
            for step in range(STEPS):
                request = client.build_request("POST", "/", json={})
                task = asyncio.ensure_future(client.send(request, stream=is_stream))
                for _ in range(step):
                    await asyncio.sleep(0)
                task.cancel()
                (answer,) = await asyncio.gather(task, return_exceptions=True)
                if isinstance(answer, httpx.Response):
                    assert await answer.aread() == b"done"
                    await answer.aclose()
                    n_whole += 1
        assert n_whole and await _settled(before) == 0
        server.close()

    asyncio.run(run())


def test_a_client_that_leaves_before_the_first_part_leaves_no_connection(only_closed):
    async def left() -> Any:
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        await asyncio.sleep(0.01)

    async def run() -> None:
        server, client = await _served()
        before = n_open()
        for _ in range(3):
            answer = await client.send(client.build_request("POST", "/", json={}), stream=True)
            scope = {"type": "http", "asgi": {"spec_version": "2.3"}}
            await PassedOn(answer.aiter_raw(), answer)(scope, left, send)
        assert await _settled(before) == 0
        server.close()

    asyncio.run(run())


def test_nothing_is_begun_for_a_client_that_is_gone():
    begun = []

    async def left() -> Any:
        return {"type": "http.disconnect"}

    async def work() -> str:
        begun.append(1)
        return "done"

    async def run() -> None:
        request = Request({"type": "http"}, left)
        assert await unless_gone(request, work()) is None

    asyncio.run(run())
    assert not begun


def test_what_is_streamed_comes_whole():
    sent: list[bytes] = []

    async def waits() -> Any:
        await asyncio.Event().wait()

    async def send(message: Any) -> None:
        sent.append(message.get("body", b""))

    async def run() -> None:
        server, client = await _served()
        answer = await client.send(client.build_request("POST", "/", json={}), stream=True)
        parts: AsyncIterator[bytes] = answer.aiter_raw()
        await PassedOn(parts, answer)({"type": "http"}, waits, send)
        server.close()

    asyncio.run(run())
    assert b"".join(sent) == b"done"


def test_beyond_those_that_may_wait_a_request_is_told_to_come_again():
    sent: list[Any] = []

    async def ask_twice() -> None:
        free = asyncio.Event()

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await free.wait()

        async def send(message: Any) -> None:
            sent.append(message)

        door: Any = Waiting(app, most=1, refusal=lambda: api_error(429, "later"))
        first = asyncio.ensure_future(door({"type": "http"}, None, send))
        await asyncio.sleep(0)
        await door({"type": "http"}, None, send)
        free.set()
        await first
        await door({"type": "http"}, None, send)

    asyncio.run(ask_twice())
    assert [one["status"] for one in sent if "status" in one] == [429]
    assert json.loads(sent[1]["body"])["error"]["code"] == 429
