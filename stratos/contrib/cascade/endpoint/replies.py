"""What a cascade sends back: a completion or a stream, who answered, and why there is none."""

from __future__ import annotations

import json
import math
from collections.abc import AsyncIterator, Mapping
from typing import TYPE_CHECKING, Any

from stratos.contrib.cascade.endpoint.unavailable import UnavailableError, Why
from stratos.contrib.cascade.judge import Said, StudentError
from stratos.deploy.engines.http_api import api_error

if TYPE_CHECKING:
    from starlette.responses import Response

_STATUS = {Why.RATE_LIMITED: 429, Why.TIMEOUT: 504}


def completion_of(said: Said, name: str) -> dict[str, Any]:
    """Return the student's answer without how likely it found its tokens."""
    choices = [
        {key: value for key, value in one.items() if key != "logprobs"}
        for one in said.reply["choices"]
    ]
    return {**said.reply, "choices": choices, "model": name}


def headers_of(by: str, teacher: str) -> dict[str, str]:
    """Return who answered, and what became of the teacher, as headers."""
    return {"X-Stratos-Answer": by, "X-Stratos-Teacher": teacher}


def streamed(
    reply: Mapping[str, Any], headers: Mapping[str, str], with_usage: bool = False
) -> Response:
    """Return a whole answer as the events of a stream, the last of them with the tokens it took."""
    from starlette.responses import StreamingResponse

    choice = reply["choices"][0]
    head = {key: reply.get(key) for key in ("id", "created", "model")}
    head["object"] = "chat.completion.chunk"

    def event(more: Mapping[str, Any]) -> str:
        return f"data: {json.dumps({**head, **more})}\n\n"

    def part(delta: Mapping[str, Any], finish: str | None = None) -> str:
        return event({"choices": [{"index": 0, "delta": delta, "finish_reason": finish}]})

    async def events() -> AsyncIterator[str]:
        yield part({"role": "assistant", "content": ""})
        yield part({"content": choice["message"]["content"] or ""})
        yield part({}, choice.get("finish_reason") or "stop")
        if with_usage and reply.get("usage"):
            yield event({"choices": [], "usage": reply["usage"]})
        yield "data: [DONE]\n\n"

    return StreamingResponse(events(), headers=dict(headers), media_type="text/event-stream")


def as_json(reply: Mapping[str, Any], headers: Mapping[str, str]) -> Response:
    """Return a whole answer."""
    from starlette.responses import JSONResponse

    return JSONResponse(reply, headers=dict(headers))


def of_student(error: StudentError) -> Response:
    """Return what the student's server said of a request that it refuses."""
    from starlette.responses import Response

    if error.body:
        return Response(error.body, error.status, media_type="application/json")
    return api_error(error.status, str(error))


def unavailable(error: UnavailableError) -> Response:
    """Return the error of a request whose teacher gives no answer."""
    wait = error.retry_after_s
    headers = headers_of("none", error.why.value)
    headers["Retry-After"] = str(math.ceil(1.0 if wait is None else max(1.0, wait)))
    told = f"The student is unsure, and the teacher gives no answer ({error.why.value})."
    return api_error(_STATUS.get(error.why, 503), told, headers)
