"""A loopback provider that does wrong in any way it is told to, and keeps the true bill.

It speaks chat completions, the list of models, files and batches. What a try meets is decided by a
rule from its last message and how often that was asked, so that no order of arrival changes it.
What it bills is counted where the answer is written, whether or not it ever arrives.

As a program: `python provider.py [--port 0] [--share 0.1] [--seed 0] [--delay-s 0] [--models M]
[--log F]` prints its base URL; `GET /bill` tells the bill and the tries as JSON; the file takes a
line for each try, which outlives a kill.
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
from dataclasses import dataclass, field, replace
from itertools import count, product
from typing import Any

TRUE = object()
"""Usage that is reported as it is."""
GARBAGE = b"<html>\x1b[31mbusy</html>"


@dataclass(frozen=True)
class Reply:
    """What happens to one try: its parts combine freely."""

    status: int = 200
    body: str = "whole"
    """whole; garbage (HTML), partial (JSON that ends early), empty (no choices) or nothing. In a
    batch, nothing leaves the line out."""
    wire: str = "whole"
    """whole; cut before the head, cut within the body, truncated (shorter, its length said so) or
    dripped (a byte every `drip_s`)."""
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
    def is_whole(self) -> bool:
        """Whether the try is answered as it should be."""
        return (self.status, self.body, self.wire) == (200, "whole", "whole")


Rule = Callable[[str, int], Reply]
"""What happens, by the last message and the number of its try, from 1."""

FLAKY = (
    *(Reply(status=status) for status in (429, 500, 502, 503, 504)),
    *(Reply(body=body) for body in ("garbage", "partial", "empty", "nothing")),
    *(Reply(wire=wire) for wire in ("cut before", "cut within")),
)
"""What a flaky gateway does."""
_COMBINED = product(
    (200, 429, 500, 503),
    ("whole", "garbage", "partial", "empty", "nothing"),
    ("whole", "cut before", "cut within", "truncated"),
    (0.0, 0.05),
)
EVERY_FAULT = tuple(reply for reply in (Reply(*parts) for parts in _COMBINED) if not reply.is_whole)
"""What may go wrong, alone and combined."""


def honest(text: str, n_tries: int) -> Reply:
    """Answer everything."""
    return Reply()


def always(**parts: Any) -> Rule:
    """Return a rule under which the same happens to every try."""
    return lambda text, n_tries: Reply(**parts)


def first_only(**parts: Any) -> Rule:
    """Return a rule under which something happens to the first try of each question."""
    return lambda text, n_tries: Reply(**parts) if n_tries == 1 else Reply()


def flaky(
    share: float, seed: int = 0, delay_s: float = 0.0, faults: tuple[Reply, ...] = FLAKY
) -> Rule:
    """Return a rule under which a share of all tries fails, each in one of some ways."""

    def rule(text: str, n_tries: int) -> Reply:
        digest = hashlib.sha256(f"{seed} {n_tries} {text}".encode("utf-8", "replace")).digest()
        draw = random.Random(digest)
        reply = draw.choice(faults) if draw.random() < share else Reply()
        return replace(reply, delay_s=delay_s + reply.delay_s)

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
    key: str | None = None
    """What chats want as a key; None for any."""
    upstream: str | None = None
    """Base URL of a server that makes the answers."""
    says: Callable[[str], str] = str.upper
    """Makes the answer from the last message."""
    refusal: str = "a fault"
    """Message of every answer that is none."""
    lists: Reply = Reply()
    """What happens to `GET /v1/models`."""
    uploads: Reply = Reply()
    """What happens to a file that comes."""
    batch_s: float = 0.2
    """How long a batch runs."""
    batch_share: float = 0.5
    """Of the price, in a batch."""
    batch_failure: str = ""
    """Why batches fail once they are made."""
    creates: list[Reply] = field(default_factory=list)
    """What happens to the next creations of a batch; the batch is made all the same."""
    polls: Callable[[float], Reply] = lambda seconds: Reply()
    """What happens to a look at a batch, and at the list, so many seconds after the last was made;
    -1 where there is none."""
    on_try: Callable[[str], object] = lambda text: None
    """Called with the last message of each try."""
    tries: Counter[str] = field(default_factory=Counter)
    answered: Counter[str] = field(default_factory=Counter)
    """Whole answers that left, by the last message."""
    keys: list[str] = field(default_factory=list)
    """What came as `Authorization`."""
    files: dict[str, bytes] = field(default_factory=dict)
    batches: dict[str, dict[str, Any]] = field(default_factory=dict)
    in_flight: int = 0
    most_in_flight: int = 0

    def __post_init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._started = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._ids = count()

    @property
    def base_url(self) -> str:
        """Return the address up to and with the version."""
        return f"http://127.0.0.1:{self.port}/v1"

    @property
    def n_tries(self) -> int:
        return sum(self.tries.values())

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
            while await self._request(reader, writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            writer.close()

    async def _request(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Answer one request; return whether the connection may go on."""
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        method, target, _ = head.split(" ", 2)
        pairs = (line.split(": ", 1) for line in head.split("\r\n")[1:] if ": " in line)
        fields = {name.lower(): value for name, value in pairs}
        data = await reader.readexactly(int(fields.get("content-length", 0)))
        key = fields.get("authorization", "")
        self.keys.append(key)
        is_known = self.key is None or key == f"Bearer {self.key}"
        path = target.partition("?")[0]
        if path.endswith("/chat/completions"):
            return await self._chat(writer, json.loads(data), is_known)
        if path == "/bill":
            state = {**vars(self.bill), "tries": self.tries, "answered": self.answered}
            return await _send(writer, Reply(), _json({**state, "most": self.most_in_flight}))
        if path == "/v1/models":
            return await self._list(writer, is_known)
        if "/files" in path:
            return await self._file_request(writer, method, path, data, fields)
        if "/batches" in path:
            return await self._batch_request(writer, method, path, data)
        return await _send(writer, Reply(status=404), self._refused())

    async def _list(self, writer: asyncio.StreamWriter, is_allowed: bool) -> bool:
        if self.upstream is not None:
            return await _send(writer, Reply(), await self._fetch("GET", "/models", b""))
        if not is_allowed or not self.models:
            return await _send(writer, Reply(404 if is_allowed else 401), self._refused())
        models = [{"id": model} for model in self.models]
        return await _send(writer, self.lists, _json({"object": "list", "data": models}))

    async def _chat(
        self, writer: asyncio.StreamWriter, body: dict[str, Any], is_known: bool
    ) -> bool:
        body["messages"] = body.get("messages") or [{"role": "user", "content": ""}]
        text = body["messages"][-1]["content"]
        self.tries[text] += 1
        self.on_try(text)
        if not is_known:
            return await _send(writer, Reply(401), self._refused())
        reply = self.rule(text, self.tries[text])
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            if reply.delay_s:
                await asyncio.sleep(reply.delay_s)
            content, n_input, n_output = self._complete(body, reply)
            if reply.is_billed or (reply.is_billed is None and reply.status in (200, 502, 504)):
                self.bill.charge(n_input, n_output, reply.is_whole)
            if reply.status != 200:
                content = self._refused()
            elif self.upstream is not None:
                content = await self._fetch("POST", "/chat/completions", _json(body))
            is_alive = await _send(writer, reply, content)
            self.answered[text] += reply.is_whole
            return is_alive
        finally:
            self.in_flight -= 1

    def _complete(self, body: dict[str, Any], reply: Reply) -> tuple[bytes, int, int]:
        """Return a completion with what it truly took: tokens in and out."""
        text = self.says(body["messages"][-1]["content"])
        limit = body.get("max_tokens", body.get("max_completion_tokens"))
        words = re.findall(r"\s*\S+", text)
        finish = "stop"
        if reply.n_tokens is not None:
            words = [f" w{i % 10}" for i in range(reply.n_tokens)]
        elif limit is not None and len(words) > limit:
            words, finish = words[:limit], "length"
        text = "".join(words) if reply.n_tokens is not None or finish == "length" else text
        n_output = max(1, len(words))
        n_input = sum(4 + n_tokens_of(message["content"]) for message in body["messages"])
        usage = {
            "prompt_tokens": n_input, "completion_tokens": n_output,
            "total_tokens": n_input + n_output,
        }  # fmt: skip
        completion = {
            "id": "x", "object": "chat.completion", "created": 0, "model": body["model"],
            "choices": [{
                "index": 0, "finish_reason": finish,
                "message": {"role": "assistant", "content": text},
            }],
            "usage": usage if reply.usage is TRUE else reply.usage,
        }  # fmt: skip
        return _json(completion), n_input, n_output

    async def _fetch(self, method: str, path: str, data: bytes) -> bytes:
        import httpx

        async with httpx.AsyncClient(trust_env=False, timeout=120) as client:
            headers = {"Content-Type": "application/json"}
            reply = await client.request(
                method, f"{self.upstream}{path}", content=data, headers=headers
            )
            return reply.content

    async def _file_request(
        self, writer: asyncio.StreamWriter, method: str, path: str, data: bytes, fields: Any
    ) -> bool:
        if method == "GET" and path.endswith("/content"):
            reply = self.polls(self._age_s)
            return await _send(writer, reply, self.files.get(path.split("/")[3], b""))
        if self.uploads.status != 200:
            return await _send(writer, self.uploads, self._refused())
        boundary = re.search(r'boundary="?([^";]+)', fields.get("content-type", ""))
        assert boundary is not None
        parts = data.split(b"--" + boundary.group(1).encode())
        part = next(part for part in parts if b'name="file"' in part)
        made = self._keep(part.split(b"\r\n\r\n", 1)[1].removesuffix(b"\r\n"))
        return await _send(writer, Reply(), _json(made))

    async def _batch_request(
        self, writer: asyncio.StreamWriter, method: str, path: str, data: bytes
    ) -> bool:
        if method == "GET":
            reply = self.polls(self._age_s)
            if reply.status != 200:
                return await _send(writer, reply, self._refused())
            if path.count("/") > 2:
                return await _send(writer, reply, _json(self._state(path.split("/")[3])))
            made = [self._state(name) for name in reversed(self.batches)]
            listed = {"object": "list", "has_more": False, "data": made}
            return await _send(writer, reply, _json(listed))
        if path.endswith("/cancel"):
            self.batches[path.split("/")[3]]["cancelled"] = True
            return await _send(writer, Reply(), _json(self._state(path.split("/")[3])))
        id_ = f"batch_{next(self._ids)}"
        self.batches[id_] = {**json.loads(data), "started": time.time(), "made": time.monotonic()}
        reply = self.creates.pop(0) if self.creates else Reply()
        await asyncio.sleep(reply.delay_s)
        is_made = reply.status == 200
        return await _send(writer, reply, _json(self._state(id_)) if is_made else self._refused())

    @property
    def _age_s(self) -> float:
        """Seconds since the last batch was made; -1 where there is none."""
        made = max((batch["made"] for batch in self.batches.values()), default=None)
        return -1.0 if made is None else time.monotonic() - made

    def _state(self, id_: str) -> dict[str, Any]:
        batch = self.batches[id_]
        state = {
            "id": id_, "object": "batch", "endpoint": batch["endpoint"], "status": "in_progress",
            "input_file_id": batch["input_file_id"], "completion_window": "24h",
            "created_at": int(batch["started"]), "metadata": batch.get("metadata"),
        }  # fmt: skip
        if batch.get("cancelled"):
            return {**state, "status": "cancelled"}
        if self.batch_failure:
            errors = {"data": [{"message": self.batch_failure}]}
            return {**state, "status": "failed", "errors": errors}
        if time.time() - batch["started"] < self.batch_s:
            return state
        if "files" not in batch:
            batch["files"] = self._run_batch(batch)
        return {
            **state, "status": "completed", "completed_at": int(batch["started"]) + 2,
            **batch["files"],
        }  # fmt: skip

    def _run_batch(self, batch: dict[str, Any]) -> dict[str, str]:
        """Answer the lines of a batch: whole answers in one file, the others in another."""
        good, bad = [], []
        for text in self.files[batch["input_file_id"]].splitlines():
            line = json.loads(text)
            last = line["body"]["messages"][-1]["content"]
            self.tries[last] += 1
            reply = self.rule(last, self.tries[last])
            if reply.body == "nothing":
                continue
            completion, n_input, n_output = self._complete(line["body"], reply)
            body = json.loads(completion if reply.status == 200 else self._refused())
            if reply.status == 200:
                self.bill.charge(n_input, n_output, arrived=True, share=self.batch_share)
                self.answered[last] += 1
            response = {"status_code": reply.status, "body": body}
            made = json.dumps({"custom_id": line["custom_id"], "response": response})
            (good if reply.status == 200 else bad).append(made)
        good = [*reversed(good), '{"torn']  # providers keep no order
        names = {"output_file_id": good, "error_file_id": bad}
        return {name: self._keep("\n".join(lines).encode())["id"] for name, lines in names.items()}

    def _keep(self, data: bytes) -> dict[str, Any]:
        id_ = f"file_{next(self._ids)}"
        self.files[id_] = data
        return {
            "id": id_, "object": "file", "bytes": len(data), "created_at": 0,
            "filename": "x", "purpose": "batch", "status": "processed",
        }  # fmt: skip

    def _refused(self) -> bytes:
        return _json({"error": {"message": self.refusal}})


def _json(value: Any) -> bytes:
    return json.dumps(value).encode()


async def _send(writer: asyncio.StreamWriter, reply: Reply, content: bytes) -> bool:
    """Send an answer as a reply wants it; return whether the connection may go on."""
    if reply.wire == "cut before":
        return False
    content = {
        "garbage": GARBAGE,
        "partial": content[: len(content) // 2],
        "empty": b'{"choices": []}',
        "nothing": b"",
    }.get(reply.body, content)
    if reply.wire == "truncated":
        content = content[: len(content) // 3]
    head = f"HTTP/1.1 {reply.status} X\r\nContent-Type: application/json\r\n"
    if reply.retry_after is not None:
        head += f"Retry-After: {reply.retry_after}\r\n"
    if reply.location:
        head += f"Location: {reply.location}\r\n"
    message = f"{head}Content-Length: {len(content)}\r\n\r\n".encode() + content
    if reply.wire == "dripped":
        for i in range(len(message)):
            writer.write(message[i : i + 1])
            await writer.drain()
            await asyncio.sleep(reply.drip_s)
        return True
    if reply.wire == "cut within":
        message = message[: -max(1, len(content) // 2)]
    writer.write(message)
    await writer.drain()
    return reply.wire != "cut within"


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--share", type=float, default=0.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--delay-s", type=float, default=0.0)
    parser.add_argument("--models", nargs="*", default=(), help="those that it lists")
    parser.add_argument("--log", default="/dev/null")
    options = parser.parse_args()
    rule = flaky(options.share, options.seed, options.delay_s, EVERY_FAULT)
    log = open(options.log, "a", buffering=1)  # noqa: SIM115 - as long as the process
    with Provider(
        rule, options.port, models=tuple(options.models),
        on_try=lambda text: log.write(f"{text}\n"),
    ) as running:  # fmt: skip
        print(running.base_url, flush=True)
        threading.Event().wait()
