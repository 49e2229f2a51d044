"""One try at a time against chat completions: sent from a thread of its own, sorted by outcome."""

from __future__ import annotations

import asyncio
import email.utils
import math
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from stratos.teachers.base import Answer, Question
from stratos.teachers.pump import LONGEST_RETRY_AFTER_S, Outcome

if TYPE_CHECKING:
    from openai import AsyncOpenAI

_PASSING = frozenset((408, 409, 425, 429))
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
                reply = await self._client.chat.completions.create(**options)
            seconds = time.perf_counter() - began
            outcome = Outcome(answer=to_answer(reply, question, seconds))
        except Exception as error:
            outcome = sort(error)
        done(outcome)


def to_answer(reply: Any, question: Question, seconds: float) -> Answer:
    """Return the answer in a chat completion.

    Raises:
        Garbled: it is none.
    """
    from openai.types.chat import ChatCompletion

    if not isinstance(reply, ChatCompletion) or not reply.choices:
        raise Garbled("the reply is no chat completion")
    choice = reply.choices[0]
    content = getattr(getattr(choice, "message", None), "content", None)
    if not isinstance(content, str | None):
        raise Garbled("the reply's content is no text")
    text = writable(content or "")
    # Without a count of its own an answer is billed at the most that it can be: its bytes.
    n_input = sum(len(writable(message["content"]).encode()) for message in question.chat)
    n_output = len(text.encode())
    if reply.usage is not None:
        n_input = _count(reply.usage.prompt_tokens, n_input)
        n_output = _count(reply.usage.completion_tokens, n_output)
    finish = choice.finish_reason if isinstance(choice.finish_reason, str) else ""
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
        if wait is not None and wait > LONGEST_RETRY_AFTER_S:
            passing = False
        return Outcome(None, error, passing, status in _MAYBE_BILLED, wait)
    if isinstance(error, openai.APIConnectionError):
        return Outcome(error=error, passing=True, billed=not _never_connected(error))
    if isinstance(error, openai.APIResponseValidationError | Garbled | ValueError | TypeError):
        return Outcome(error=error, passing=True, billed=True)
    return Outcome(error=error, passing=not isinstance(error, openai.OpenAIError), billed=True)


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


def _logprobs(choice: Any) -> tuple[tuple[tuple[str, float], ...], ...]:
    places = getattr(getattr(choice, "logprobs", None), "content", None) or ()
    told = []
    for place in places:
        top = place.top_logprobs or [place]
        told.append(tuple((writable(one.token), float(one.logprob)) for one in top))
    return tuple(told)
