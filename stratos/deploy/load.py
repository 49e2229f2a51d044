"""Ask a served model questions over HTTP, as its users will, and take the time."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from stratos.deploy.server import ServeError, Server
from stratos.evaluate.metrics import percentile
from stratos.tasks.base import Message

_REQUEST_SECONDS = 600.0


@dataclass(frozen=True)
class Served:
    """One answer that came over HTTP."""

    text: str
    output_tokens: int
    seconds: float
    """From request to the end of the answer."""


@dataclass(frozen=True)
class LoadTest:
    """All answers in the order of the questions, and how long they took together."""

    answers: tuple[Served, ...]
    seconds: float

    @property
    def tokens_per_s(self) -> float:
        """Return output tokens per second of all requests together."""
        return sum(answer.output_tokens for answer in self.answers) / self.seconds

    def latency_ms(self, share: float) -> float:
        """Return the milliseconds that a `share` of all answers took at most."""
        return percentile((answer.seconds * 1000 for answer in self.answers), share)


def load_test(
    server: Server,
    chats: Sequence[list[Message]],
    *,
    max_tokens: int,
    concurrency: int,
    tick: Callable[[int, int], None],
) -> LoadTest:
    """Ask every chat greedily with `concurrency` requests in flight.

    One request goes ahead uncounted: the first one pays for what is made when it is first needed.

    Args:
        server: OpenAI-compatible, with one model.
        chats: the questions.
        max_tokens: longest answer; the server would otherwise take a limit of its own.
        concurrency: requests in flight at once.
        tick: called with (done, total).

    Raises:
        ServeError: a request failed; with the end of the server's log.
    """
    import openai

    client = openai.OpenAI(
        base_url=f"{server.url}/v1",
        api_key="none",  # the server asks for no key, the client insists on one
        max_retries=0,
        timeout=_REQUEST_SECONDS,
        http_client=openai.DefaultHttpxClient(trust_env=False),  # no proxy to the own machine
    )

    def ask(chat: list[Message]) -> Served:
        started = time.perf_counter()
        response = client.chat.completions.create(
            model=model,
            messages=chat,  # type: ignore[arg-type]
            max_tokens=max_tokens,
            temperature=0,
        )
        seconds = time.perf_counter() - started
        n_tokens = response.usage.completion_tokens if response.usage is not None else 0
        return Served(response.choices[0].message.content or "", n_tokens, seconds)

    try:
        with client, ThreadPoolExecutor(concurrency) as pool:
            model = client.models.list().data[0].id
            ask(chats[0])
            started = time.perf_counter()
            answers = []
            try:
                for answer in pool.map(ask, chats):
                    answers.append(answer)
                    tick(len(answers), len(chats))
            finally:
                pool.shutdown(cancel_futures=True)
            return LoadTest(tuple(answers), time.perf_counter() - started)
    except openai.OpenAIError as error:
        raise ServeError(
            f"The server failed to answer ({error}). The end of {server.log_path}:\n"
            f"{server.last_lines()}"
        ) from error
