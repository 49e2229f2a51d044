"""The endpoint of a cascade, before a student's server and a teacher's, both on this machine."""

from __future__ import annotations

import http.client
import json
import math
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from stub_task import StubTask

from stratos.contrib.cascade.endpoint import meter as meter_module
from stratos.contrib.cascade.endpoint.escalator import Purse, escalator
from stratos.contrib.cascade.endpoint.front import Cascading, application
from stratos.contrib.cascade.endpoint.meter import Meter, read_kept
from stratos.contrib.cascade.record import Escalation
from stratos.contrib.cascade.threshold import Judge
from stratos.contrib.tools.signatures import question_of, tools_of
from stratos.contrib.tools.tools_task import ToolsTask
from stratos.core.errors import StratosError
from stratos.deploy.server import free_port
from stratos.records import ServingSetting
from stratos.tasks.base import Task
from stratos.teachers import scheduler
from stratos.teachers.base import Answer, Billed, Question
from stratos.teachers.openai import OpenAITeacher
from stratos.teachers.prompting import chat

SURE, UNSURE = "sure: blue", "unsure: blue"


class Chat(BaseHTTPRequestHandler):
    """The chat API: the student is sure of what says so, the teacher does as it is told."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.reply({"object": "list", "data": [{"id": "own", "object": "model"}]})

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        told: Told = self.server.told  # type: ignore[attr-defined]
        told.asked.append(asked)
        if told.seconds:
            time.sleep(told.seconds)
        text = asked["messages"][-1]["content"]
        message = {"role": "assistant", "content": told.answer or f"{told.name} says {text}"}
        choice: dict[str, Any] = {"index": 0, "finish_reason": "stop", "message": message}
        if asked.get("logprobs"):
            sure = -0.001 if "unsure" not in text else -3.0
            choice["logprobs"] = {"content": [{"token": "x", "logprob": sure}]}
        usage = {"prompt_tokens": 10, "completion_tokens": told.n_tokens}
        self.reply(
            {
                "id": "1", "object": "chat.completion", "created": 0, "model": "own",
                "choices": [choice], "usage": usage, "error": told.error,
            },
            told.status, told.headers,
        )  # fmt: skip

    def reply(self, body: Any, status: int = 200, headers: Any = None) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *args: Any) -> None:
        return


@dataclass
class Told:
    """How a server behaves, and what it was asked."""

    name: str
    seconds: float = 0.0
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    n_tokens: int = 5
    """Of an answer, as it counts them."""
    error: dict[str, str] | None = None
    asked: list[Any] = field(default_factory=list)
    url: str = ""
    answer: str = ""
    """To all that is asked; "" says it again."""


@contextmanager
def served(told: Told) -> Iterator[Told]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Chat)
    server.told = told  # type: ignore[attr-defined]
    threading.Thread(target=server.serve_forever, daemon=True).start()
    told.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield told
    finally:
        server.shutdown()
        server.server_close()


@dataclass
class World:
    """A cascade that runs."""

    port: int
    student: Told
    teacher: Told
    meter: Meter
    path: Path

    def post(self, text: str, **more: Any) -> tuple[int, Any, bytes]:
        """Ask it; return status, headers and body."""
        body = {"model": "cascade", "messages": [{"role": "user", "content": text}], **more}
        return self.send(json.dumps(body).encode())

    def send(self, data: bytes) -> tuple[int, Any, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        connection.request(
            "POST", "/v1/chat/completions", data, {"Content-Type": "application/json"}
        )
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read()

    def get(self, path: str) -> bytes:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        connection.request("GET", path)
        return connection.getresponse().read()

    def said(self, text: str, **more: Any) -> tuple[str, str, str]:
        """Ask it; return who answered, what became of the teacher, and the answer."""
        status, headers, body = self.post(text, **more)
        assert status == 200, body
        content = json.loads(body)["choices"][0]["message"]["content"]
        return headers["X-Stratos-Answer"], headers["X-Stratos-Teacher"], content


@contextmanager
def cascade(
    folder: Path, *, seconds: float = 5.0, is_error: bool = False, usd_per_day: float | None = None,
    teacher: Told | None = None, base_url: str = "", task: Task | None = None,
) -> Iterator[World]:  # fmt: skip
    """Run a cascade, in a thread."""
    path = folder / "cascade.meter"
    with served(Told("student")) as student, served(teacher or Told("teacher")) as hosted:
        meter = Meter(path, usd_per_day, None)
        asks = escalator(
            OpenAITeacher(
                "hosted", "m", base_url or hosted.url, api_key_env=None,
                usd_per_million_input_tokens=1.0, usd_per_million_output_tokens=2.0,
            ),
            meter, 16, seconds,
        )  # fmt: skip
        made = Cascading(
            "run", task or StubTask(), Judge(task or StubTask(), "", "probability", 0, {}),
            Escalation("probability", 0, ServingSetting("llamacpp"), "hosted", "default", 64, 16,
                       is_bare=False, bundle_sha256=""),
            math.log(0.9), is_error,
        )  # fmt: skip
        client = httpx.AsyncClient(base_url=student.url, trust_env=False)
        port = free_port()
        server = uvicorn.Server(
            uvicorn.Config(application(made, client, asks, meter), port=port, log_level="error")
        )
        thread = threading.Thread(target=server.run)
        thread.start()
        try:
            while not server.started:
                time.sleep(0.01)
            yield World(port, student, hosted, meter, path)
        finally:
            server.should_exit = True
            thread.join()


@pytest.mark.slow
def test_the_student_answers_and_the_teacher_what_it_is_unsure_of(tmp_path):
    with cascade(tmp_path) as world:
        assert world.said(SURE) == ("student", "not-asked", f"student says {SURE}")
        assert not world.teacher.asked
        assert world.said(UNSURE) == ("teacher", "answered", f"teacher says {UNSURE}")
        assert world.student.asked[-1]["temperature"] == 0 and world.student.asked[-1]["logprobs"]
        # A stream begins when it is known who answers, and says the same.
        for text, by in ((SURE, "student"), (UNSURE, "teacher")):
            status, headers, body = world.post(text, stream=True)
            events = [line[6:] for line in body.decode().splitlines() if line.startswith("data: ")]
            assert status == 200 and headers["X-Stratos-Answer"] == by and events[-1] == "[DONE]"
            parts = [json.loads(one)["choices"][0]["delta"] for one in events[:-1]]
            assert "".join(one.get("content", "") for one in parts) == f"{by} says {text}"
            asked = {"stream": True, "stream_options": {"include_usage": True}}
            last = world.post(text, **asked)[2].decode().split("data: ")[-2]
            assert (json.loads(last)["choices"], "usage" in json.loads(last)) == ([], True)
        # By its own name the student answers alone, as it pleases.
        _, headers, body = world.post(UNSURE, model="run:student", temperature=0.7)
        assert json.loads(body)["choices"][0]["message"]["content"] == f"student says {UNSURE}"
        assert world.student.asked[-1]["temperature"] == 0.7 and "X-Stratos-Answer" not in headers
        listed = json.loads(world.get("/v1/models"))["data"]
        assert [one["id"] for one in listed] == ["run", "run:student"]
        found = json.loads(world.get("/cascade"))
        assert (found["requests"], found["escalated"], found["teacher_answers"]) == (6, 3, 3)
        assert found["usd"] == pytest.approx(3 * (10 * 1 + 5 * 2) / 1e6) == found["usd_today"]
        metrics = world.get("/metrics").decode()
        assert "stratos_cascade_escalated_total 3\n" in metrics
        assert "# TYPE stratos_cascade_usd_today gauge" in metrics
    # What was spent is known to the next one, and nothing that was asked is written anywhere.
    assert Meter(tmp_path / "cascade.meter", None, None).facts().usd_today == found["usd"]
    assert all("blue" not in one.read_text() for one in tmp_path.iterdir())


def test_what_it_cannot_do_is_refused(tmp_path):
    with cascade(tmp_path) as world:
        for more, told in (
            (
                {"temperature": 0.7},
                "temperature: the promise was measured with 0. Leave it out. "
                "The student alone takes it: ask for the model run:student.",
            ),
            ({"n": 2}, "n: the promise was measured with 1."),
            ({"tools": [{"type": "function"}]}, "tools: the student of this cascade calls none."),
            ({"tool_choice": "required"}, "tool_choice: the promise was measured with auto."),
            ({"logprobs": True}, "logprobs: a cascade does not have it."),
            ({"messages": []}, "messages: Expected `array` of length >= 1"),
            ({"messages": "a"}, "messages: Expected `array`, got `str`"),
            ({"stop": 5}, "stop: expected a text, or a list of texts, none of them empty."),
            ({"stop": [""]}, "stop: expected a text"),
            ({"response_format": {"type": "json_object"}}, "response_format: the promise was"),
            ({"max_tokens": 0}, "max_tokens: expected a whole number of at least 1."),
            ({"stream_options": True}, "stream_options: expected an object."),
        ):
            status, _, body = world.post(SURE, **more)
            assert status == 400 and told in json.loads(body)["error"]["message"]
        assert world.send(b"{")[0] == 400 and world.send(b"[1]")[0] == 400
        assert world.send(b'{"messages": "' + b"x" * 2_200_000 + b'"}')[0] == 413
        assert not world.student.asked and json.loads(world.get("/cascade"))["refused"] == 15


WEATHER = {
    "type": "function",
    "function": {
        "name": "weather", "description": "Get the weather in a city.",
        "parameters": {
            "type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"],
        },
    },
}  # fmt: skip


@pytest.fixture
def tools_task(tmp_path):
    """Return a task of requests with tools."""
    rows = [
        {"request": f"What is it like in {city}?", "tools": [WEATHER],
         "calls": [{"name": "weather", "arguments": {"city": city}}]}
        for city in ("Rome", "Oslo", "Lima", "Bern", "Cork", "Nice", "Bonn", "Graz") * 3
    ]  # fmt: skip
    path = tmp_path / "calls.jsonl"
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return ToolsTask(str(path))


def test_calls_of_tools_go_to_the_teacher_where_the_student_is_unsure(tmp_path, tools_task):
    offered = {"tools": [WEATHER], "tool_choice": "auto"}
    (tmp_path / "served").mkdir()
    with cascade(tmp_path / "served", task=tools_task) as world:
        world.student.answer = '[{"name": "weather", "arguments": {"city": "Rome"}}]'
        world.teacher.answer = (
            '<tool_call>{"name": "weather", "arguments": {"city": "Oslo"}}</tool_call>'
        )
        for text, by, city in (("sure", "student", "Rome"), ("unsure", "teacher", "Oslo")):
            status, headers, body = world.post(text, **offered)
            assert (status, headers["X-Stratos-Answer"]) == (200, by)
            [choice] = json.loads(body)["choices"]
            assert choice["finish_reason"] == "tool_calls" and not choice["message"]["content"]
            [call] = choice["message"]["tool_calls"]
            assert call["function"]["name"] == "weather"
            assert json.loads(call["function"]["arguments"]) == {"city": city}
            # A stream has the same calls.
            _, _, body = world.post(text, stream=True, **offered)
            events = [line[6:] for line in body.decode().splitlines() if line.startswith("data: ")]
            deltas = [json.loads(event)["choices"][0]["delta"] for event in events[:-1]]
            calls = [call for delta in deltas for call in delta.get("tool_calls", ())]
            assert calls[0]["function"]["name"] == "weather"
            assert "".join(call["function"]["arguments"] for call in calls) == json.dumps(
                {"city": city}
            )
        # The student is asked as in its evaluation, the teacher with the prompt of the run.
        question = question_of(tools_of([WEATHER]), [{"role": "user", "content": "sure"}])
        assert world.student.asked[0]["messages"] == [{"role": "user", "content": question}]
        item = tools_task.item_of_chat(world.student.asked[-1]["messages"])
        assert world.teacher.asked[-1]["messages"] == chat(tools_task, item, "default")
        # A call that the tool's schema refuses is never the student's answer.
        world.student.answer = '[{"name": "weather", "arguments": {"town": "Rome"}}]'
        assert world.post("sure", **offered)[1]["X-Stratos-Answer"] == "teacher"
        # Nor is one of the teacher's: then the student's own stands, and the header says why.
        for answer in ('[{"name": "nope", "arguments": {}}]', " "):
            world.teacher.answer = answer
            assert world.post("unsure", **offered)[1]["X-Stratos-Teacher"] == "refused"
        # Nor one that is cut off.
        world.teacher.answer = 'Let me see. <tool_call>{"name": "weather", "argu'
        assert world.post("unsure", **offered)[1]["X-Stratos-Teacher"] == "refused"
        # A stop cuts no calls.
        world.student.answer = '[{"name": "weather", "arguments": {"city": "Rome"}}]'
        status, headers, body = world.post("sure", stop=["Rome"], **offered)
        assert headers["X-Stratos-Answer"] == "student" and b"Rome" in body
        # No call is an empty text.
        world.student.answer = "[]"
        [choice] = json.loads(world.post("sure", **offered)[2])["choices"]
        assert choice["message"] == {"role": "assistant", "content": ""}
        status, _, body = world.post("sure", tools=[{"type": "function"}])
        assert status == 400 and "tools: tool 1 has no name" in body.decode()
        status, _, body = world.post("sure", parallel_tool_calls=False, **offered)
        assert status == 400 and body.startswith(b'{"error":{"message":"parallel_tool_calls')


@pytest.mark.slow
def test_a_teacher_that_is_down_costs_no_answer_and_soon_no_time(tmp_path):
    nowhere = f"http://127.0.0.1:{free_port()}/v1"
    with cascade(tmp_path, base_url=nowhere) as world:
        for _ in range(2):
            assert world.said(UNSURE)[:2] == ("student", "unreachable")
        began = time.monotonic()  # five tries have failed: it is asked no more for a while
        assert world.said(UNSURE) == ("student", "unreachable", f"student says {UNSURE}")
        assert time.monotonic() < began + 0.4
        found = json.loads(world.get("/cascade"))
        assert found["unavailable"] == 3 and found["usd"] == 0
    with cascade(tmp_path, base_url=nowhere, is_error=True) as world:
        status, headers, body = world.post(UNSURE)
        assert status == 503 and headers["Retry-After"] == "1"
        assert "(unreachable)" in json.loads(body)["error"]["message"]
        assert world.said(SURE)[0] == "student"


def test_a_slow_teacher_is_waited_for_so_long_and_paid_as_if_it_had_answered(tmp_path):
    slow = Told("teacher", seconds=3.0)
    with cascade(tmp_path, teacher=slow, seconds=0.4) as world:
        began = time.monotonic()
        assert world.said(UNSURE)[:2] == ("student", "timeout")
        assert 0.3 < time.monotonic() - began < 2
        assert json.loads(world.get("/cascade"))["usd"] > (10 * 1 + 16 * 2) / 1e6


@pytest.mark.slow
def test_a_teacher_that_asks_for_a_pause_gets_it(tmp_path):
    held = Told("teacher", status=429, headers={"Retry-After": "30"})
    with cascade(tmp_path, teacher=held, is_error=True) as world:
        status, headers, _ = world.post(UNSURE)
        assert status == 429 and headers["Retry-After"] == "30"
        status, headers, _ = world.post(UNSURE)
        assert status == 429 and 28 <= int(headers["Retry-After"]) <= 30
        assert len(held.asked) == 1
    refused = Told("teacher", status=400)
    with cascade(tmp_path, teacher=refused) as world:
        assert world.said(UNSURE)[:2] == ("student", "refused")
        refused.status = 500  # it is tried again in the same request
        threading.Timer(0.3, lambda: setattr(refused, "status", 200)).start()
        assert world.said(UNSURE)[:2] == ("teacher", "answered")


@pytest.mark.slow
def test_the_money_of_a_day_is_never_passed(tmp_path):
    usd = 20e-6  # of one answer; its ceiling is more
    with cascade(tmp_path, usd_per_day=40 * usd) as world:
        who = [world.said(UNSURE)[:2] for _ in range(40)]
        n = who.count(("teacher", "answered"))
        assert 20 <= n < 40 and who[n:] == [("student", "out-of-money")] * (40 - n)
        assert world.said(SURE)[0] == "student"
    # Also by the next one, of the same day.
    with cascade(tmp_path, usd_per_day=40 * usd) as world:
        assert world.said(UNSURE)[:2] == ("student", "out-of-money")


def test_what_was_under_way_when_it_was_killed_counts_as_spent(tmp_path):
    path = tmp_path / "m"
    meter = Meter(path, 1.0, None)
    assert meter.take(0.2) and meter.take(0.2)
    assert read_kept(path).usd_open >= 0.4 - 1e-9  # before either is sent
    meter.pay(0.2, 0.05)
    left = Meter(path, 1.0, None)  # the other is under way, and perhaps paid
    assert left.facts().usd_today >= 0.25 - 1e-9
    assert not left.take(0.9)
    meter.pay(0.2, 0.1)
    meter.close()
    assert read_kept(path).usd_open == 0.0
    assert Meter(path, 1.0, None).facts().usd_this_month == pytest.approx(0.15)
    assert not Meter(path, None, 0.2).take(0.1) and Meter(path, None, 0.2).take(0.05)


def at_once(world: World, n: int) -> list[tuple[str, str]]:
    """Ask so many at the same time; return who answered each."""
    with ThreadPoolExecutor(n) as pool:
        return list(pool.map(lambda _: world.said(UNSURE)[:2], range(n)))


def test_a_limit_is_passed_by_one_first_call_at_most(tmp_path):
    boundless = Told("teacher", seconds=0.2, n_tokens=200_000)  # whatever it was allowed
    with cascade(tmp_path, usd_per_day=0.01, teacher=boundless) as world:
        who = at_once(world, 16)
        assert who.count(("teacher", "answered")) == 1
        assert who.count(("student", "out-of-money")) == 15
        assert world.meter.facts().usd_today == pytest.approx(0.4, rel=0.01)
    # What it takes is known over a restart, and each call is set aside at that.
    with cascade(tmp_path, usd_per_day=1.0, teacher=boundless) as world:
        assert at_once(world, 8).count(("teacher", "answered")) == 1
        assert world.meter.facts().usd_today == pytest.approx(0.8, rel=0.01)


def test_an_answer_that_passes_its_ceiling_covers_what_is_under_way(tmp_path):
    meter = Meter(tmp_path / "m", 1.0, None)
    card = OpenAITeacher(
        "hosted", "m", "http://127.0.0.1:9", api_key_env=None, usd_per_million_output_tokens=1.0
    ).card()
    purse, question = Purse(card, meter), Question([{"role": "user", "content": "a"}], 1000)
    receipts = [purse.draw(question) for _ in range(3)]
    purse.pay(receipts[0], Answer("b", 1, 100_000, 0.0), Billed.NOTHING)
    # 0.1 was paid, and the two others may take as much.
    assert not meter.take(0.75) and meter.take(0.65)


@pytest.mark.slow
def test_no_one_waits_long_for_a_teacher_that_said_when_it_is_back(tmp_path):
    for told, why, least_s, most_s in (
        (Told("teacher", status=429, headers={"Retry-After": "3600"}), "rate-limited", 3500, 3600),
        (Told("teacher", status=429, headers={"Retry-After": "1e300"}), "rate-limited", 1, 86400),
        (Told("teacher", status=429, error={"code": "insufficient_quota"}), "no-credit", 1, 600),
        (Told("teacher", status=402), "no-credit", 1, 600),
    ):
        with cascade(tmp_path, teacher=told, is_error=True) as world:
            for _ in range(3):
                status, headers, _ = world.post(UNSURE)
                assert status == (429 if why == "rate-limited" else 503)
                assert headers["X-Stratos-Teacher"] == why
                assert least_s <= int(headers["Retry-After"]) <= most_s
            assert len(told.asked) == 1


@pytest.mark.slow
def test_one_request_finds_out_whether_a_teacher_is_back(tmp_path, monkeypatch):
    monkeypatch.setattr(scheduler, "_SHORTEST_PAUSE_S", 0.3)
    slow = Told("teacher", seconds=2.0)
    with cascade(tmp_path, teacher=slow, seconds=0.5) as world:
        assert at_once(world, 6) == [("student", "timeout")] * 6
        time.sleep(0.4)
        who = at_once(world, 8)
        assert who.count(("student", "timeout")) == 1
        assert who.count(("student", "unreachable")) == 7 and len(slow.asked) == 7
        slow.seconds = 0.0
        time.sleep(0.8)
        assert world.said(UNSURE)[:2] == ("teacher", "answered")
        assert at_once(world, 4) == [("teacher", "answered")] * 4


def test_a_full_disk_costs_no_answer_and_no_amount(tmp_path, monkeypatch):
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with cascade(tmp_path, usd_per_day=1.0) as world:
        assert world.said(UNSURE)[:2] == ("teacher", "answered")
        with monkeypatch.context() as patched:
            patched.setattr(meter_module, "write_atomically", full)
            assert world.said(UNSURE) == ("student", "not-booked", f"student says {UNSURE}")
            assert len(world.teacher.asked) == 1
        assert world.said(UNSURE)[:2] == ("teacher", "answered")
        kept = read_kept(world.path)
        assert sum(kept.usd_by_day.values()) == pytest.approx(2 * 20e-6)
    with cascade(tmp_path, usd_per_day=1.0, is_error=True) as world:
        with monkeypatch.context() as patched:
            patched.setattr(meter_module, "write_atomically", full)
            status, headers, _ = world.post(UNSURE)
        assert (status, headers["X-Stratos-Teacher"]) == (503, "not-booked")


@pytest.mark.parametrize(
    "kept",
    [b"{", b'{"usd_by_day": {"2026-11-27": "x"}}', b'{"usd_by_day": {"2026-11-27": -5.0}}'],
)
def test_a_meter_that_cannot_be_read_is_one_sentence(tmp_path, kept):
    (tmp_path / "m").write_bytes(kept)
    with pytest.raises(StratosError, match=r"cannot be read .* or delete it to count from"):
        Meter(tmp_path / "m", 1.0, None)


def test_the_longest_answer_of_a_request_is_that_of_the_teacher(tmp_path):
    with cascade(tmp_path) as world:
        for limit, asked in ((7, 7), (500, 16), (None, 16)):
            assert world.said(UNSURE, max_tokens=limit, stop=" blue") == (
                "teacher", "answered", "teacher says unsure:",
            )  # fmt: skip
            assert world.teacher.asked[-1]["max_tokens"] == asked
