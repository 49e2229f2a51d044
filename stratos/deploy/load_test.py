"""Load test: send questions to a served model over HTTP and measure latency.

Closed loop: so many requests are in flight, and the next goes when one has ended; with one in
flight, each answer's time is that of an answer alone. Open loop: requests come at random moments
(Poisson) whether the server keeps up or not, which is what users do; a request's time counts from
the moment that it was due, so that a slow server cannot thin out its own load.
"""

from __future__ import annotations

import asyncio
import json
import math
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from statistics import fmean, pstdev, stdev
from typing import TYPE_CHECKING, Any

from stratos.core.remote import limits
from stratos.deploy.server import ServeError, Server
from stratos.evaluate.metrics import percentile
from stratos.tasks.base import Message

if TYPE_CHECKING:
    import httpx

# Whether a server keeps up with requests that come at random moments.
#
# A server keeps up if it answers faster than requests come while all its slots are busy. So the
# test takes the time in which they were, and the requests that were answered in it: their rate is
# the capacity, and the rate that was asked over it the utilisation. With ten batches of such times
# it has an interval (batch means). The verdict is sure when the interval lies on one side of 1.
#
# How often it is wrong: docs/hosting.md.

LOOKS = 4
"""Times that a test looks whether it is sure, at most; it goes on in between."""
_QUANTILE = 2.46
"""Of Student's t with 9 degrees of freedom, one-sided 1.8%: 5% for four looks together (Pocock)."""
_BATCHES = 10
_LEAST_ANSWERS = 20
"""Answers with all slots busy below which their rate is not known."""
_LEAST_ROUNDS = 4
"""Requests for each slot below which a test has hardly begun to fill them."""
_NARROW = 1.25
"""High over low end of the interval of a p95 from which on it is known well enough."""
_QUANTILE_95 = 2.26
"""Of Student's t with 9 degrees of freedom, two-sided 95%."""
_IDLE_SHARE = 0.8
"""Share of the second half of a test with a slot free from which no server is overloaded: one that
is has none free once its queue has begun."""


@dataclass(frozen=True)
class KeepingUp:
    """What a test has shown."""

    keeps_up: bool
    is_sure: bool
    """False where more requests would have to tell."""
    utilisation: float | None
    """Rate that was asked, over the rate with all slots busy; None where they never were."""


def keeping_up(
    spans: Sequence[tuple[float, float]], requests_per_s: float, until: float, slots: int
) -> KeepingUp:
    """Tell whether a server keeps up with a rate.

    Args:
        spans: of each request, when it was due and when it was answered, in seconds from the begin;
            infinite for one that is not answered yet.
        requests_per_s: rate that was asked.
        until: seconds from the begin that are looked at.
        slots: answers that the server makes at once.
    """
    times, busy_share = _busy(spans, until, slots)
    utilisation = requests_per_s * fmean(times) if times else None
    keeps_up = utilisation is None or utilisation < 1
    n_due = sum(due <= until for due, _ in spans)
    if n_due < max(_LEAST_ANSWERS, _LEAST_ROUNDS * slots):
        return KeepingUp(keeps_up, False, utilisation)
    if busy_share < 1 - _IDLE_SHARE:
        return KeepingUp(True, True, utilisation)
    if len(times) < _LEAST_ANSWERS or utilisation is None:
        return KeepingUp(keeps_up, False, utilisation)
    edges = [round(i * len(times) / _BATCHES) for i in range(_BATCHES + 1)]
    means = [fmean(times[a:b]) for a, b in pairwise(edges)]
    error = requests_per_s * stdev(means) / math.sqrt(_BATCHES)
    is_sure = abs(utilisation - 1) > _QUANTILE * error
    return KeepingUp(keeps_up, is_sure, utilisation)


def p95_interval(seconds: Sequence[float]) -> tuple[float, float]:
    """Return an interval of the 95th percentile of times, in the order of their requests.

    The share of times above the percentile varies from batch to batch as much as the queue makes
    it (batch means of the indicator). It is a 95% interval of times without a long queue; of one
    that outlasts a batch it is too narrow, so that it only says when to stop. The high end is
    infinite where so few times cannot tell.
    """
    if len(seconds) < 2 * _BATCHES:
        return 0.0, math.inf
    p95 = percentile(seconds, 0.95)
    edges = [round(i * len(seconds) / _BATCHES) for i in range(_BATCHES + 1)]
    shares = [fmean(time > p95 for time in seconds[a:b]) for a, b in pairwise(edges)]
    # No less than that of independent times: a few batches may happen to be alike.
    error = max(stdev(shares) / math.sqrt(_BATCHES), math.sqrt(0.95 * 0.05 / len(seconds)))
    low, high = 0.95 - _QUANTILE_95 * error, 0.95 + _QUANTILE_95 * error
    return (
        percentile(seconds, low) if low > 0 else 0.0,
        percentile(seconds, high) if high < 1 else math.inf,
    )


def _busy(
    spans: Sequence[tuple[float, float]], until: float, slots: int
) -> tuple[list[float], float]:
    """Return seconds with all slots busy, by answer, and their share of the second half."""
    events = sorted(
        [(due, 1) for due, _ in spans if due <= until]
        + [(end, -1) for _, end in spans if end <= until],
        # An answer that ends as another request is due was not waited for by that one.
        key=lambda event: (event[0], event[1]),
    )
    times: list[float] = []
    n, last, since, late_half = 0, 0.0, 0.0, 0.0
    for moment, change in [*events, (until, 0)]:
        if n >= slots:
            since += moment - last
            late_half += max(0.0, moment - max(last, until / 2))
            if change < 0:
                times.append(since)
                since = 0.0
        n, last = n + change, moment
    return times, late_half / (until / 2)


_REQUEST_SECONDS = 600.0


@dataclass(frozen=True)
class Served:
    """One answer that came over HTTP."""

    text: str
    output_tokens: int
    seconds: float
    """From request to the end of the answer; in an open loop from the moment that it was due."""
    due: float = 0.0
    """In an open loop: seconds from its begin."""
    late: float = 0.0
    """By how many seconds the generator sent it too late."""
    first_token: float | None = None
    """Seconds to the first token, where the answer was streamed."""
    prompt_tokens: int = 0
    error: str = ""
    """Why there is no answer, in an open loop."""


@dataclass(frozen=True)
class LoadTest:
    """All answers in the order of the questions, and how long they took together."""

    answers: tuple[Served, ...]
    seconds: float

    @property
    def tokens_per_s(self) -> float:
        """Return output tokens per second of all requests together."""
        return sum(answer.output_tokens for answer in self.answers) / self.seconds

    @property
    def requests_per_s(self) -> float:
        """Return the rate at which answers were given."""
        return len(self.given) / self.seconds

    def latency_ms(self, share: float) -> float:
        """Return the milliseconds that a `share` of all answers took at most."""
        return percentile((answer.seconds * 1000 for answer in self.given), share)

    @property
    def given(self) -> tuple[Served, ...]:
        """Return the answers, without requests that failed."""
        return tuple(answer for answer in self.answers if not answer.error)

    @property
    def n_errors(self) -> int:
        """Return the number of requests that failed."""
        return len(self.answers) - len(self.given)

    def first_token_ms(self, share: float) -> float:
        """Return the milliseconds to the first token, where answers were streamed."""
        firsts = [answer.first_token for answer in self.given if answer.first_token is not None]
        return percentile((1000 * first for first in firsts), share) if firsts else math.nan

    def token_ms(self, share: float) -> float:
        """Return the milliseconds per token after the first, where answers were streamed."""
        each = [
            1000 * (answer.seconds - answer.first_token) / (answer.output_tokens - 1)
            for answer in self.given
            if answer.first_token is not None and answer.output_tokens > 1
        ]
        return percentile(each, share) if each else math.nan

    @property
    def mean_seconds(self) -> float:
        """Return the mean seconds of an answer."""
        return fmean(answer.seconds for answer in self.given)

    @property
    def variation(self) -> float:
        """Return the standard deviation of an answer's seconds over their mean."""
        return pstdev(answer.seconds for answer in self.given) / self.mean_seconds


@dataclass(frozen=True)
class OpenLoop(LoadTest):
    """The same, for requests that came at random moments."""

    asked_per_s: float = 0.0
    """Rate that the moments were drawn for."""
    due_seconds: float = 0.0
    """Seconds in which the requests were due."""
    slots: int = 1
    """Answers that the server makes at once."""

    @property
    def gap_variation(self) -> float:
        """Return the standard deviation over the mean of the gaps between requests as sent.

        It is near 1 for requests with random arrivals; 0 would be a metronome.
        """
        sent = sorted(answer.due + answer.late for answer in self.answers)
        gaps = [b - a for a, b in pairwise(sent)]
        return pstdev(gaps) / fmean(gaps)

    @cached_property
    def keeping_up(self) -> KeepingUp:
        """What the test has shown of the server's capacity; failed requests count, too."""
        spans = [(answer.due, answer.due + answer.seconds) for answer in self.answers]
        return keeping_up(spans, self.asked_per_s, self.due_seconds, self.slots)

    @property
    def kept_up(self) -> bool:
        """Return whether the server kept up."""
        return self.keeping_up.keeps_up

    @property
    def latest_ms(self) -> float:
        """Return by how many milliseconds the generator was late at most."""
        return 1000 * max(answer.late for answer in self.answers)


Tick = Callable[[int, int], None]


def load_test(
    server: Server,
    chats: Sequence[list[Message]],
    *,
    max_tokens: int,
    concurrency: int,
    tick: Tick,
    stream: bool = False,
) -> LoadTest:
    """Ask every chat greedily with `concurrency` requests in flight: a closed loop.

    One request goes ahead uncounted: the first one pays for what is made when it is first needed.

    Args:
        server: OpenAI-compatible, with one model.
        chats: the questions.
        max_tokens: longest answer; the server would otherwise take a limit of its own.
        concurrency: requests in flight at once.
        tick: called with (done, total).
        stream: take the time to the first token too.

    Raises:
        ServeError: a request failed; with the end of the server's log.
    """

    async def run(ask: _Ask) -> LoadTest:
        await ask(chats[0])
        started = time.perf_counter()
        answers: dict[int, Served] = {}
        waiting = iter(range(len(chats)))

        async def worker() -> None:
            for i in waiting:
                answers[i] = await ask(chats[i])
                tick(len(answers), len(chats))

        await asyncio.gather(*[worker() for _ in range(min(concurrency, len(chats)))])
        seconds = time.perf_counter() - started
        return LoadTest(tuple(answers[i] for i in range(len(chats))), seconds)

    return _with_client(server, max_tokens, stream, run)


def open_loop(
    server: Server,
    chats: Sequence[list[Message]],
    *,
    requests_per_s: float,
    n_requests: int,
    max_tokens: int,
    seed: int,
    tick: Tick,
    stream: bool = False,
    slots: int = 1,
    most_parts: int = 1,
    is_clear: bool = False,
) -> OpenLoop:
    """Ask chats at random moments, at a mean rate, and wait for all answers.

    Args:
        server: OpenAI-compatible, with one model, which has answered before.
        chats: the questions, from the first on again where there are more requests.
        requests_per_s: mean rate of a Poisson process.
        n_requests: how many; of each part, where there are several.
        max_tokens: longest answer.
        seed: of the moments.
        tick: called with (done, total).
        stream: take the time to the first token too.
        slots: answers that the server makes at once.
        most_parts: it goes on with as many requests again while the p95 is not known well, or it is
            not sure whether the server keeps up, so often at most.
        is_clear: whether the rate is so low that it is sure to keep up.

    Raises:
        ServeError: all requests failed; with the end of the server's log.
    """
    import httpx

    rng = random.Random(seed)
    part_s = n_requests / requests_per_s

    async def run(ask: _Ask) -> OpenLoop:
        started = time.perf_counter()
        due: list[float] = []
        ended: dict[int, float] = {}
        tasks: list[asyncio.Task[Served]] = []

        async def answered(i: int) -> Served:
            await asyncio.sleep(max(0.0, due[i] - (time.perf_counter() - started)))
            late = time.perf_counter() - started - due[i]
            try:
                served = await ask(chats[i % len(chats)])
            except httpx.HTTPError as error:
                now = time.perf_counter() - started
                served = Served("", 0, now - due[i] - late, error=str(error) or repr(error))
            ended[i] = due[i] + late + served.seconds
            tick(len(ended), len(due))
            first = None if served.first_token is None else served.first_token + late
            return replace(
                served, seconds=served.seconds + late, due=due[i], late=late, first_token=first
            )

        def is_enough(until: float) -> bool:
            spans = [(moment, ended.get(i, math.inf)) for i, moment in enumerate(due)]
            shown = keeping_up(spans, requests_per_s, until, slots)
            if shown.is_sure and not shown.keeps_up:  # its queue has no percentile
                return True
            low, high = p95_interval([end - moment for moment, end in spans])
            return (is_clear or shown.is_sure) and high <= _NARROW * low < math.inf

        for part in range(1, most_parts + 1):
            # A Poisson process of which one knows how many came: each at a moment of its own.
            # The rate is then the one that was asked for, however few they are.
            begin = part_s * (part - 1)
            due += sorted(begin + rng.uniform(0, part_s) for _ in range(n_requests))
            tasks += [asyncio.ensure_future(answered(i)) for i in range(len(tasks), len(due))]
            if part == most_parts:
                break
            # The next part begins on time, while requests of this one are under way.
            rest_s = max(0.0, started + part * part_s - time.perf_counter())
            done, _ = await asyncio.wait(tasks, timeout=rest_s, return_when=asyncio.FIRST_EXCEPTION)
            if any(task.exception() for task in done) or is_enough(part * part_s):
                break
        answers = await asyncio.gather(*tasks)
        seconds = time.perf_counter() - started
        if all(answer.error for answer in answers):
            raise ServeError(_failed(server, answers[0].error))
        return OpenLoop(tuple(answers), seconds, requests_per_s, part * part_s, slots)

    return _with_client(server, max_tokens, stream, run)


_Ask = Callable[[list[Message]], Awaitable[Served]]
_MOST_SHOWN = 300
"""Characters of a refusal that are shown."""


def _with_client(
    server: Server, max_tokens: int, stream: bool, run: Callable[[_Ask], Awaitable[Any]]
) -> Any:
    """Run a loop with a client of the server, and say what went wrong in one error.

    The client is a bare one: what the OpenAI package takes for a request would count as the
    server's time.
    """
    import httpx

    async def main() -> Any:
        asyncio.get_running_loop().set_exception_handler(_unless_interrupted)
        async with httpx.AsyncClient(
            base_url=f"{server.url}/v1",
            timeout=_REQUEST_SECONDS,
            trust_env=False,  # no proxy to this machine
            limits=limits(),
        ) as client:
            listed = await client.get("/models")
            await _check(listed)
            model = listed.json()["data"][0]["id"]

            async def ask(chat: list[Message]) -> Served:
                answer = _streamed if stream else _whole
                request = {"model": model, "messages": chat, "max_tokens": max_tokens}
                return await answer(client, {**request, "temperature": 0})

            return await run(ask)

    try:
        return asyncio.run(main())
    except httpx.HTTPError as error:
        raise ServeError(_failed(server, str(error) or repr(error))) from error
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        # A page of a proxy, with status 200.
        what = "something other than a chat completion server listens there"
        raise ServeError(_failed(server, what)) from error


async def _check(response: httpx.Response) -> None:
    """Check that a request was not refused.

    Raises:
        httpx.HTTPStatusError: it was; with what the server says of it.
    """
    import httpx

    if response.is_error:
        text = " ".join((await response.aread()).decode(errors="replace").split())
        reason = f"status {response.status_code}: {text[:_MOST_SHOWN]}"
        raise httpx.HTTPStatusError(reason, request=response.request, response=response)


def _unless_interrupted(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Report what a task raised, but a signal that came while it connected: it ends the command."""
    error = context.get("exception")
    if not (isinstance(error, BaseExceptionGroup) and error.subgroup(KeyboardInterrupt)):
        loop.default_exception_handler(context)


def _failed(server: Server, reason: str) -> str:
    return (
        f"The server failed to answer ({reason}). The end of {server.log_path}:\n"
        f"{server.last_lines()}"
    )


async def _whole(client: httpx.AsyncClient, request: dict[str, Any]) -> Served:
    """Return an answer that came at once."""
    started = time.perf_counter()
    response = await client.post("/chat/completions", json=request)
    await _check(response)
    answer = response.json()
    seconds = time.perf_counter() - started
    text, usage = answer["choices"][0]["message"].get("content") or "", answer.get("usage")
    if usage is None:
        return Served(text, 0, seconds)
    n_tokens, n_prompt = usage["completion_tokens"], usage["prompt_tokens"]
    return Served(text, n_tokens, seconds, prompt_tokens=n_prompt)


async def _streamed(client: httpx.AsyncClient, request: dict[str, Any]) -> Served:
    """Return an answer that came token by token."""
    import httpx

    parts: list[str] = []
    first, usage, started = None, None, time.perf_counter()
    body = {**request, "stream": True}
    async with client.stream("POST", "/chat/completions", json=body) as response:
        await _check(response)
        async for line in response.aiter_lines():
            data = line.removeprefix("data:").strip()
            if data == line or data == "[DONE]":  # no event, or the last
                continue
            chunk = json.loads(data)
            if "error" in chunk:
                raise httpx.RemoteProtocolError(str(chunk["error"]))
            text = chunk["choices"][0]["delta"].get("content") if chunk["choices"] else None
            if text and first is None:
                first = time.perf_counter() - started
            parts.append(text or "")
            usage = chunk.get("usage") or usage
    seconds, text = time.perf_counter() - started, "".join(parts)
    if usage is None:
        return Served(text, len(parts), seconds, first_token=first)
    n_tokens, n_prompt = usage["completion_tokens"], usage["prompt_tokens"]
    return Served(text, n_tokens, seconds, first_token=first, prompt_tokens=n_prompt)
