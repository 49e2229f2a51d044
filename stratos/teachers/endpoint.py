"""One try at a time against chat completions: sent from a thread of its own, sorted by outcome."""

from __future__ import annotations

import asyncio
import email.utils
import json
import math
import re
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from stratos.teachers.base import TOO_LONG, Answer, Question
from stratos.teachers.lanes import Outcome
from stratos.teachers.pump import LONGEST_RETRY_AFTER_S

if TYPE_CHECKING:
    from openai import AsyncOpenAI

_LOOK_SECONDS = 10.0
"""Longest wait for the list of models; nothing waits for it."""
_PASSING = frozenset((408, 409, 425, 429))
_REFUSED, _TOO_LARGE = frozenset((400, 422)), 413
_OF_LENGTH = re.compile(
    r"context_length_exceeded|exceed_context_size|maximum (?:context|model) length"
    r"|context (?:length|size|window|limit)|(?:prompt|input) is too long|input token count"
    r"|maximum number of (?:input )?tokens",
    re.IGNORECASE,
)
"""How providers and servers say that a prompt passes the context; each has its own words."""
_MAYBE_BILLED = frozenset((408, 502, 504, 524))
"""A gateway gave up; the model behind it may have answered."""


class Garbled(Exception):
    """The endpoint answered with something that is no chat completion."""


class Endpoint:
    """An event loop in a daemon thread with one HTTP client; made at the first question."""

    def __init__(self, client: Callable[[], AsyncOpenAI], timeout_s: float) -> None:
        """Start the thread.

        Args:
            client: makes the client, within the loop that it belongs to.
            timeout_s: longest wait for one whole answer.
        """
        self._timeout_s = timeout_s
        self._loop = asyncio.new_event_loop()
        self._client = client()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    def send(
        self, options: Mapping[str, Any], question: Question, done: Callable[[Outcome], None]
    ) -> Callable[[], None]:
        """Start one try; `done` is called in the loop's thread. Return what cancels it."""
        future = asyncio.run_coroutine_threadsafe(self._try(options, question, done), self._loop)

        def cancel() -> None:
            future.cancel()

        return cancel

    def look_for(self, model: str, keyed: bool, found: Callable[[], None]) -> None:
        """Read the list of models, which costs nothing, beside what is under way.

        `found` is called from the loop's thread if the model is on it, and if the list is kept from
        those without a key where there is one: a list that is shown to anybody proves no key.
        """

        async def look() -> None:
            import openai

            nobody = {"Authorization": openai.Omit()}
            with suppress(openai.OpenAIError, TimeoutError, ValueError, TypeError, KeyError):
                async with asyncio.timeout(_LOOK_SECONDS):
                    if model not in await self._models({}):
                        return
                    try:
                        if keyed:
                            await self._models(nobody)
                            return
                    except (openai.AuthenticationError, openai.PermissionDeniedError):
                        pass
                found()

        asyncio.run_coroutine_threadsafe(look(), self._loop)

    async def _models(self, headers: Mapping[str, Any]) -> set[str]:
        options: Any = {"headers": headers}
        reply = await self._client.get("/models", cast_to=bytes, options=options)
        return {model["id"] for model in json.loads(reply)["data"]}

    def close(self) -> None:
        """Cancel what is under way and close the connections."""

        async def shut() -> None:
            me = asyncio.current_task()
            tasks = [task for task in asyncio.all_tasks() if task is not me]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self._client.close()

        with suppress(Exception):  # connections that cannot be closed are gone already
            asyncio.run_coroutine_threadsafe(shut(), self._loop).result(timeout=5)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout=5)
        if not self._thread.is_alive():
            self._loop.close()

    async def _try(
        self, options: Mapping[str, Any], question: Question, done: Callable[[Outcome], None]
    ) -> None:
        began = time.perf_counter()
        try:
            # The client's own limit is for each read: a body that trickles would never end.
            async with asyncio.timeout(self._timeout_s):
                # The body is ours, and the answer is read below: to hold both against the types of
                # the client takes as long as all the rest of a request.
                reply = await self._client.post("/chat/completions", body=options, cast_to=bytes)
            seconds = time.perf_counter() - began
            outcome = Outcome(answer=to_answer(json.loads(reply), question, seconds))
        except Exception as error:
            outcome = sort(error)
        done(outcome)


def to_answer(reply: Any, question: Question, seconds: float) -> Answer:
    """Return the answer in a chat completion, as it stands in JSON.

    Raises:
        Garbled: it is none.
    """
    choices = _part(reply, "choices")
    choice = choices[0] if isinstance(choices, list) and choices else None
    content = _part(_part(choice, "message"), "content")
    if not isinstance(choice, dict) or not isinstance(content, str | None):
        raise Garbled("the reply is no chat completion")
    text = writable(content or "")
    # Without a count of its own an answer is billed at the most that it can be: its bytes.
    n_input = sum(len(writable(message["content"]).encode()) for message in question.chat)
    usage = _part(reply, "usage")
    n_input = _count(_part(usage, "prompt_tokens"), n_input)
    n_output = _count(_part(usage, "completion_tokens"), len(text.encode()))
    finish = _part(choice, "finish_reason")
    finish = finish if isinstance(finish, str) else ""
    return Answer(text, n_input, n_output, seconds, False, finish, _logprobs(choice))


def sort(error: Exception) -> Outcome:
    """Return what an error means: whether another try may help, and whether this one is billed."""
    import openai

    if isinstance(error, TimeoutError | openai.APITimeoutError):
        return Outcome(error=error, passing=True, billed=not _never_connected(error))
    if isinstance(error, openai.APIStatusError):
        status = error.status_code
        wait = retry_after_s(error.response.headers)
        passing = status in _PASSING or status >= 500
        if getattr(error, "code", None) == "insufficient_quota":
            passing = False
        if says_too_long(status, str(error)):
            return Outcome(Answer("", 0, 0, 0.0, finish=TOO_LONG), error)
        if wait is not None and wait > LONGEST_RETRY_AFTER_S:
            passing = False
        return Outcome(None, error, passing, status in _MAYBE_BILLED, wait)
    if isinstance(error, openai.APIConnectionError):
        return Outcome(error=error, passing=True, billed=not _never_connected(error))
    if isinstance(error, openai.APIResponseValidationError | Garbled | ValueError | TypeError):
        return Outcome(error=error, passing=True, billed=True)
    return Outcome(error=error, passing=not isinstance(error, openai.OpenAIError), billed=True)


def says_too_long(status: int, text: str) -> bool:
    """Return whether a refusal means that the prompt passes the context, or the largest body."""
    return status == _TOO_LARGE or (status in _REFUSED and bool(_OF_LENGTH.search(text)))


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Return the pause that a server asks for: in milliseconds, seconds, or as a date."""
    for name, unit in (("retry-after-ms", 1e-3), ("retry-after", 1.0)):
        with suppress(TypeError, ValueError):
            pause = float(headers.get(name) or "") * unit
            if math.isfinite(pause):
                return max(0.0, pause)
    with suppress(TypeError, ValueError):
        date = email.utils.parsedate_to_datetime(headers.get("retry-after") or "")
        return max(0.0, date.timestamp() - time.time())
    return None


def writable(text: str) -> str:
    """Return a text without lone surrogates, which can stand in JSON and in no file."""
    return text.encode("utf-8", "replace").decode()


def _never_connected(error: BaseException) -> bool:
    """Tell whether the request cannot have reached the server."""
    seen: BaseException | None = error
    while seen is not None:
        if type(seen).__name__ in ("ConnectError", "ConnectTimeout", "PoolTimeout"):
            return True
        seen = seen.__cause__ or seen.__context__
    return False


def _count(value: Any, otherwise: int) -> int:
    return value if isinstance(value, int) and value >= 0 else otherwise


def _part(whole: Any, name: str) -> Any:
    return whole.get(name) if isinstance(whole, dict) else None


def _logprobs(choice: Any) -> tuple[tuple[tuple[str, float], ...], ...]:
    places = _part(_part(choice, "logprobs"), "content") or ()
    told = []
    for place in places:
        top = place.get("top_logprobs") or [place]
        told.append(tuple((writable(one["token"]), float(one["logprob"])) for one in top))
    return tuple(told)
