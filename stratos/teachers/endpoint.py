"""One chat completions request: send it, and classify its outcome."""

from __future__ import annotations

import asyncio
import email.utils
import json
import math
import re
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping
from concurrent.futures import Future
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar

from stratos.core.remote import limits
from stratos.teachers.base import LENGTH, TOO_LONG, Answer, Billed, Question
from stratos.teachers.scheduler import LONGEST_RETRY_AFTER_S, Outcome
from stratos.teachers.usage import ImplausibleUsage, Usage, read_usage

if TYPE_CHECKING:
    from openai import AsyncOpenAI

# An HTTP client in its own thread, with a total deadline and no cross-host redirects.
#
# A client's own timeout is for each read: a server that sends a byte a second would never end one.
# So whatever is asked runs in an event loop, under a deadline for the whole.

T = TypeVar("T")

_PORTS = {"http": 80, "https": 443}


class DeadlineError(TimeoutError):
    """A call that was not answered whole in time."""


class RedirectError(Exception):
    """An endpoint that points to another host, where nothing is sent.

    Args:
        target: scheme and host of the other, without what else stands in the address.
    """

    def __init__(self, target: str) -> None:
        super().__init__(f"it points to {target}")
        self.target = target


class Connection:
    """An event loop in a daemon thread with one HTTP client.

    Args:
        key: sent with every call.
        base_url: up to and with the version.
        timeout_s: longest wait for a read.
    """

    def __init__(self, key: str, base_url: str, timeout_s: float) -> None:
        self._loop = asyncio.new_event_loop()
        self.client = _client(key, base_url, timeout_s)
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    def call(self, make: Callable[[AsyncOpenAI], Awaitable[T]], seconds: float) -> T:
        """Make a call and wait for it.

        Args:
            make: makes it; runs in the loop.
            seconds: deadline of the whole call.

        Raises:
            DeadlineError: it was not answered whole by then.
            RedirectError: the endpoint points to another host.
            openai.OpenAIError: as the client raises it.
        """

        async def made() -> T:
            try:
                async with asyncio.timeout(seconds):
                    return await make(self.client)
            except TimeoutError as error:
                raise DeadlineError(f"no whole answer within {seconds:g} s") from error

        future = self.start(made())
        try:
            return future.result()
        except Exception as error:
            if (redirect := redirect_in(error)) is None:
                raise
            raise redirect from error
        finally:
            future.cancel()

    def start(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        """Let something run in the loop."""
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def close(self) -> None:
        """Cancel what is under way and close the connections."""

        async def shut() -> None:
            me = asyncio.current_task()
            tasks = [task for task in asyncio.all_tasks() if task is not me]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self.client.close()

        with suppress(Exception):  # connections that cannot be closed are gone already
            self.start(shut()).result(timeout=5)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout=5)
        if not self._thread.is_alive():
            self._loop.close()


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield an error, what it comes from, and so on."""
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__ or cause.__context__


def redirect_in(error: BaseException) -> RedirectError | None:
    """Return the redirect that an error comes from, if it does."""
    return next((cause for cause in _causes(error) if isinstance(cause, RedirectError)), None)


def _client(key: str, base_url: str, timeout_s: float) -> AsyncOpenAI:
    from openai import AsyncOpenAI, DefaultAsyncHttpxClient

    http_client = DefaultAsyncHttpxClient(
        timeout=timeout_s, limits=limits(), event_hooks={"response": [_refuse_other_hosts]}
    )
    # Retries are ours: each is paid for on its own.
    return AsyncOpenAI(
        api_key=key,
        base_url=base_url,
        timeout=timeout_s,
        max_retries=0,
        http_client=http_client,
    )


async def _refuse_other_hosts(reply: Any) -> None:
    """Refuse a redirect that leads prompts and key to another host.

    From http to https, and within one host, it may.
    """
    if not reply.has_redirect_location:
        return
    here = reply.request.url
    there = here.join(reply.headers["location"])
    ports = [url.port or _PORTS.get(url.scheme) for url in (here, there)]
    is_secured = (here.scheme, there.scheme) == ("http", "https")
    if here.host == there.host and (
        is_secured or (here.scheme == there.scheme and ports[0] == ports[1])
    ):
        return
    port = "" if there.port is None else f":{there.port}"
    raise RedirectError(f"{there.scheme}://{there.host}{port}")


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
_REASONING = ("reasoning_content", "reasoning", "thinking")
"""Where servers put what a model wrote before its answer."""
_UNREADABLE_REASONING = ("reasoning_details", "thinking_blocks", "encrypted_content")
"""Where they say that there was some, which is encrypted or only summed up."""
_CUT = frozenset(
    (
        *("length", "max_tokens", "max_output_tokens", "max_completion_tokens", "max_length"),
        *("model_length", "token_limit", "length_limit", "model_context_window_exceeded"),
    )
)
"""How providers say, each in its own words, that an answer ended at the longest length."""


class Garbled(Exception):
    """The endpoint answered with something that is no chat completion."""


class Endpoint:
    """Chat completions over one connection.

    Args:
        connection: to where they are.
        timeout_s: longest wait for one whole answer.
    """

    def __init__(self, connection: Connection, timeout_s: float) -> None:
        self._connection, self._timeout_s = connection, timeout_s

    def send(
        self, options: Mapping[str, Any], question: Question, done: Callable[[Outcome], None]
    ) -> Callable[[], None]:
        """Start one try; `done` is called in the loop's thread. Return what cancels it."""
        future = self._connection.start(self._try(options, question, done))

        def cancel() -> None:
            future.cancel()

        return cancel

    def look_for(self, model: str, keyed: bool, on_found: Callable[[], None]) -> None:
        """Read the list of models, which costs nothing, beside what is under way.

        `on_found` is called from the loop's thread if the model is on it, and if the list is kept
        from those without a key where there is one: a list shown to anybody proves no key.
        """

        async def look() -> None:
            import openai

            client, nobody = self._connection.client, {"Authorization": openai.Omit()}
            with suppress(openai.OpenAIError, TimeoutError, ValueError, TypeError, KeyError):
                async with asyncio.timeout(_LOOK_SECONDS):
                    if model not in await models(client):
                        return
                    try:
                        if keyed:
                            await models(client, nobody)
                            return
                    except (openai.AuthenticationError, openai.PermissionDeniedError):
                        pass
                on_found()

        self._connection.start(look())

    async def _try(
        self, options: Mapping[str, Any], question: Question, done: Callable[[Outcome], None]
    ) -> None:
        began = time.perf_counter()
        client = self._connection.client
        try:
            async with asyncio.timeout(self._timeout_s):
                # The body is ours, and the answer is read below: to hold both against the types of
                # the client takes as long as all the rest of a request.
                reply = await client.post("/chat/completions", body=options, cast_to=bytes)
            seconds = time.perf_counter() - began
            outcome = Outcome(answer=to_answer(json.loads(reply), question, seconds))
        except TimeoutError:
            outcome = sort(DeadlineError(f"no whole answer within {self._timeout_s:g} s"))
        except Exception as error:
            outcome = sort(error)
        done(outcome)


async def models(
    client: AsyncOpenAI, headers: Mapping[str, Any] | None = None
) -> dict[str, Mapping[str, Any]]:
    """Return the models that an endpoint lists, each with all that it says of it.

    Raises:
        openai.OpenAIError: it gives no list.
        ValueError, TypeError, KeyError: it gives something else.
    """
    options: Any = {"headers": headers or {}}
    reply = await client.get("/models", cast_to=bytes, options=options)
    return {str(model["id"]): model for model in json.loads(reply)["data"]}


def to_answer(reply: Any, question: Question, seconds: float) -> Answer:
    """Return the answer in a chat completion, as it stands in JSON.

    Raises:
        Garbled: it is none.
        ImplausibleUsage: it cannot have taken what it says.
    """
    choices = _part(reply, "choices")
    choice = choices[0] if isinstance(choices, list) and choices else None
    content = _part(_part(choice, "message"), "content")
    if not isinstance(choice, dict) or not isinstance(content, str | None):
        raise Garbled("the reply is no chat completion")
    text = writable(content or "")
    finish = _part(choice, "finish_reason")
    finish = finish if isinstance(finish, str) else ""
    finish = LENGTH if finish.lower() in _CUT else finish
    message = _part(choice, "message")
    thought = (_part(message, name) for name in _REASONING)
    usage = read_usage(
        _part(reply, "usage"),
        question,
        text,
        reasoning=next((part for part in thought if isinstance(part, str)), ""),
        is_cut=finish == LENGTH,
        hides_reasoning=any(_part(message, name) for name in _UNREADABLE_REASONING),
    )
    if _ended_at_limit(finish, usage, question.max_tokens):
        finish = LENGTH
    return Answer(
        text,
        usage.input_tokens,
        usage.output_tokens,
        seconds,
        finish=finish,
        is_estimated=usage.is_estimated,
    )


def _ended_at_limit(finish: str, usage: Usage, max_tokens: int) -> bool:
    """Return whether the tokens show that an answer was cut, whatever its endpoint says.

    Some endpoints give no reason, or "stop" for every answer. An answer that ends by itself at
    exactly the longest length is taken for a cut one; that is rare, and costs one more question.
    An endpoint that says "stop" beyond the length keeps no limit, so that nothing was cut. Some
    count the token that ends the answer, hence one more.
    """
    if usage.is_estimated:
        return False
    return usage.output_tokens >= max_tokens and (
        not finish or usage.output_tokens <= max_tokens + 1
    )


def sort(error: Exception) -> Outcome:
    """Return what an error means: whether another try may help, and what this one is billed."""
    import openai

    if redirect := redirect_in(error):
        return Outcome(error=redirect)
    lost = Billed.NOTHING if _never_connected(error) else Billed.USUAL
    if isinstance(error, TimeoutError | openai.APITimeoutError):
        late = Billed.NOTHING if _never_connected(error) else Billed.MOST
        return Outcome(error=error, passing=True, billed=late)
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
        billed = Billed.USUAL if status in _MAYBE_BILLED else Billed.NOTHING
        return Outcome(None, error, passing, billed, wait)
    if isinstance(error, openai.APIConnectionError):
        return Outcome(error=error, passing=True, billed=lost)
    if isinstance(error, ImplausibleUsage):
        return Outcome(error=error, passing=True, billed=Billed.MOST)
    if isinstance(error, openai.APIResponseValidationError | Garbled | ValueError | TypeError):
        return Outcome(error=error, passing=True, billed=Billed.USUAL)
    passing = not isinstance(error, openai.OpenAIError)
    return Outcome(error=error, passing=passing, billed=Billed.MOST)


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
    names = ("ConnectError", "ConnectTimeout", "PoolTimeout")
    return any(type(cause).__name__ in names for cause in _causes(error))


def _part(whole: Any, name: str) -> Any:
    return whole.get(name) if isinstance(whole, dict) else None
