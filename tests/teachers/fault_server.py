"""A loopback endpoint that fails as real ones do, the same way every time.

Answers come from a server behind it (`upstream`), or from its own parrot that repeats the last
message in capitals. What happens to a try depends on the seed, the question and how often it was
asked, and on nothing else: not on the order in which tries arrive.

As a program: python fault_server.py [--port 0] [--delay-s 0.2] [--share 0.1] [--seed 0] [--log F]
prints its base URL; GET /told gives what was asked and answered, as JSON; the file takes a line
for each try, which outlives a kill.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import random
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from typing import Any

STATUSES = (200, 429, 500, 503)
BODIES = ("whole", "garbage", "partial", "empty", "nothing")
WIRES = ("whole", "cut before", "cut within", "truncated")
DELAYS = (0.0, 0.05)
_REPLACED = {"garbage": b"<html>\x1b[31mbusy</html>", "empty": b'{"choices": []}', "nothing": b""}
"""Bodies that hold nothing of the answer, so that nobody need make one."""


@dataclass(frozen=True)
class Fault:
    """What happens to one try: its parts combine freely."""

    status: int = 200
    body: str = "whole"
    """whole; garbage (HTML), partial (JSON that ends early), empty (no choices) or nothing."""
    wire: str = "whole"
    """whole; cut before the head, cut within the body, or truncated (a shorter body, all told)."""
    delay_s: float = 0.0
    retry_after: str | None = None

    @property
    def is_none(self) -> bool:
        return (self.status, self.body, self.wire) == (200, "whole", "whole")


EVERY_FAULT = tuple(
    fault for fault in (Fault(*one) for one in product(STATUSES, BODIES, WIRES, DELAYS))
    if not fault.is_none
)  # fmt: skip

Rule = Callable[[str, int], Fault]
"""What happens, by the last message and the number of the try, from 1."""


def at_random(share: float, seed: int = 0, delay_s: float = 0.0) -> Rule:
    """Return a rule under which a share of all tries fails, each in one of all ways."""

    def rule(text: str, n_tries: int) -> Fault:
        digest = hashlib.sha256(f"{seed} {n_tries} {text}".encode("utf-8", "replace")).digest()
        draw = random.Random(digest)
        if draw.random() >= share:
            return Fault(delay_s=delay_s)
        fault = draw.choice(EVERY_FAULT)
        return Fault(fault.status, fault.body, fault.wire, delay_s + fault.delay_s)

    return rule


class FaultServer:
    """Runs in a thread of its own while the block lasts."""

    def __init__(
        self,
        rule: Rule,
        upstream: str | None = None,
        port: int = 0,
        models: tuple[str, ...] = (),
        key: str | None = None,
        lists_to_all: bool = False,
    ) -> None:
        self.rule, self.upstream, self.port = rule, upstream, port
        self.models = models
        """Those it lists; where there are none it has no list."""
        self.key, self.lists_to_all = key, lists_to_all
        """What chats want as a key, and whether the list wants it too."""
        self.tries: Counter[str] = Counter()
        self.answered: Counter[str] = Counter()
        """Whole answers that left, by the last message."""
        self.in_flight = self.most_in_flight = 0
        self._loop = asyncio.new_event_loop()
        self._started = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def __enter__(self) -> FaultServer:
        self._thread.start()
        self._started.wait(10)
        return self

    def __exit__(self, *args: Any) -> None:
        def stop() -> None:
            for task in asyncio.all_tasks(self._loop):
                task.cancel()
            self._loop.call_later(0.05, self._loop.stop)

        self._loop.call_soon_threadsafe(stop)
        self._thread.join(10)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)

        async def start() -> None:
            server = await asyncio.start_server(self._serve, "127.0.0.1", self.port, backlog=4096)
            self.port = server.sockets[0].getsockname()[1]
            self._started.set()

        self._loop.run_until_complete(start())
        self._loop.run_forever()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await self._one(reader, writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            writer.close()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Answer one request; return whether the connection may go on."""
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        method, path, _ = head.split(" ", 2)
        fields = dict(
            line.lower().split(": ", 1) for line in head.split("\r\n")[1:] if ": " in line
        )
        data = await reader.readexactly(int(fields.get("content-length", 0)))
        if method == "GET":
            writer.write(await self._got(path, may=self.lists_to_all or self._knows(fields)))
            return True
        body = json.loads(data)
        text = _last(body)
        self.tries[text] += 1
        if not self._knows(fields):
            writer.write(_message(401, b'{"error": {"message": "who are you?"}}'))
            return True
        fault = self.rule(text, self.tries[text])
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            if fault.delay_s:
                await asyncio.sleep(fault.delay_s)
            return await self._answer(writer, body, data, text, fault)
        finally:
            self.in_flight -= 1

    def _knows(self, fields: dict[str, str]) -> bool:
        return self.key is None or fields.get("authorization") == f"bearer {self.key}"

    async def _got(self, path: str, may: bool) -> bytes:
        if path == "/told":
            told: Any = {
                "tries": self.tries, "answered": self.answered, "most": self.most_in_flight
            }  # fmt: skip
        elif self.upstream is not None:
            return _message(200, await self._upstream("GET", path, b""))
        elif not may or not self.models:
            return _message(404 if may else 401, b'{"error": {"message": "no"}}')
        else:
            told = {"object": "list", "data": [{"id": model} for model in self.models]}
        return _message(200, json.dumps(told).encode())

    async def _answer(
        self, writer: asyncio.StreamWriter, body: Any, data: bytes, text: str, fault: Fault
    ) -> bool:
        if fault.wire == "cut before":
            return False
        if fault.status != 200:
            content = json.dumps({"error": {"message": "a fault"}}).encode()
        elif self.upstream is None or fault.body in _REPLACED:
            content = json.dumps(_parrot(body)).encode()
        else:
            content = await self._upstream("POST", "/v1/chat/completions", data)
        if fault.body != "whole":
            content = {
                "partial": content[: len(content) // 2],
                **_REPLACED,
            }[fault.body]
        message = _message(fault.status, content, fault.retry_after)
        if fault.wire == "cut within":
            writer.write(message[: -max(1, len(content) // 2)])
            await writer.drain()
            return False
        if fault.wire == "truncated":
            message = _message(fault.status, content[: len(content) // 3], fault.retry_after)
        writer.write(message)
        await writer.drain()
        self.answered[text] += fault.is_none
        return True

    async def _upstream(self, method: str, path: str, data: bytes) -> bytes:
        if self.upstream is None:
            return b'{"object": "list", "data": []}'
        import httpx

        async with httpx.AsyncClient(trust_env=False, timeout=120) as client:
            reply = await client.request(
                method,
                self.upstream.removesuffix("/v1") + path,
                content=data,
                headers={"Content-Type": "application/json"},
            )
            return reply.content


def _last(body: Any) -> str:
    return body["messages"][-1]["content"] if body.get("messages") else ""


def _parrot(body: Any) -> dict[str, Any]:
    content = _last(body).upper()
    message = {"role": "assistant", "content": content}
    return {
        "id": "x",
        "object": "chat.completion",
        "created": 0,
        "model": body["model"],
        "choices": [{"index": 0, "finish_reason": "stop", "message": message}],
        "usage": {"prompt_tokens": 20, "completion_tokens": 5, "total_tokens": 25},
    }


def _message(status: int, content: bytes, retry_after: str | None = None) -> bytes:
    more = f"Retry-After: {retry_after}\r\n" if retry_after is not None else ""
    head = (
        f"HTTP/1.1 {status} X\r\nContent-Type: application/json\r\n{more}"
        f"Content-Length: {len(content)}\r\n\r\n"
    )
    return head.encode() + content


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--delay-s", type=float, default=0.0)
    parser.add_argument("--share", type=float, default=0.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--models", nargs="*", default=(), help="those that it lists")
    parser.add_argument("--log", default="/dev/null")
    asked = parser.parse_args()
    chance = at_random(asked.share, asked.seed, asked.delay_s)
    log = open(asked.log, "a", buffering=1)  # noqa: SIM115 - as long as the process

    def logged(text: str, n_tries: int) -> Fault:
        log.write(f"{text}\n")
        return chance(text, n_tries)

    with FaultServer(logged, port=asked.port, models=tuple(asked.models)) as server:
        print(server.base_url, flush=True)
        threading.Event().wait()
