"""The reverse proxy of a hosted student: one address and one name, whatever engine is behind it.

It holds requests while an engine starts, and sends one again whose engine ended before it had
answered. `/health` says that the proxy runs, `/ready` that the engine does, `/metrics` what
Prometheus reads, by the names of OpenTelemetry. Each request has a line in the log, without a text
of question or answer.
"""

from __future__ import annotations

import asyncio
import hmac
import json
import socket
import sys
import threading
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

import prometheus_client as prometheus
import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from typing_extensions import override

from stratos.deploy.engine_connection import (
    BrokenError,
    EngineAnswer,
    UnreachableError,
    ask_engine,
)
from stratos.deploy.engines.http_api import (
    GONE,
    MOST_WAITING,
    NoOtherSite,
    allow_open_files,
    api_error,
    chat_of,
    gone,
    handled,
    no_path,
    parsed,
)
from stratos.deploy.server import HEALTH, READY

if TYPE_CHECKING:
    from stratos.deploy.hosted_server import Hosted

Body: TypeAlias = bytes | dict[str, Any]
"""Of a request: as it came, or the object that it was read as."""
METRICS = "/metrics"
CHAT = "/v1/chat/completions"
ROUTES = (CHAT, "/v1/completions", "/v1/models", HEALTH, READY, METRICS)
"""Paths that logs and metrics name; a client could write a text into any other."""
OPEN = (HEALTH, READY)
"""Paths that ask for no key."""
WAIT_S, AGAIN_S = 120.0, 0.05
"""Longest wait for an engine that starts, and seconds between tries."""
MOST_BROKEN = 2
"""Engines that may end with a request before it is given up: it may be what ends them."""
STOP_S = 10.0
"""What answers that are under way have at a stop."""
KEEP_S = 75
"""Seconds that a connection stays open without a request: longer than nginx uses it for."""
_LOOK_S = 0.5
_SHOWN = 100
"""Characters of a name that an error shows."""
_BUCKETS = (.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60)  # fmt: skip
_OF_CONNECTION = ("connection", "content-length", "date", "server", "transfer-encoding")
"""Headers of an engine's answer that are not passed on."""


@dataclass
class Upstream:
    """An engine that requests go to."""

    port: int
    n_open: int = 0
    """Requests that it has not answered yet."""
    models: dict[str, str] = field(default_factory=dict)
    """Names that clients use to those of the engine, the student's first; none: not known yet."""


class EngineDownError(Exception):
    """No engine answers a request."""


class NoModelError(Exception):
    """A request names a model that is not served."""


@dataclass
class Exchange:
    """What is known of a request and its answer, beside their texts."""

    upstream: Upstream | None = None
    """Engine that has it."""
    answer: EngineAnswer | None = None
    usage: dict[str, int] = field(default_factory=dict)
    """Tokens, as the engine counts them."""
    is_cut: bool = False
    """Whether the engine ended in the midst of a stream."""

    def move_to(self, upstream: Upstream | None) -> None:
        """Have another engine answer it; None for none."""
        if self.upstream is not None:
            self.upstream.n_open -= 1
        if upstream is not None:
            upstream.n_open += 1
        self.upstream = upstream

    def close(self) -> None:
        """End it, whole or not."""
        self.move_to(None)
        if self.answer is not None:
            self.answer.close()


class Metrics:
    """What is counted, as Prometheus reads it."""

    def __init__(self) -> None:
        prometheus.disable_created_metrics()
        self.registry = prometheus.CollectorRegistry()
        labels = ("http_request_method", "http_route", "http_response_status_code")
        self.duration = prometheus.Histogram(
            "http_server_request_duration_seconds", "Seconds from a request to the end of its "
            "answer.", labels, buckets=_BUCKETS, registry=self.registry,
        )  # fmt: skip
        self.active = self._gauge("http_server_active_requests", "Without a whole answer.")
        self.queued = self._gauge("stratos_queued_requests", "That wait for a slot.")
        self.tokens = self._counter("gen_ai_client_token_usage", "Tokens.", ["gen_ai_token_type"])
        self.resent = self._counter("stratos_resent_requests", "Sent again: their engine ended.")
        self.restarts = self._counter("stratos_engine_restarts", "Engines that ended.", ["reason"])
        self.swaps = self._counter("stratos_swaps", "Students that were replaced.")
        self.started = self._gauge(
            "stratos_engine_start_time_seconds", "When the engine was started, since 1970."
        )
        self.student = self._gauge(
            "stratos_student_info", "What answers.", ["bundle", "version", "engine", "format"]
        )

    def _gauge(self, name: str, text: str, labels: tuple[str, ...] | list[str] = ()) -> Any:
        return prometheus.Gauge(name, text, labels, registry=self.registry)

    def _counter(self, name: str, text: str, labels: tuple[str, ...] | list[str] = ()) -> Any:
        return prometheus.Counter(name, text, labels, registry=self.registry)


class _Server(uvicorn.Server):
    """A server that looks twice a second, not ten times, whether it is to end: it mostly idles."""

    @override
    async def main_loop(self) -> None:
        while not self.should_exit:
            await asyncio.sleep(_LOOK_S)


class Proxy:
    """Listens at a hosted student's address, in a thread of its own."""

    def __init__(self, hosted: Hosted) -> None:
        """Listen, without an answer yet.

        Raises:
            OSError: the port is taken.
        """
        self.metrics, self.is_given_up = Metrics(), False
        self._name, self._slots = hosted.name, hosted.at_once
        self._upstream = Upstream(0)
        self.metrics.queued.set_function(lambda: max(0, self._upstream.n_open - self._slots))
        self._socket = _listening(hosted.host, hosted.port)
        app = _Counted(NoOtherSite(self._application(hosted.key), hosted.host), self.metrics)
        self._server = _Server(
            uvicorn.Config(
                app, log_level="error", access_log=False, timeout_keep_alive=KEEP_S,
                timeout_graceful_shutdown=int(STOP_S), lifespan="off", date_header=False,
                proxy_headers=False,
            )
        )  # fmt: skip
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def start(self) -> None:
        """Answer requests from now on."""
        allow_open_files()
        self._thread.start()

    def stop(self) -> None:
        """End: what is under way is answered first, for `STOP_S` at most."""
        self.is_given_up = True
        self._server.should_exit = True
        self._thread.join(2 * STOP_S)
        self._socket.close()

    def turn_to(self, upstream: Upstream, hosted: Hosted) -> Upstream:
        """Send requests to an engine from now on; return the one that they went to before."""
        before, self._upstream, self._slots = self._upstream, upstream, hosted.at_once
        self._name = hosted.name
        self.metrics.started.set_to_current_time()
        self.metrics.student.clear()
        self.metrics.student.labels(
            hosted.bundle, hosted.version, hosted.engine, hosted.format
        ).set(1)
        return before

    def _serve(self) -> None:
        asyncio.run(self._server.serve(sockets=[self._socket]))

    def _application(self, key: str) -> Starlette:
        app = Starlette(
            routes=[
                Route(HEALTH, self._health),
                Route(READY, self._ready),
                Route(METRICS, self._metrics),
                Route("/v1/models", self._models),
                Route("/v1/{rest:path}", self._passed, methods=["GET", "POST"]),
            ],
            exception_handlers={HTTPException: no_path, ClientDisconnect: gone},
            middleware=[Middleware(_Keyed, key=key)] if key else [],
        )
        app.router.redirect_slashes = False
        return app

    async def _health(self, request: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def _ready(self, request: Request) -> Response:
        is_ready = await self._text_of_engine(HEALTH) is not None
        state = "ok" if is_ready else "given up" if self.is_given_up else "starting"
        return JSONResponse({"status": state}, 200 if is_ready else 503)

    async def _metrics(self, request: Request) -> Response:
        """Return what is counted here, and what the engine counts."""
        text = prometheus.generate_latest(self.metrics.registry)
        text += await self._text_of_engine(METRICS, "text/plain") or b""
        return Response(text, media_type="text/plain; version=0.0.4; charset=utf-8")

    async def _text_of_engine(self, path: str, kind: str = "") -> bytes | None:
        """Return what the engine says of itself at a path; None where it does not."""
        with suppress(UnreachableError, BrokenError):
            answer = await ask_engine(self._upstream.port, path, answer_s=5.0)
            text = await answer.read()
            if answer.status == 200 and answer.headers.get("content-type", "").startswith(kind):
                return text
        return None

    async def _models(self, request: Request) -> Response:
        """Name the student, as clients know it."""
        try:
            upstream, *_ = await self._sent(request, b"")
        except EngineDownError:
            return _unavailable()
        entry = {"object": "model", "created": 0, "owned_by": "stratos"}
        return JSONResponse(
            {"object": "list", "data": [{"id": name, **entry} for name in upstream.models]}
        )

    async def _passed(self, request: Request) -> Response:
        """Pass a request on to the engine, and its answer back."""
        if {"", ".", ".."} & set(request.path_params["rest"].split("/")):  # elsewhere in the engine
            raise HTTPException(404)
        return await handled(
            request, self._upstream.n_open, lambda data: self._answered(request, data)
        )

    async def _answered(self, request: Request, data: bytes) -> Response:
        body: Body = data
        try:
            if request.scope["path"] == CHAT and request.method == "POST":
                body = parsed(data)
                chat_of(body.get("messages"))  # every kind of student refuses the same
        except ValueError as error:
            return api_error(400, str(error))
        try:
            upstream, answer, content = await self._sent(request, body)
        except EngineDownError:
            return _unavailable()
        except NoModelError as error:
            return api_error(404, str(error), code="model_not_found")
        exchange = _exchange(request.scope)
        headers = {k: v for k, v in answer.headers.items() if k not in _OF_CONNECTION}
        if content is None:
            parts = self._events(exchange, upstream, answer)
            return StreamingResponse(parts, answer.status, headers)
        return Response(self._as_served(exchange, upstream, content), answer.status, headers)

    async def _sent(
        self, request: Request, body: Body
    ) -> tuple[Upstream, EngineAnswer, bytes | None]:
        """Send a request until an engine answers it; return both, and the text of no stream.

        Raises:
            EngineDownError: none does.
            NoModelError: it is for another model.
        """
        until, n_broken = time.monotonic() + WAIT_S, 0
        exchange = _exchange(request.scope)
        while True:
            upstream = self._upstream
            exchange.move_to(upstream)
            try:
                answer = exchange.answer = await self._send(request, upstream, body)
                return upstream, answer, None if answer.is_stream else await answer.read()
            except UnreachableError:  # it starts, or has ended: it has not read the request
                pass
            except BrokenError:
                n_broken += 1
                self.metrics.resent.inc()
            if n_broken >= MOST_BROKEN or self.is_given_up or time.monotonic() > until:
                raise EngineDownError
            await asyncio.sleep(AGAIN_S)

    async def _send(self, request: Request, upstream: Upstream, body: Body) -> EngineAnswer:
        """Send a request once; return its answer when it begins."""
        if not upstream.models:
            upstream.models = await self._names(upstream)
        query = f"?{request.url.query}" if request.url.query else ""
        path = request.scope["raw_path"].decode("latin-1") + query
        data = _with_model(body, upstream.models)
        return await ask_engine(upstream.port, path, data, request.method)

    async def _names(self, upstream: Upstream) -> dict[str, str]:
        """Return the student's names, and those of what an engine serves beside it, with its own.

        Raises:
            UnreachableError, BrokenError: it does not say.
        """
        listed = await (await ask_engine(upstream.port, "/v1/models")).read()
        try:
            models = [str(entry["id"]) for entry in json.loads(listed)["data"]]
            first = models[0]
        except (ValueError, LookupError, TypeError) as error:
            raise UnreachableError from error
        own = [model for model in models if model.startswith(first)]
        return {self._name + model.removeprefix(first): model for model in own}

    async def _events(
        self, exchange: Exchange, upstream: Upstream, answer: EngineAnswer
    ) -> AsyncIterator[bytes]:
        """Yield a stream's events, which name the student as clients know it."""
        rest = b""
        try:
            async for part in answer.parts():
                *lines, rest = (rest + part).split(b"\n")
                yield b"".join(self._event(exchange, upstream, line) + b"\n" for line in lines)
            yield rest
        except BrokenError:  # its client has a part of the answer: it cannot begin anew
            exchange.is_cut = True
            yield b"data: " + bytes(_unavailable().body) + b"\n\n"

    def _event(self, exchange: Exchange, upstream: Upstream, line: bytes) -> bytes:
        mark, data = line[:6], line[6:]
        if mark != b"data: " or not data.startswith(b"{"):
            return line
        return mark + self._as_served(exchange, upstream, data)

    def _as_served(self, exchange: Exchange, upstream: Upstream, data: bytes) -> bytes:
        """Return an answer, or a part of one, with the student's name; count its tokens."""
        body = _object(data)
        if body is None:
            return data
        if isinstance(usage := body.get("usage"), dict):
            kinds = {"input": "prompt_tokens", "output": "completion_tokens"}
            exchange.usage = {kind: int(usage.get(key) or 0) for kind, key in kinds.items()}
        for name, own in upstream.models.items():
            if body.get("model") == own:
                return json.dumps({**body, "model": name}).encode()
        return data


def _listening(host: str, port: int) -> socket.socket:
    """Return a socket that listens.

    Raises:
        OSError: the port is taken.
    """
    # Of no named protocol, asyncio would let the second half of an answer wait for an ACK: 40 ms.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(MOST_WAITING)
    except OSError:
        listener.close()
        raise
    return listener


def _with_model(data: Body, models: Mapping[str, str]) -> bytes:
    """Return a request with the engine's own name of the model: the student if it names none.

    Raises:
        NoModelError: it names another.
    """
    body = _object(data) if isinstance(data, bytes) else data
    if body is None:
        assert isinstance(data, bytes), "it is no object"
        return data
    served = next(iter(models))
    name = str(served if body.get("model") is None else body["model"])
    if name not in models:
        name = name if len(name) <= _SHOWN else f"{name[:_SHOWN]}…"
        raise NoModelError(f"The model `{name}` does not exist here. Ask for `{served}`.")
    return json.dumps({**body, "model": models[name]}).encode()


def _object(data: bytes) -> dict[str, Any] | None:
    """Return the object that a text is; None where it is none, which is the engine's to refuse."""
    with suppress(ValueError, RecursionError):
        body = json.loads(data)
        return body if isinstance(body, dict) else None
    return None


def _unavailable() -> Response:
    message = "The student's engine does not answer. Ask again later."
    return api_error(503, message, {"Retry-After": "5"})


def _exchange(scope: Scope) -> Exchange:
    exchange: Exchange = scope["stratos.exchange"]
    return exchange


class _Keyed:
    """Asks for the key, but at what is open to all."""

    def __init__(self, app: ASGIApp, key: str) -> None:
        self._app, self._expected = app, f"Bearer {key}".encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        sent = dict(scope["headers"]).get(b"authorization", b"")
        if scope["path"] in OPEN or hmac.compare_digest(sent, self._expected):
            await self._app(scope, receive, send)
            return
        refusal = api_error(401, "Unknown API key.", {"WWW-Authenticate": "Bearer"})
        await refusal(scope, receive, send)


class _Counted:
    """Counts requests, and writes a line of each."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app, self._metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        exchange = scope["stratos.exchange"] = Exchange()
        began, status = time.monotonic(), GONE

        async def passed_on(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        with self._metrics.active.track_inprogress():
            try:
                await self._app(scope, receive, passed_on)
            finally:
                exchange.close()
                self._count(scope, exchange, 502 if exchange.is_cut else status, began)

    def _count(self, scope: Scope, exchange: Exchange, status: int, began: float) -> None:
        seconds, method = time.monotonic() - began, scope["method"]
        route = scope["path"] if scope["path"] in ROUTES else "other"
        method = method if method in ("GET", "POST") else "other"
        self._metrics.duration.labels(method, route, str(status)).observe(seconds)
        for kind, n in exchange.usage.items():
            self._metrics.tokens.labels(kind).inc(n)
        if route not in (*OPEN, METRICS):
            tokens = "".join(f" {kind}={n}" for kind, n in exchange.usage.items())
            log(f"{method} {route} {status} {seconds:.3f}s{tokens}")


def log(line: str) -> None:
    """Write a line with its time to the log of a hosted student."""
    with suppress(OSError, ValueError):  # of a full disk
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        sys.stdout.write(f"{now} {line}\n")
        sys.stdout.flush()
