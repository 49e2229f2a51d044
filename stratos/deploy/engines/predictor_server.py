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
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from stratos.core.errors import StratosError
from stratos.deploy.engines.chat_ids import first_stop
from stratos.deploy.engines.chat_request import ChatRequest, ToolRequest, deltas_of, message_of
from stratos.deploy.engines.http_api import (
    LEAST_LOGPROB,
    MOST_BYTES,
    MOST_WAITING,
    StreamParts,
    api_error,
    completion,
    name_of,
    read_body,
    run,
    streamed,
    too_long,
    too_many,
    usage_of,
    web_application,
)
from stratos.models.kinds.base import Prediction, Predictor, ToolChoice, load_predictor

NOT_SERVED = ("tools", "functions", "function_call", "logit_bias", "response_format")
"""Options that would change an answer, and that are refused in place of ignored."""
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
    # What was loaded stays: the collector of garbage would look through all of it again and again.
    gc.collect()
    gc.freeze()
    run(application(student, name_of(args.bundle), args.slots), args.host, args.port)


def application(student: Predictor, model: str, slots: int) -> Starlette:
    """Return the web application that answers chats with a student's answers.

    Args:
        student: who answers.
        model: its name.
        slots: texts that it answers together at most; `MOST_WAITING` more wait.
    """
    together: dict[ToolChoice, _Together] = {
        choice: _Together(student.choosing(choice), slots) for choice in get_args(ToolChoice)
    }
    refused = tuple(name for name in NOT_SERVED if name != "tools" or not student.takes_tools)

    async def chat(http: Request) -> Response:
        """Answer a chat, at once or in parts."""
        if sum(len(each.waiting) for each in together.values()) >= MOST_WAITING:
            return too_many()
        data = await read_body(http, MOST_BYTES)
        if data is None:
            return too_long()
        try:
            request = (ToolRequest if student.takes_tools else ChatRequest).read(data, refused)
            if request.top_logprobs and not request.logprobs:
                raise ValueError("top_logprobs: they come with logprobs=true.")
            tools, choice = _choice(request)
            question = student.request_text(request.chat, tools)
        except ValueError as error:
            return api_error(400, str(error))
        try:
            prediction = await together[choice].answer(question)
        except StratosError as error:
            return api_error(500, str(error))
        n_tokens = prediction.prompt_tokens
        usage = usage_of(len(question.split()) if n_tokens is None else n_tokens, 1)
        text = prediction.text
        message, finish = message_of(text, "stop", request.most_calls)
        calls = message.get("tool_calls", [])
        if choice == "required" and not calls:
            return api_error(400, "tool_choice: the messages do not give what a call needs.")
        if not calls:
            message["content"] = message["content"][: first_stop(text, request.stops)]
        if request.stream:
            return streamed(model, _parts(message, finish, usage), request.with_usage)
        logprobs = (
            [_likelihood(prediction, request.top_logprobs or 0)] if request.logprobs else None
        )
        return completion(model, message, finish, usage, logprobs)

    return web_application(model, chat)


def _choice(request: ChatRequest) -> tuple[Sequence[Any], ToolChoice]:
    """Return the tools that may be called, and whether one has to be.

    Raises:
        ValueError: the request has no such tool.
    """
    if isinstance(request, ToolRequest):
        return request.allowed, request.choice
    return request.tools or (), "auto"


async def _parts(message: Mapping[str, Any], finish: str, usage: dict[str, int]) -> StreamParts:
    for delta in deltas_of(message.get("tool_calls", ())):
        yield delta
    yield message["content"] or "", finish, usage


class _Together:
    """Answers the texts that wait in one call, and those that come meanwhile in the next."""

    def __init__(self, student: Predictor, most: int) -> None:
        self._student, self._most = student, most
        self.waiting: list[tuple[str, asyncio.Future[Prediction]]] = []
        """Texts, and where their answers go."""
        self._work: asyncio.Task[None] | None = None

    async def answer(self, text: str) -> Prediction:
        """Return the answer to a text."""
        future: asyncio.Future[Prediction] = asyncio.get_running_loop().create_future()
        self.waiting.append((text, future))
        if self._work is None or self._work.done():
            # It begins after the requests that have been read by now: they are in its first call.
            self._work = asyncio.create_task(self._answer_all())
        return await future

    async def _answer_all(self) -> None:
        while self.waiting:
            now, self.waiting = self.waiting[: self._most], self.waiting[self._most :]
            texts = [text for text, _ in now]
            try:
                if self._student.is_slow or sum(map(len, texts)) > LONG:
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


def _likelihood(prediction: Prediction, n: int) -> dict[str, Any]:
    """Return an answer as one token with its log-probability, and the `n` likeliest answers."""
    answers = [(prediction.text, prediction.probability), *prediction.next_best]
    tokens = [
        {"token": text, "logprob": _log(probability), "bytes": list(text.encode())}
        for text, probability in answers[: max(1, n)]
    ]
    return {**tokens[0], "top_logprobs": tokens[:n]}


def _log(probability: float) -> float:
    return math.log(probability) if probability > 0 else LEAST_LOGPROB


if __name__ == "__main__":
    main()
