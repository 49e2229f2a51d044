"""The web application behind the page: it passes questions on to the student and checks answers.

It listens on this machine alone. What other pages of the browser send is refused: the student's
answers are for whoever sits here, and those of a teacher cost money.
"""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import httpx
import msgspec
import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from stratos.core.errors import StratosError
from stratos.core.values import named
from stratos.deploy.engines.http_api import decoded, read_body
from stratos.deploy.hosted_server import Hosted
from stratos.deploy.manifest import read_known
from stratos.deploy.server import HOST
from stratos.evaluate.answers import answers_path, read_answers
from stratos.records import Plan, Probe, load
from stratos.tasks.base import Item, Message, Task
from stratos.teachers.asking import cost_usd
from stratos.teachers.base import Teacher
from stratos.teachers.call_budget import price
from stratos.teachers.prompting import chat, prompting, with_repaired_prompts

# The run that made a bundle: its task, which checks answers, and its teacher, to be asked beside.
#
# A bundle that was copied away from its run has neither; its known answers are in it.

MOST_EXAMPLES = 50
"""Test items that the page offers to ask."""


@dataclass(frozen=True)
class Example:
    """A test item that a user may ask."""

    question: str
    gold: str


@dataclass(frozen=True)
class Checked:
    """What can be told of an answer to a question that somebody typed."""

    answer: str | None
    """What the task reads out of the text; None where it reads nothing, or there is no task."""
    gold: str | None
    """Right answer; None where nobody knows it."""
    is_right: bool | None
    """None where it cannot be told."""


@dataclass(frozen=True)
class Beside:
    """A teacher's answer."""

    text: str
    checked: Checked
    usd: float
    seconds: float


@dataclass(frozen=True)
class Origin:
    """A bundle with what is known of it."""

    bundle: Path
    examples: tuple[Example, ...]
    task: Task | None = None
    teacher: Teacher | None = None
    prompt: str = ""
    """With which the teacher is asked."""
    max_tokens: int = 0
    """Of the teacher's answer."""
    why_not: str = ""
    """Why there is no task or no teacher."""

    def messages(self, question: str) -> list[Message]:
        """Return the chat that the student is asked with."""
        if self.task is not None:
            return self.task.student_messages(self._item(question))
        return [{"role": "user", "content": question}]

    def check(self, question: str, text: str) -> Checked:
        """Tell whether a text answers a question rightly, where that is known."""
        item = self._item(question)
        gold = item.answer or None
        if self.task is None:
            return Checked(None, gold, None)
        is_right = None if gold is None else self.task.score(text, item).exact >= 1.0
        return Checked(self.task.parse(text), gold, is_right)

    def ask_teacher(self, question: str) -> Beside:
        """Ask the teacher of the run, with the prompt that its probe found best.

        Raises:
            StratosError: there is none, or it does not answer.
        """
        if self.task is None or self.teacher is None:
            raise StratosError(self.why_not or "This student has no teacher that can be asked.")
        messages = chat(self.task, self._item(question), self.prompt)
        (answer,) = self.teacher.ask([messages], self.max_tokens)
        return Beside(
            answer.text,
            self.check(question, answer.text),
            cost_usd(self.teacher.card(), [answer]),
            answer.seconds,
        )

    @property
    def is_teacher_free(self) -> bool:
        """Whether the teacher's answers cost nothing."""
        return self.teacher is None or not price(self.teacher.card(), 1, 1)

    def _item(self, question: str) -> Item:
        """Return the item of a question; its answer is "" where nobody knows it."""
        golds = {example.question: example.gold for example in self.examples}
        item = None if question in golds or self.task is None else self.task.typed(question)
        return item or Item("", "", question, golds.get(question, ""))


def origin_of(bundle: Path) -> Origin:
    """Return what is known of a bundle: of a run's own bundle its task and teacher as well.

    Raises:
        StratosError: the known answers of the bundle are damaged.
    """
    known = [Example(known.messages[-1]["content"], known.gold) for known in read_known(bundle)]
    origin, run_dir = Origin(bundle, tuple(known)), bundle.parent
    if bundle.name != "bundle" or not (run_dir / ".hydra" / "config.yaml").is_file():
        why = "The bundle lies in no folder of a run, so that nothing is known of its task."
        return replace(origin, why_not=why)
    try:
        return _of_run(origin, run_dir)
    except StratosError as error:
        return replace(origin, why_not=str(error))


def _of_run(origin: Origin, run_dir: Path) -> Origin:
    from stratos.run.stored_config import config_of

    config = config_of(run_dir)
    origin = replace(origin, task=config.task)
    if answers_path(run_dir).is_file():
        answers = read_answers(run_dir)[:MOST_EXAMPLES]
        examples = tuple(Example(answer.question, answer.gold) for answer in answers)
        origin = replace(origin, examples=examples)
    try:
        plan = load(run_dir / "plan.json", None, Plan)
        probe = load(run_dir / "probe.json", None, Probe)
        if plan is None or probe is None:
            return replace(origin, why_not="The run has no plan, so that it names no teacher.")
        teacher, probed = named(config.teachers, plan.teacher), probe.of_teacher(plan.teacher)
    except (KeyError, msgspec.DecodeError):
        return replace(origin, why_not="The teacher of this student is not known.")
    if (why := teacher.unreachable()) is not None:
        return replace(origin, why_not=f"{teacher.name} cannot be asked: {why}")
    task = with_repaired_prompts(config, probe).task
    limit = prompting(teacher, task).limit(probed.prompt, config.probe.max_tokens)
    most = limit.tokens if limit.is_fixed else probed.max_tokens or limit.tokens
    return replace(origin, task=task, teacher=teacher, prompt=probed.prompt, max_tokens=most)


# The application.

POLICY = (
    "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
MOST_BODY_BYTES = 1 << 20
_FILES = {"page.html": "text/html", "page.js": "text/javascript", "page.css": "text/css"}


class Question(msgspec.Struct):
    """What the page sends: a question, and an answer that is to be checked."""

    question: str
    text: str = ""


def serve_page(hosted: Hosted, origin: Origin, port: int) -> None:
    """Serve the page of a hosted student in this process, until Ctrl-C.

    Args:
        hosted: the server that answers.
        origin: what is known of the student.
        port: where the page listens, on this machine alone.
    """
    page = _Page(hosted, origin)
    app = Starlette(
        routes=[
            Route("/", page.file, name="page.html"),
            Route("/page.js", page.file, name="page.js"),
            Route("/page.css", page.file, name="page.css"),
            Route("/facts", page.facts),
            Route("/ask", _posted(page.ask), methods=["POST"]),
            Route("/check", _posted(page.check), methods=["POST"]),
            Route("/teacher", _posted(page.teacher), methods=["POST"]),
        ],
        # A name that some other page has resolve to this machine is none of ours.
        middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=[HOST, "localhost"])],
    )
    settings: dict[str, Any] = {"log_level": "warning", "access_log": False}
    uvicorn.run(app, host=HOST, port=port, timeout_graceful_shutdown=1, **settings)


def _posted(
    answer: Callable[[Question], Awaitable[Response]],
) -> Callable[[Request], Awaitable[Response]]:
    """Return what answers a request whose body is a question."""

    async def answered(request: Request) -> Response:
        # A browser asks before another page may send this type, and is told no.
        if request.headers.get("content-type", "").partition(";")[0] != "application/json":
            return _error(415, "Expected application/json.")
        data = await read_body(request, MOST_BODY_BYTES)
        if data is None:
            return _error(413, f"A question may have {MOST_BODY_BYTES >> 10} KiB.")
        try:
            return await answer(decoded(data, Question))
        except msgspec.DecodeError as error:
            return _error(400, str(error))

    return answered


class _Page:
    """Answers what the page asks."""

    def __init__(self, hosted: Hosted, origin: Origin) -> None:
        self._hosted = hosted
        self._origin = origin
        self._teacher_lock = threading.Lock()

    async def file(self, request: Request) -> Response:
        """Return the page, its script or its style."""
        name = request.url.path.strip("/") or "page.html"
        text = (Path(__file__).parent / name).read_text(encoding="utf-8")
        headers = {"Content-Security-Policy": POLICY, "X-Content-Type-Options": "nosniff",
                   "Referrer-Policy": "no-referrer", "Cache-Control": "no-store"}  # fmt: skip
        return Response(text, media_type=_FILES[name], headers=headers)

    async def facts(self, request: Request) -> Response:
        """Return what the page shows before anything is asked."""
        origin, teacher = self._origin, self._origin.teacher
        return JSONResponse(
            {
                "student": self._hosted.bundle,
                "url": f"{self._hosted.url}/v1",
                "task": None if origin.task is None else origin.task.name,
                "examples": [asdict(example) for example in origin.examples],
                "teacher": None if teacher is None else teacher.name,
                "is_teacher_free": origin.is_teacher_free,
                "why_not": origin.why_not,
            }
        )

    async def ask(self, sent: Question) -> Response:
        """Stream the student's answer, as the server's own events."""
        # The proxy of the environment is not asked for what is on this machine.
        key = self._hosted.key
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        client = httpx.AsyncClient(
            base_url=self._hosted.url, timeout=600, trust_env=False, headers=headers
        )
        try:
            models = (await client.get("/v1/models")).raise_for_status().json()
            body = {
                "model": self._hosted.student or models["data"][0]["id"],
                "messages": self._origin.messages(sent.question),
                "temperature": 0,
                "stream": True,
            }
            if self._hosted.max_tokens is not None:
                body["max_tokens"] = self._hosted.max_tokens
            request = client.build_request("POST", "/v1/chat/completions", json=body)
            answer = await client.send(request, stream=True)
            if answer.is_error:
                await answer.aread()
            answer.raise_for_status()
        except httpx.HTTPStatusError as error:
            await client.aclose()
            return _error(502, f"The student's server refuses this: {error.response.text[:200]}")
        except (httpx.HTTPError, ValueError, KeyError, IndexError) as error:
            await client.aclose()
            why = f"The student's server does not answer ({type(error).__name__})."
            return _error(503, f"{why} To see how it is: stratos serve status")
        return StreamingResponse(_passed(client, answer), media_type="text/event-stream")

    async def check(self, sent: Question) -> Response:
        """Tell what the task reads in an answer, and whether it is right."""
        return JSONResponse(asdict(self._origin.check(sent.question, sent.text)))

    async def teacher(self, sent: Question) -> Response:
        """Ask the teacher the same question: one at a time, since local weights are here once."""

        def answer() -> Any:
            with self._teacher_lock:
                return self._origin.ask_teacher(sent.question)

        try:
            return JSONResponse(asdict(await run_in_threadpool(answer)))
        except (StratosError, OSError, RuntimeError) as error:
            return _error(502, str(error))


async def _passed(client: httpx.AsyncClient, answer: httpx.Response) -> AsyncIterator[bytes]:
    """Pass an answer on; when the browser goes away, the student stops too."""
    try:
        async for part in answer.aiter_bytes():
            yield part
    finally:
        await answer.aclose()
        await client.aclose()


def _error(status: int, message: str) -> Response:
    return JSONResponse({"error": message}, status)
