"""The web application of a cascade: the student answers, and what it is unsure of the teacher.

Requests are held until they are judged: a stream begins when it is known who answers. What is asked
is written nowhere. `X-Stratos-Answer` says who answered, `X-Stratos-Teacher` what became of the
teacher: not-asked, answered, or why it was not to be had.
"""

from __future__ import annotations

import asyncio
import json
import logging
import math
import ssl
import time
import uuid
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

import anyio
import httpx
import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from stratos.contrib.cascade.endpoint.escalator import Escalator, UnavailableError, Why
from stratos.contrib.cascade.endpoint.meter import ALONE, Meter
from stratos.contrib.cascade.record import Escalation
from stratos.contrib.cascade.threshold import (
    Judge,
    StudentAnswer,
    StudentError,
    bared,
    is_escalated,
)
from stratos.deploy.engines.chat_ids import first_stop
from stratos.deploy.engines.chat_request import deltas_of, message_of
from stratos.deploy.engines.http_api import (
    GONE,
    api_error,
    chat_of,
    gone,
    parsed,
    read_body,
    unless_gone,
)
from stratos.tasks.base import Message, Task
from stratos.teachers.base import LENGTH, Answer
from stratos.teachers.prompting import chat

_ONLY = {
    "temperature": 0, "top_p": 1, "n": 1, "frequency_penalty": 0, "presence_penalty": 0,
    "tool_choice": "auto", "parallel_tool_calls": True,
}  # fmt: skip
"""Options with the only value that the promise was measured with."""
_NOT_SERVED = ("logprobs", "top_logprobs", "logit_bias", "functions", "function_call")


@dataclass(frozen=True)
class ChatQuestion:
    """A request that a cascade answers."""

    messages: list[Message]
    stops: list[str]
    """Texts that end the answer."""
    limit: int | None
    """Longest answer that is wanted, in tokens; None where it is not said."""
    is_stream: bool
    with_usage: bool
    """Whether a stream ends with the tokens that it took."""
    has_tools: bool = False
    """Whether it offers tools, so that the answer may be calls."""


def asked_of(body: Mapping[str, Any], model: str, task: Task) -> ChatQuestion:
    """Return what a request asks for.

    Args:
        body: of the request, parsed.
        model: name of the cascade.
        task: that the student has learnt.

    Raises:
        ValueError: it asks for what a cascade does not have.
    """
    own = f"The student alone takes it: ask for the model {model}{ALONE}."
    try:
        chat = chat_of(body.get("messages"))
    except msgspec.ValidationError as error:
        raise ValueError(f"messages: {error}") from None
    for name in _NOT_SERVED:
        if body.get(name) not in (None, False, [], {}):
            raise ValueError(f"{name}: a cascade does not have it. {own}")
    for name, only in _ONLY.items():
        if body.get(name) not in (None, only):
            raise ValueError(f"{name}: the promise was measured with {only}. Leave it out. {own}")
    if body.get("response_format") not in (None, {"type": "text"}):
        raise ValueError(f"response_format: the promise was measured without it. {own}")
    limit: int | None = None
    for name in ("max_tokens", "max_completion_tokens"):
        value = body.get(name)
        if value is None:
            continue
        if type(value) is not int or value < 1:
            raise ValueError(f"{name}: expected a whole number of at least 1.")
        limit = value if limit is None else min(limit, value)
    stream = body.get("stream")
    if stream is not None and not isinstance(stream, bool):
        raise ValueError("stream: expected true or false.")
    how = body.get("stream_options")
    if how is not None and not isinstance(how, dict):
        raise ValueError("stream_options: expected an object.")
    has_tools = body.get("tools") not in (None, [])
    messages: list[Message] = [
        {"role": message["role"], "content": message["content"]} for message in chat
    ]
    if has_tools:
        with_tools = _with_tools(task, chat, body["tools"])
        if with_tools is None:
            raise ValueError(f"tools: the student of this cascade calls none. {own}")
        messages = with_tools
    return ChatQuestion(
        messages, _stops(body.get("stop")), limit, bool(stream),
        bool(how and how.get("include_usage")), has_tools,
    )  # fmt: skip


def _with_tools(task: Task, chat: Sequence[Mapping[str, Any]], tools: Any) -> list[Message] | None:
    """Return the chat that asks the student with tools; None where its task has none.

    Raises:
        ValueError: they, or calls of the chat, cannot be read.
    """
    if not isinstance(tools, list):
        raise ValueError("tools: expected a list of tools.")
    return task.chat_of_request(chat, tools)


def _stops(value: Any) -> list[str]:
    """Return the texts that end an answer.

    Raises:
        ValueError: they are no texts.
    """
    stops = [value] if isinstance(value, str) else [] if value is None else value
    if not isinstance(stops, list) or not all(isinstance(stop, str) and stop for stop in stops):
        raise ValueError("stop: expected a text, or a list of texts, none of them empty.")
    return stops


_STATUS = {Why.RATE_LIMITED: 429, Why.TIMEOUT: 504}


def message_to(question: ChatQuestion, text: str, finish: str) -> tuple[dict[str, Any], str]:
    """Return an answer as a message, and why it ended; a text ends at a stop, calls do not."""
    message, finish = message_of(text, finish, None if question.has_tools else 0)
    if content := message["content"]:
        message["content"] = content[: first_stop(content, question.stops)]
    return message, finish


def completion_of(answer: StudentAnswer, name: str, question: ChatQuestion) -> dict[str, Any]:
    """Return the student's answer without how likely it found its tokens, as calls if it is some.

    It was asked with the tools in its text, as in its evaluation, so that its calls come as text.
    """
    choices = []
    for choice in answer.reply["choices"]:
        shown = {key: value for key, value in choice.items() if key != "logprobs"}
        if question.has_tools:
            text = choice["message"]["content"] or ""
            message, finish = message_to(question, text, choice["finish_reason"])
            shown.update(message=message, finish_reason=finish)
        choices.append(shown)
    return {**answer.reply, "choices": choices, "model": name}


def headers_of(by: str, teacher: str) -> dict[str, str]:
    """Return who answered, and what became of the teacher, as headers."""
    return {"X-Stratos-Answer": by, "X-Stratos-Teacher": teacher}


def streamed(
    reply: Mapping[str, Any], headers: Mapping[str, str], with_usage: bool = False
) -> Response:
    """Return a whole answer as the events of a stream, the last of them with the tokens it took."""
    choice = reply["choices"][0]
    head = {key: reply.get(key) for key in ("id", "created", "model")}
    head["object"] = "chat.completion.chunk"

    def event(more: Mapping[str, Any]) -> str:
        return f"data: {json.dumps({**head, **more})}\n\n"

    def part(delta: Mapping[str, Any], finish: str | None = None) -> str:
        return event({"choices": [{"index": 0, "delta": delta, "finish_reason": finish}]})

    async def events() -> AsyncIterator[str]:
        yield part({"role": "assistant", "content": ""})
        for delta in deltas_of(choice["message"].get("tool_calls", ())):
            yield part(delta)
        if text := choice["message"]["content"]:
            yield part({"content": text})
        yield part({}, choice.get("finish_reason") or "stop")
        if with_usage and reply.get("usage"):
            yield event({"choices": [], "usage": reply["usage"]})
        yield "data: [DONE]\n\n"

    return StreamingResponse(events(), headers=dict(headers), media_type="text/event-stream")


def of_student(error: StudentError) -> Response:
    """Return what the student's server said of a request that it refuses."""
    if error.body:
        return Response(error.body, error.status, media_type="application/json")
    return api_error(error.status, str(error))


def unavailable(error: UnavailableError) -> Response:
    """Return the error of a request whose teacher gives no answer."""
    wait = error.retry_after_s
    headers = headers_of("none", error.why.value)
    headers["Retry-After"] = str(math.ceil(1.0 if wait is None else max(1.0, wait)))
    message = f"The student is unsure, and the teacher gives no answer ({error.why.value})."
    return api_error(_STATUS.get(error.why, 503), message, headers)


MOST_BYTES = 2 * 2**20
MOST_WAITING = 1024


@dataclass(frozen=True)
class Cascading:
    """What a cascade is made of, beside its connections."""

    name: str
    """Of the model."""
    task: Task
    judge: Judge
    endpoint: Escalation
    threshold: float
    is_error: bool
    """Whether a request gets an error where the teacher is not to be had."""


def application(
    cascading: Cascading, student: httpx.AsyncClient, escalator: Escalator, meter: Meter
) -> Starlette:
    """Return the web application.

    Args:
        cascading: what is judged, and how.
        student: client of the student's server.
        escalator: asks the teacher.
        meter: counts.
    """
    front = _Front(cascading, student, escalator, meter)

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        try:
            yield
        finally:
            await escalator.close()
            meter.close()
            await student.aclose()

    app = Starlette(
        lifespan=lifespan,
        routes=[
            Route(
                "/v1/chat/completions",
                front.chat,
                methods=["POST"],
                middleware=[Middleware(Waiting, most=MOST_WAITING, refusal=_too_many)],
            ),
            Route("/v1/models", front.models),
            Route("/health", front.health),
            Route("/metrics", front.metrics),
            Route("/cascade", front.facts),
        ],
        exception_handlers={HTTPException: _no_path, ClientDisconnect: gone},
    )
    app.router.redirect_slashes = False
    return app


class _Front:
    """Answers requests."""

    def __init__(
        self, cascading: Cascading, student: httpx.AsyncClient, escalator: Escalator, meter: Meter
    ) -> None:
        self._cascading, self._student = cascading, student
        self._escalator, self._meter = escalator, meter
        self._model = ""

    async def health(self, request: Request) -> Response:
        """Say whether the student's server answers."""
        try:
            answer = await self._student.get("/health", timeout=5)
            status = answer.status_code
        except httpx.HTTPError:
            status = 503
        return JSONResponse({"status": "ok" if status == 200 else "starting"}, status)

    async def models(self, request: Request) -> Response:
        """Name the cascade, and the student alone."""
        names = (self._cascading.name, f"{self._cascading.name}{ALONE}")
        listed = [
            {"id": name, "object": "model", "created": 0, "owned_by": "stratos"} for name in names
        ]
        return JSONResponse({"object": "list", "data": listed})

    async def facts(self, request: Request) -> Response:
        """Return the counters as JSON."""
        return JSONResponse(vars(self._meter.facts()))

    async def metrics(self, request: Request) -> Response:
        """Return the counters as Prometheus reads them."""
        return PlainTextResponse(metrics_of(self._meter), media_type="text/plain; version=0.0.4")

    async def chat(self, request: Request) -> Response:
        """Answer a chat."""
        data = await read_body(request, MOST_BYTES)
        if data is None:
            self._meter.counters.refused += 1
            return api_error(413, f"A request may have {MOST_BYTES // 2**20} MiB.")
        try:
            body = parsed(data)
            if str(body.get("model", "")).endswith(ALONE):
                return await self._alone(body)
            question = asked_of(body, self._cascading.name, self._cascading.task)
        except (ValueError, RecursionError) as error:
            self._meter.counters.refused += 1
            return api_error(400, str(error))
        try:
            return await self._judged(request, question)
        except Exception as error:  # its text, which a log would have, may hold what was asked
            message = f"The cascade could not answer ({type(error).__name__})."
            return api_error(500, message)

    async def _judged(self, request: Request, question: ChatQuestion) -> Response:

        answered = await unless_gone(request, self._answered(question))
        if answered is None:
            return Response(status_code=GONE)
        if isinstance(answered, Response):
            return answered
        reply, headers = answered
        if question.is_stream:
            return streamed(reply, headers, question.with_usage)
        return JSONResponse(reply, headers=headers)

    async def _judge(self) -> Judge:
        """Return what asks the student, by the name that its server has for it."""
        judge = self._cascading.judge
        if not self._model:
            try:
                listed = await self._student.get("/v1/models")
                self._model = str(listed.json()["data"][0]["id"])
            except (httpx.HTTPError, ValueError, LookupError) as error:
                why = f"The student does not answer ({type(error).__name__})."
                raise StudentError(503, b"", why) from error
        return replace(judge, model=self._model)

    async def _answered(
        self, question: ChatQuestion
    ) -> tuple[dict[str, Any], dict[str, str]] | Response:
        """Ask the student, and the teacher if need be; return a completion and its headers."""
        cascading, counters = self._cascading, self._meter.counters
        counters.requests += 1
        longest = cascading.endpoint.student_tokens
        longest = longest if question.limit is None else min(longest, question.limit)
        # A stop inside of calls would cut them.
        has_stops = question.stops and not question.has_tools
        options = {"stop": question.stops} if has_stops else {}
        try:
            judge = await self._judge()
            judged = await judge.ask(self._student, question.messages, longest, options)
        except StudentError as error:
            counters.student_errors += 1
            return of_student(error)
        own = completion_of(judged, cascading.name, question)
        if not is_escalated(judged.confidence, cascading.threshold):
            return own, headers_of("student", "not-asked")
        counters.escalated += 1
        try:
            answer = await self._escalator.ask(self._question(question.messages), question.limit)
            self._check_calls(answer, question)
        except UnavailableError as error:
            if cascading.is_error and error.why is not Why.OUT_OF_MONEY:
                return unavailable(error)
            return own, headers_of("student", error.why.value)
        return self._by_teacher(answer, question), headers_of("teacher", "answered")

    def _question(self, messages: list[Message]) -> list[Message]:
        """Return how the teacher is asked what the student was: with the prompt of the run."""
        item = self._cascading.task.item_of_chat(messages)
        if item is None:
            return messages
        return chat(self._cascading.task, item, self._cascading.endpoint.prompt)

    def _check_calls(self, answer: Answer, question: ChatQuestion) -> None:
        """Refuse an answer with calls that the request's tools do not have, and an empty one.

        Raises:
            UnavailableError: it is one.
        """
        task = self._cascading.task
        item = task.item_of_chat(question.messages) if question.has_tools else None
        if item is not None and (not answer.text.strip() or task.refute(item, answer.text)):
            raise UnavailableError(Why.REFUSED)

    def _by_teacher(self, answer: Answer, question: ChatQuestion) -> dict[str, Any]:
        """Return the teacher's answer as a completion, in the form that the student's have."""
        cascading, text = self._cascading, answer.text
        item = cascading.task.item_of_chat(question.messages)
        is_bare = cascading.endpoint.is_bare or question.has_tools
        if is_bare and item is not None:
            text = bared(cascading.task, item, text)
        finish = "length" if answer.finish == LENGTH else "stop"
        message, finish = message_to(question, text, finish)
        n_in, n_out = answer.input_tokens, answer.output_tokens
        return {
            "id": f"chatcmpl-{uuid.uuid4().hex}",
            "object": "chat.completion",
            "created": int(time.time()),
            "model": cascading.endpoint.teacher,
            "choices": [{"index": 0, "message": message, "finish_reason": finish}],
            "usage": {
                "prompt_tokens": n_in, "completion_tokens": n_out, "total_tokens": n_in + n_out,
            },
        }  # fmt: skip

    async def _alone(self, body: Mapping[str, Any]) -> Response:
        """Hand a request on to the student, and its answer back as it comes."""
        try:
            model = (await self._judge()).model
            passed_on = self._student.build_request(
                "POST", "/v1/chat/completions", json={**body, "model": model}
            )
            answer = await self._student.send(passed_on, stream=True)
        except httpx.HTTPError as error:
            self._meter.counters.student_errors += 1
            return api_error(502, f"The student does not answer ({type(error).__name__}).")
        except StudentError as error:
            return of_student(error)
        return PassedOn(
            answer.aiter_raw(),
            answer,
            answer.status_code,
            {"content-type": answer.headers.get("content-type", "application/json")},
        )


def metrics_of(meter: Meter) -> str:
    """Return the counters in the text format of Prometheus."""
    lines = []
    for name, value in vars(meter.facts()).items():
        if value is None:
            continue
        is_gauge = name.startswith("usd_")
        full = f"stratos_cascade_{name}" + ("" if is_gauge else "_total")
        lines += [f"# TYPE {full} {'gauge' if is_gauge else 'counter'}", f"{full} {value:.10g}"]
    return "\n".join([*lines, ""])


def _too_many() -> Response:
    message = f"{MOST_WAITING:,} requests wait already. Ask again later."
    return api_error(429, message, {"Retry-After": "1"})


async def _no_path(request: Request, error: Exception) -> Response:

    assert isinstance(error, HTTPException)
    message = f"{request.method} {request.url.path}: this server does not have it."
    return api_error(error.status_code, message, error.headers)


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
