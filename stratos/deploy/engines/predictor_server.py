"""Serve a student that predicts, as an OpenAI-compatible server: all but free language models.

    python -m stratos.deploy.engines.predictor_server serve BUNDLE --port 8000

The text is the last message of the user; a system message and earlier turns are not read. The
answer is one token, whose log-probability is that of the answer. Requests that wait while others
are answered are answered together: most of what one text takes is the call.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import logging
import math
import os
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from stratos.core.errors import StratosError
from stratos.deploy.engines.chat_ids import LEAST_LOGPROB, first_stop
from stratos.deploy.engines.chat_request import (
    TOO_DEEP,
    chat_of,
    common_of,
    n_tokens_of,
    options_of,
    parsed,
)
from stratos.deploy.engines.http_api import (
    MOST_BYTES,
    allow_open_files,
    api_error,
    event,
    head_of,
    leave_out_of_log,
    models_of,
    name_of,
    read_body,
    too_long,
    web_application,
)
from stratos.models.kinds.base import Prediction, Predictor, load_predictor, text_of

NOT_SERVED = ("tools", "functions", "logit_bias", "response_format")
"""Options that would change an answer, and that are refused in place of ignored."""
MOST_OTHERS = 20
"""Answers that `top_logprobs` may ask for."""
LONG = 2**14
"""Characters of the texts of one call from which it has a thread of its own, so that the server
goes on to answer whether it is well."""


def main(argv: Sequence[str] | None = None) -> None:
    """Serve a bundle until the process ends; exit with 1 where it cannot be read."""
    parser = argparse.ArgumentParser(prog="python -m stratos.deploy.engines.predictor_server")
    commands = parser.add_subparsers(dest="command", required=True)
    serve = commands.add_parser("serve", help="serve a bundle until the process ends")
    serve.add_argument("bundle", type=Path)
    serve.add_argument("--host", default="127.0.0.1")
    serve.add_argument("--port", type=int, default=8000)
    serve.add_argument("--slots", type=int, default=16, help="texts answered together at most")
    args = parser.parse_args(argv)
    # Of a few short texts, threads wait for each other.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    try:
        student = load_predictor(args.bundle)
        student.predict(["Hello"])  # what is made when it is first needed is made now
    except StratosError as error:
        print(error, file=sys.stderr, flush=True)
        sys.exit(1)
    import uvicorn

    # What was loaded stays: the collector of garbage would look through all of it again and again.
    gc.collect()
    gc.freeze()
    leave_out_of_log()
    allow_open_files()
    app = application(student, name_of(args.bundle), args.slots)
    uvicorn.run(app, host=args.host, port=args.port, log_level="warning", access_log=False)


def application(student: Predictor, model: str, slots: int) -> Starlette:
    """Return the web application that answers chats with a student's answers.

    Args:
        student: who answers.
        model: its name.
        slots: texts that it answers together at most; `MOST_WAITING` more wait.
    """
    front = _Front(_Together(student, slots), model)
    return web_application(front.chat, front.models, front.health, slots)


class _Together:
    """Answers the texts that wait in one call, and those that come meanwhile in the next."""

    def __init__(self, student: Predictor, most: int) -> None:
        self._student, self._most = student, most
        self._waiting: list[tuple[str, asyncio.Future[Prediction]]] = []
        self._work: asyncio.Task[None] | None = None

    async def answer(self, text: str) -> Prediction:
        """Return the answer to a text."""
        future: asyncio.Future[Prediction] = asyncio.get_running_loop().create_future()
        self._waiting.append((text, future))
        if self._work is None or self._work.done():
            # It begins after the requests that have been read by now: they are in its first call.
            self._work = asyncio.create_task(self._answer_all())
        return await future

    async def _answer_all(self) -> None:
        while self._waiting:
            now, self._waiting = self._waiting[: self._most], self._waiting[self._most :]
            texts = [text for text, _ in now]
            try:
                if self._student.uses_torch or sum(map(len, texts)) > LONG:
                    answers = await run_in_threadpool(self._student.predict, texts)
                else:  # faster than to hand it to a thread
                    answers = self._student.predict(texts)
                    await asyncio.sleep(0)
            except Exception as error:  # of the student's own: its server goes on
                logging.getLogger(__name__).exception("The student failed.")
                for _, future in now:
                    if not future.done():
                        future.set_exception(StratosError(f"The student failed ({error!r})."))
                continue
            for (_, future), answer in zip(now, answers, strict=True):
                if not future.done():  # its client may be gone
                    future.set_result(answer)


@dataclass(frozen=True)
class _Asked:
    """What a request asks for."""

    text: str
    stops: list[str]
    is_stream: bool
    has_logprobs: bool
    n_likeliest: int
    """Answers that are listed with their log-probabilities."""

    @classmethod
    def read(cls, data: bytes) -> _Asked:
        """Return what a request asks for.

        Raises:
            ValueError: it is not one that can be answered.
        """
        try:
            body = parsed(data)
        except RecursionError:
            raise ValueError(TOO_DEEP) from None
        messages = chat_of(body.get("messages"))
        for name in NOT_SERVED:
            if body.get(name) not in (None, False, [], {}, {"type": "text"}):
                raise ValueError(f"{name}: this server does not have it.")
        is_stream, has_logprobs, stops = common_of(body)
        options_of(body)  # checked; an answer is always the likeliest
        n_tokens_of(body)
        n = body.get("top_logprobs")
        if n is not None and (type(n) is not int or not 0 <= n <= MOST_OTHERS):
            raise ValueError(f"top_logprobs: expected a whole number from 0 to {MOST_OTHERS}.")
        if n and not has_logprobs:
            raise ValueError("top_logprobs: they come with logprobs=true.")
        return cls(text_of(messages), stops, is_stream, has_logprobs, n or 0)


@dataclass(eq=False)
class _Front:
    """The OpenAI API, as far as a student that writes no tokens has it."""

    _student: _Together
    _model: str

    async def health(self, request: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def models(self, request: Request) -> Response:
        return models_of(self._model)

    async def chat(self, request: Request) -> Response:
        """Answer a chat, at once or in parts."""
        data = await read_body(request, MOST_BYTES)
        if data is None:
            return too_long()
        try:
            asked = _Asked.read(data)
        except (ValueError, TypeError) as error:
            return api_error(400, str(error))
        try:
            found = await self._student.answer(asked.text)
        except StratosError as error:
            return api_error(500, str(error))
        text = found.text[: first_stop(found.text, asked.stops)]
        head, usage = head_of(self._model), _usage(asked.text)
        if asked.is_stream:
            parts = _stream(head | {"object": "chat.completion.chunk"}, text, usage)
            return StreamingResponse(parts, media_type="text/event-stream")
        message = {"role": "assistant", "content": text}
        choice: dict[str, Any] = {"index": 0, "message": message, "finish_reason": "stop"}
        if asked.has_logprobs:
            choice["logprobs"] = {"content": [_likelihood(found, asked.n_likeliest)]}
        return JSONResponse(
            {**head, "object": "chat.completion", "choices": [choice], "usage": usage}
        )


async def _stream(
    head: Mapping[str, Any], text: str, usage: Mapping[str, Any]
) -> AsyncIterator[str]:
    yield event(head, {"role": "assistant", "content": ""})
    yield event(head, {"content": text})
    yield event(head, {}, "stop", usage)
    yield "data: [DONE]\n\n"


def _usage(text: str) -> dict[str, int]:
    """Return words of the text as tokens: what is no language model has none of its own."""
    n = len(text.split())
    return {"prompt_tokens": n, "completion_tokens": 1, "total_tokens": n + 1}


def _likelihood(found: Prediction, n: int) -> dict[str, Any]:
    """Return an answer as one token with its log-probability, and the `n` likeliest answers."""
    answers = [(found.text, found.probability), *found.others]
    tokens = [
        {"token": text, "logprob": _log(probability), "bytes": list(text.encode())}
        for text, probability in answers[: max(1, n)]
    ]
    return {**tokens[0], "top_logprobs": tokens[:n]}


def _log(probability: float) -> float:
    return math.log(probability) if probability > 0 else LEAST_LOGPROB


if __name__ == "__main__":
    main()
