"""One endpoint of a hosted teacher: its HTTP client, one try there, and its errors."""

from __future__ import annotations

import asyncio
import datetime
import json
import os
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from concurrent.futures import Future
from contextlib import suppress
from functools import cache, cached_property
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from stratos.core.errors import EndpointError, TeacherError, did_you_mean
from stratos.core.formats import counted
from stratos.core.reasons import Reason
from stratos.core.remote import limits
from stratos.teachers.base import Question
from stratos.teachers.call_budget import n_bytes
from stratos.teachers.openai_settings import OpenAISettings
from stratos.teachers.reply import (
    DeadlineError,
    Garbled,
    RedirectError,
    redirect_in,
    sort,
    to_answer,
)
from stratos.teachers.scheduler import Outcome
from stratos.teachers.words import NoConnection, OtherAddress, Redirected, Silent, WrongKey

if TYPE_CHECKING:
    from openai import AsyncOpenAI

T = TypeVar("T")

_REACH_SECONDS = 10.0
"""Longest wait for the list of models."""
_PORTS = {"http": 80, "https": 443}
_BYTES_BESIDE, _BYTES_A_TOKEN = 2**20, 2**10
"""The longest reply that is read: what may stand beside an answer, and for each of its tokens. A
token has a few bytes; an endpoint that sends more keeps no limit, and would fill the memory."""


class Endpoint:
    """A base URL of a teacher; connects at the first use, and again after `close`.

    A timeout of the client is for each read: a server that sends a byte a second would never end
    one. So whatever is asked has a deadline for the whole.

    Args:
        teacher: whose key, model and settings are sent there.
        url: up to and with the version.
    """

    def __init__(self, teacher: OpenAISettings, url: str) -> None:
        self.teacher, self.url = teacher, url
        self.shutdown_date: str | None = None
        """Day from which the model ends, as the list of models has it: "" for none that is
        announced, None where the list does not say."""

    def send(self, question: Question, done: Callable[[Outcome], None]) -> Callable[[], object]:
        """Start one try; `done` is called from the thread of all endpoints.

        Returns:
            What cancels it.
        """
        return _start(self._try(self._client, question, done)).cancel

    def call(
        self, make: Callable[[AsyncOpenAI], Awaitable[T]], seconds: float, max_retries: int = 0
    ) -> T:
        """Make a call and wait for it.

        Args:
            make: makes it, with the client that it takes.
            seconds: deadline of the whole call, retries included.
            max_retries: how often the client tries it again by itself: only what costs nothing.

        Raises:
            DeadlineError: it was not answered whole by then.
            RedirectError: the endpoint points to another host.
            openai.OpenAIError: as the client raises it.
        """
        client = self._client.with_options(max_retries=max_retries)

        async def made() -> T:
            async with asyncio.timeout(seconds):
                return await make(client)

        future = _start(made())
        try:
            return future.result()
        except TimeoutError as error:
            raise DeadlineError(seconds) from error
        except Exception as error:
            if (redirect := redirect_in(error)) is None:
                raise
            raise redirect from error
        finally:
            future.cancel()

    def close(self) -> None:
        """Close the connections, which ends what is under way."""
        if (client := self.__dict__.pop("_client", None)) is not None:
            with suppress(Exception):  # connections that cannot be closed are gone already
                _start(client.close()).result(timeout=5)

    def explain(self, error: Exception, question: Question, n_tries: int) -> TeacherError:
        """Return an error in the user's words; an `EndpointError` if another place may do better.

        Args:
            error: as the client raised it.
            question: that was asked.
            n_tries: how often.
        """
        import openai

        kind: type[TeacherError] = EndpointError
        if isinstance(error, RedirectError):
            text = str(Redirected(self.url, error.target))
        elif isinstance(error, openai.AuthenticationError | openai.PermissionDeniedError):
            text = str(self._wrong_key())
        elif isinstance(error, openai.NotFoundError) or self._is_unknown_model(error):
            text = self._no_model()
        elif isinstance(error, openai.APIStatusError) and error.status_code in (400, 413, 422):
            kind = TeacherError
            text = (
                f"{self.url} refused a prompt of {n_bytes(question.chat):,} bytes with an answer "
                f"of up to {counted(question.max_tokens, 'token')}, that of {question.about} "
                f"({_say(error)}). Check that they fit the model's context, and "
                "teacher.token_limit_field and teacher.temperature."
            )
        elif getattr(error, "code", None) == "insufficient_quota":
            text = (
                f"the account at {self.url} has no credit left ({_say(error)}). What was answered "
                "is kept: top it up and give the same command again, or choose another teacher."
            )
        else:
            n_others = len(self.teacher.base_urls) - 1
            too = f" ({counted(n_others, 'other endpoint')} neither)" if n_others else ""
            text = (
                f"{self.url} gave no answer after {counted(n_tries, 'try', 'tries')}{too} "
                f"({_say(error)}). What was answered is kept: give the same command again, with a "
                "smaller teacher.concurrency if it is overloaded."
            )
        explained = kind(f"Teacher {self.teacher.name}: {text}")
        explained.__cause__ = error
        return explained

    def unreachable(self) -> Reason | None:
        """Return why it cannot be asked and what to type, or None. Asks it once, for its models."""
        import openai

        try:
            self._read_shutdown_date(self.call(models, _REACH_SECONDS))
        except (openai.AuthenticationError, openai.PermissionDeniedError):
            return self._wrong_key()
        except RedirectError as error:
            return Redirected(self.url, error.target)
        except TimeoutError:
            return Silent(self.url, _REACH_SECONDS)
        except openai.APIConnectionError:
            return NoConnection(self.url)
        except (openai.OpenAIError, ValueError, TypeError, KeyError):
            return self._without_version()  # an endpoint need not list its models
        return None

    def _without_version(self) -> OtherAddress | None:
        """Return that the API answers below /v1; None where it does not, or a path was given."""
        if urlsplit(self.url).path.strip("/"):
            return None
        below = Endpoint(self.teacher, f"{self.url.rstrip('/')}/v1")
        try:
            if not below._models():
                return None
        finally:
            below.close()
        return OtherAddress(self.url, below.url)

    def _read_shutdown_date(self, listed: Mapping[str, Mapping[str, Any]]) -> None:
        """Keep what the list says of the model's end; an endpoint may say anything, or nothing."""
        entry = listed.get(self.teacher.model, {})
        if "shutdown_date" not in entry:
            return
        date = str(entry["shutdown_date"] or "")
        with suppress(ValueError):  # a date in another form is none
            if date:
                datetime.date.fromisoformat(date)
            self.shutdown_date = date

    async def _try(
        self, client: AsyncOpenAI, question: Question, done: Callable[[Outcome], None]
    ) -> None:
        from openai import AsyncStream

        began, timeout_s = time.perf_counter(), self.teacher.timeout_s
        try:
            async with asyncio.timeout(timeout_s):
                # The body is ours, and the answer is read below: to hold both against the types of
                # the client takes as long as all the rest of a request.
                stream = await client.post(
                    "/chat/completions", body=self.teacher.request(question),
                    cast_to=bytes, stream=True, stream_cls=AsyncStream[bytes],
                )  # fmt: skip
                most = _BYTES_BESIDE + _BYTES_A_TOKEN * question.max_tokens
                reply = await _read(stream.response, most)
            seconds = time.perf_counter() - began
            outcome = Outcome(answer=to_answer(json.loads(reply), question, seconds))
        except TimeoutError:
            outcome = sort(DeadlineError(timeout_s))
        except Exception as error:
            outcome = sort(error)
        done(outcome)

    @cached_property
    def _client(self) -> AsyncOpenAI:
        from openai import AsyncOpenAI, DefaultAsyncHttpxClient

        timeout_s = self.teacher.timeout_s
        http_client = DefaultAsyncHttpxClient(
            timeout=timeout_s, limits=limits(), event_hooks={"response": [_refuse_other_hosts]}
        )
        # The client would retry without the call budget: each try is set aside and paid on its own,
        # goes to the endpoint that is free, and a reply that is no chat completion is a failed try,
        # too. So those of questions are the scheduler's; `call` takes the client's own.
        return AsyncOpenAI(
            api_key=self.teacher.key(),
            base_url=self.url,
            timeout=timeout_s,
            max_retries=0,
            http_client=http_client,
        )

    def _is_unknown_model(self, error: Exception) -> bool:
        """Tell whether a request was refused for its model, by endpoints that say 400 then."""
        import openai

        if not isinstance(error, openai.BadRequestError):
            return False
        message = str(error).lower()
        if "model" not in message and message != "error code: 400":  # it speaks of something else
            return False
        known = self._models()
        return bool(known) and self.teacher.model not in known

    def _wrong_key(self) -> WrongKey:
        return WrongKey(self.url, self.teacher.api_key_env)

    def _no_model(self) -> str:
        known = self._models()
        if not known and (unversioned := self._without_version()):
            return str(unversioned)
        if self.teacher.model in known:
            return (
                f"{self.url} has the model {self.teacher.model}, and answers 404 to the request. "
                "Check teacher.base_url (as a rule it ends in /v1), and for teacher.batch=true or "
                "batch prices that it has a batch API."
            )
        hint = did_you_mean(self.teacher.model, known)
        if known and not hint:
            hint = f" It has {', '.join(sorted(known)[:5])}."
        return (
            f"{self.url} has no model {self.teacher.model}.{hint} Choose one with teacher.model=…"
        )

    def _models(self) -> list[str]:
        import openai

        # Where there is no list, there is nothing to suggest.
        with suppress(openai.OpenAIError, TimeoutError, ValueError, TypeError, KeyError):
            return sorted(self.call(models, _REACH_SECONDS))
        return []


def _say(error: Exception) -> str:
    """Return an error in one line, without the request that may quote a prompt."""
    status = getattr(error, "status_code", None)
    text = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
    return text if status is None or str(status) in text else f"HTTP {status}: {text}"


async def models(client: AsyncOpenAI) -> dict[str, Mapping[str, Any]]:
    """Return the models that an endpoint lists, each with all that it says of it.

    Raises:
        openai.OpenAIError: it gives no list.
        ValueError, TypeError, KeyError: it gives something else.
    """
    reply = await client.get("/models", cast_to=bytes)
    return {str(model["id"]): model for model in json.loads(reply)["data"]}


async def _read(reply: Any, n_bytes: int) -> bytes:
    """Return the body of a reply, which is one of the library under the client.

    Raises:
        Garbled: it is longer than so many bytes; the rest is not read.
        openai.APIConnectionError: it broke off.
    """
    import openai

    body = bytearray()
    try:
        async for part in reply.aiter_bytes():
            body += part
            if len(body) > n_bytes:
                raise Garbled(f"the reply is longer than {n_bytes:,} bytes")
    except (Garbled, asyncio.CancelledError):
        raise
    except Exception as error:  # as the client itself sorts what it reads whole
        if "Timeout" in type(error).__name__:
            raise openai.APITimeoutError(reply.request) from error
        raise openai.APIConnectionError(request=reply.request) from error
    finally:
        await reply.aclose()
    return bytes(body)


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


_LOCK = threading.Lock()


def _start(work: Coroutine[Any, Any, T]) -> Future[T]:
    """Let something run in the event loop of all endpoints, which has a thread of its own."""
    with _LOCK:
        loop, _ = _loop()
    return asyncio.run_coroutine_threadsafe(work, loop)


@cache
def _loop() -> tuple[asyncio.AbstractEventLoop, threading.Thread]:
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="endpoints", daemon=True)
    thread.start()
    return loop, thread


def end_loop() -> None:
    """End the thread of all endpoints once they are closed; the next request starts another."""
    with _LOCK:
        if not _loop.cache_info().currsize:
            return
        loop, thread = _loop()
        _loop.cache_clear()
    asyncio.run_coroutine_threadsafe(loop.shutdown_default_executor(), loop).result()
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_loop.cache_clear)  # threads stay behind
