"""An HTTP client in its own thread, with a total deadline and no cross-host redirects.

A client's own timeout is for each read: a server that sends a byte a second would never end one.
So whatever is asked runs in an event loop, under a deadline for the whole.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import Future
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar

from stratos.core.connections import limits

if TYPE_CHECKING:
    from openai import AsyncOpenAI

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


def redirect_in(error: BaseException) -> RedirectError | None:
    """Return the redirect that an error comes from, if it does."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, RedirectError):
            return seen
        seen = seen.__cause__ or seen.__context__
    return None


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
