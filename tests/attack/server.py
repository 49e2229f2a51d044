"""A loopback provider that does wrong in any way it is told to, and keeps the true bill.

It speaks chat completions, the list of models, files and batches. What a try meets is decided by a
rule from its last message and how often that was asked, so that no order of arrival changes it.
What it bills is counted where the answer is written, whether or not it ever arrives.

As a program: `python server.py [--port 0] [--share 0.1] [--seed 0] [--delay-s 0]` prints its base
URL; `GET /bill` tells the bill and the tries as JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import random
import re
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from typing import Any

TRUE = object()
"""Usage that is reported as it is."""
GARBAGE = b"<html>\x1b[31mbusy</html>"


@dataclass(frozen=True)
class Deed:
    """What happens to one try: its parts combine freely."""

    status: int = 200
    body: str = "whole"
    """whole; garbage (HTML), partial (JSON that ends early), empty (no choices) or nothing."""
    wire: str = "whole"
    """whole; cut before the head, cut within the body, dripped (a byte every `drip_s`)."""
    delay_s: float = 0.0
    drip_s: float = 0.2
    retry_after: str | None = None
    location: str = ""
    """Where a redirect (status 307) leads to."""
    n_tokens: int | None = None
    """Tokens that are written, whatever limit the request has; None writes what it asks for."""
    usage: Any = TRUE
    """What is reported as usage: TRUE, None for nothing, or any JSON."""
    is_billed: bool | None = None
    """None bills a whole answer, and what a gateway (502, 504) or the wire lost on its way."""

    @property
    def is_none(self) -> bool:
        """Whether the try is answered as it should be."""
        return (self.status, self.body, self.wire) == (200, "whole", "whole")


Rule = Callable[[str, int], Deed]
"""What happens, by the last message and the number of its try, from 1."""

FLAKY = tuple(
    [Deed(status=status) for status in (429, 500, 502, 503, 504)]
    + [Deed(body=body) for body in ("garbage", "partial", "empty", "nothing")]
    + [Deed(wire=wire) for wire in ("cut before", "cut within")]
)
"""What a flaky gateway does."""


def honest(text: str, n_tries: int) -> Deed:
    """Answer everything."""
    return Deed()


def flaky(share: float, seed: int = 0, delay_s: float = 0.0) -> Rule:
    """Return a rule under which a share of all tries fails, each in one of the ways of `FLAKY`."""

    def rule(text: str, n_tries: int) -> Deed:
        digest = hashlib.sha256(f"{seed} {n_tries} {text}".encode("utf-8", "replace")).digest()
        draw = random.Random(digest)
        deed = draw.choice(FLAKY) if draw.random() < share else Deed()
        return Deed(deed.status, deed.body, deed.wire, delay_s=delay_s)

    return rule


def n_tokens_of(text: str) -> int:
    """Return the tokens of a text: words, and the spaces in front of them belong to them."""
    return max(1, len(re.findall(r"\s*\S+", text))) if text else 0


@dataclass
class Bill:
    """What the provider charges, and for what."""

    usd_per_million_input_tokens: float = 1.0
    usd_per_million_output_tokens: float = 10.0
    usd: float = 0.0
    n_answers: int = 0
    n_lost: int = 0
    """Answers that are charged and never arrived."""
    input_tokens: int = 0
    output_tokens: int = 0

    def charge(self, n_input: int, n_output: int, arrived: bool, share: float = 1.0) -> None:
        """Charge one answer; a batch's at a share of the price."""
        self.input_tokens += n_input
        self.output_tokens += n_output
        self.n_answers += arrived
        self.n_lost += not arrived
        usd = n_input * self.usd_per_million_input_tokens
        usd += n_output * self.usd_per_million_output_tokens
        self.usd += share * usd / 1e6


@dataclass
class Provider:
    """Runs in a thread of its own while the block lasts."""

    rule: Rule = honest
    port: int = 0
    bill: Bill = field(default_factory=Bill)
    models: tuple[str, ...] = ("parrot",)
    """Those that it lists; where there are none it has no list."""
    says: Callable[[str], str] = str.upper
    """Makes the answer from the last message."""
    lists: Deed = Deed()
    """What happens to `GET /models`."""
    batch_s: float = 0.2
    """How long a batch runs."""
    batch_share: float = 0.5
    """Of the price, in a batch."""
    creates: list[Deed] = field(default_factory=list)
    """What happens to the next creations of a batch; the batch is made all the same."""
    polls: Callable[[float], Deed] = lambda seconds: Deed()
    """What happens to a look at a batch, and at the list, so many seconds after the last was made;
    -1 where there is none."""
    tries: Counter[str] = field(default_factory=Counter)
    answered: Counter[str] = field(default_factory=Counter)
    """Whole answers that left, by the last message."""
    asked_at: list[float] = field(default_factory=list)
    """When each try came, by the monotonic clock."""
    keys: list[str] = field(default_factory=list)
    """What came as `Authorization`."""
    n_unread: int = 0
    """Answers that were written for somebody who had hung up."""
    files: dict[str, bytes] = field(default_factory=dict)
    batches: dict[str, dict[str, Any]] = field(default_factory=dict)
    in_flight: int = 0
    most_in_flight: int = 0

    def __post_init__(self) -> None:
        """Make the loop that it runs in."""
        self._loop = asyncio.new_event_loop()
        self._started = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._ids = count()

    @property
    def base_url(self) -> str:
        """Return the address up to and with the version."""
        return f"http://127.0.0.1:{self.port}/v1"

    def __enter__(self) -> Provider:
        """Start to listen."""
        self._thread.start()
        assert self._started.wait(10)
        return self

    def __exit__(self, *args: Any) -> None:
        """Cut every connection."""

        def stop() -> None:
            for task in asyncio.all_tasks(self._loop):
                task.cancel()
            self._loop.call_later(0.05, self._loop.stop)

        self._loop.call_soon_threadsafe(stop)
        self._thread.join(10)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)

        async def start() -> None:
            server = await asyncio.start_server(
                self._serve, "127.0.0.1", self.port, backlog=4096, limit=2**20
            )
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
        method, target, _ = head.split(" ", 2)
        fields = dict(
            (name.lower(), value)
            for name, value in (one.split(": ", 1) for one in head.split("\r\n")[1:] if ": " in one)
        )
        data = await reader.readexactly(int(fields.get("content-length", 0)))
        self.keys.append(fields.get("authorization", ""))
        path = target.partition("?")[0]
        if path.endswith("/chat/completions"):
            return await self._chat(writer, json.loads(data))
        if path == "/bill":
            told = {**vars(self.bill), "tries": self.tries, "answered": self.answered}
            return await _send(writer, Deed(), json.dumps(told).encode())
        if path.endswith("/models"):
            listed = {"object": "list", "data": [{"id": model} for model in self.models]}
            if not self.models:
                return await _send(writer, Deed(status=404), _error("no list"))
            return await _send(writer, self.lists, json.dumps(listed).encode())
        if "/files" in path:
            return await self._file_request(writer, method, path, data, fields)
        if "/batches" in path:
            return await self._batch_request(writer, method, path, data)
        return await _send(writer, Deed(status=404), _error(f"no {path}"))

    async def _chat(self, writer: asyncio.StreamWriter, body: dict[str, Any]) -> bool:
        text = body["messages"][-1]["content"]
        self.tries[text] += 1
        self.asked_at.append(time.monotonic())
        deed = self.rule(text, self.tries[text])
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            if deed.delay_s:
                await asyncio.sleep(deed.delay_s)
            completion, n_input, n_output = self._complete(body, deed)
            billed = deed.is_billed
            if billed is None:
                billed = deed.status in (200, 502, 504)
            if billed:
                self.bill.charge(n_input, n_output, deed.is_none)
            self.n_unread += writer.is_closing()
            content = completion if deed.status == 200 else _error("a fault")
            alive = await _send(writer, deed, content)
            self.answered[text] += deed.is_none
            return alive
        finally:
            self.in_flight -= 1

    def _complete(self, body: dict[str, Any], deed: Deed) -> tuple[bytes, int, int]:
        """Return a completion with what it truly took: tokens in and out."""
        text = self.says(body["messages"][-1]["content"])
        limit = body.get("max_tokens", body.get("max_completion_tokens"))
        words = re.findall(r"\s*\S+", text)
        finish = "stop"
        if deed.n_tokens is not None:
            words = [f" w{i % 10}" for i in range(deed.n_tokens)]
        elif limit is not None and len(words) > limit:
            words, finish = words[:limit], "length"
        text = "".join(words) if deed.n_tokens is not None or finish == "length" else text
        n_output = max(1, len(words))
        n_input = sum(4 + n_tokens_of(one["content"]) for one in body["messages"])
        usage: Any = {
            "prompt_tokens": n_input, "completion_tokens": n_output,
            "total_tokens": n_input + n_output,
        }  # fmt: skip
        if deed.usage is not TRUE:
            usage = deed.usage
        message = {"role": "assistant", "content": text}
        completion = {
            "id": "x", "object": "chat.completion", "created": 0, "model": body["model"],
            "choices": [{"index": 0, "finish_reason": finish, "message": message}],
            "usage": usage,
        }  # fmt: skip
        return json.dumps(completion).encode(), n_input, n_output

    async def _file_request(
        self, writer: asyncio.StreamWriter, method: str, path: str, data: bytes, fields: Any
    ) -> bool:
        if method == "GET" and path.endswith("/content"):
            deed = self.polls(self._age_s)
            return await _send(writer, deed, self.files.get(path.split("/")[3], b""))
        boundary = re.search(r'boundary="?([^";]+)', fields.get("content-type", ""))
        assert boundary is not None
        parts = data.split(b"--" + boundary.group(1).encode())
        part = next(part for part in parts if b'name="file"' in part)
        made = self._keep(part.split(b"\r\n\r\n", 1)[1].removesuffix(b"\r\n"))
        return await _send(writer, Deed(), json.dumps(made).encode())

    async def _batch_request(
        self, writer: asyncio.StreamWriter, method: str, path: str, data: bytes
    ) -> bool:
        if method == "GET":
            deed = self.polls(self._age_s)
            if deed.status != 200:
                return await _send(writer, deed, _error("a fault"))
            id_ = path.split("/")[3] if path.count("/") > 2 else ""
            told: Any = self._told(id_) if id_ else {
                "object": "list", "has_more": False,
                "data": [self._told(one) for one in reversed(self.batches)],
            }  # fmt: skip
            return await _send(writer, deed, json.dumps(told).encode())
        asked = json.loads(data)
        if path.endswith("/cancel"):
            self.batches[path.split("/")[3]]["cancelled"] = True
            return await _send(writer, Deed(), json.dumps(self._told(path.split("/")[3])).encode())
        id_ = f"batch_{next(self._ids)}"
        self.batches[id_] = {**asked, "started": time.time(), "made": time.monotonic()}
        deed = self.creates.pop(0) if self.creates else Deed()
        await asyncio.sleep(deed.delay_s)
        content = json.dumps(self._told(id_)).encode() if deed.status == 200 else _error("a fault")
        return await _send(writer, deed, content)

    @property
    def _age_s(self) -> float:
        """Seconds since the last batch was made; -1 where there is none."""
        made = max((one["made"] for one in self.batches.values()), default=None)
        return -1.0 if made is None else time.monotonic() - made

    def _told(self, id_: str) -> dict[str, Any]:
        batch = self.batches[id_]
        told = {
            "id": id_, "object": "batch", "endpoint": batch["endpoint"], "status": "in_progress",
            "input_file_id": batch["input_file_id"], "completion_window": "24h",
            "created_at": int(batch["started"]), "metadata": batch.get("metadata"),
        }  # fmt: skip
        if batch.get("cancelled"):
            return {**told, "status": "cancelled"}
        if time.time() - batch["started"] < self.batch_s:
            return told
        if "out" not in batch:
            batch["out"] = self._run_batch(batch)
        return {
            **told, "status": "completed", "completed_at": int(batch["started"]) + 2,
            "output_file_id": batch["out"],
        }  # fmt: skip

    def _run_batch(self, batch: dict[str, Any]) -> str:
        lines = []
        for text in self.files[batch["input_file_id"]].splitlines():
            line = json.loads(text)
            last = line["body"]["messages"][-1]["content"]
            self.tries[last] += 1
            deed = self.rule(last, self.tries[last])
            completion, n_input, n_output = self._complete(line["body"], deed)
            if deed.status == 200:
                self.bill.charge(n_input, n_output, arrived=True, share=self.batch_share)
                self.answered[last] += 1
            body = json.loads(completion) if deed.status == 200 else {"error": {"message": "a"}}
            response = {"status_code": deed.status, "body": body}
            lines.append(json.dumps({"custom_id": line["custom_id"], "response": response}))
        return str(self._keep("\n".join(lines).encode())["id"])

    def _keep(self, data: bytes) -> dict[str, Any]:
        id_ = f"file_{next(self._ids)}"
        self.files[id_] = data
        return {
            "id": id_, "object": "file", "bytes": len(data), "created_at": 0,
            "filename": "x", "purpose": "batch", "status": "processed",
        }  # fmt: skip


def _error(text: str) -> bytes:
    return json.dumps({"error": {"message": text}}).encode()


async def _send(writer: asyncio.StreamWriter, deed: Deed, content: bytes) -> bool:
    """Send a reply as a deed wants it; return whether the connection may go on."""
    if deed.wire == "cut before":
        return False
    content = {
        "garbage": GARBAGE,
        "partial": content[: len(content) // 2],
        "empty": b'{"choices": []}',
        "nothing": b"",
    }.get(deed.body, content)
    head = f"HTTP/1.1 {deed.status} X\r\nContent-Type: application/json\r\n"
    if deed.retry_after is not None:
        head += f"Retry-After: {deed.retry_after}\r\n"
    if deed.location:
        head += f"Location: {deed.location}\r\n"
    message = f"{head}Content-Length: {len(content)}\r\n\r\n".encode() + content
    if deed.wire == "dripped":
        for i in range(len(message)):
            writer.write(message[i : i + 1])
            await writer.drain()
            await asyncio.sleep(deed.drip_s)
        return True
    if deed.wire == "cut within":
        message = message[: -max(1, len(content) // 2)]
    writer.write(message)
    await writer.drain()
    return deed.wire == "whole"


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--share", type=float, default=0.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--delay-s", type=float, default=0.0)
    told = parser.parse_args()
    with Provider(flaky(told.share, told.seed, told.delay_s), port=told.port) as running:
        print(running.base_url, flush=True)
        threading.Event().wait()
