"""The proxy of a hosted student before a real engine that is slow, ends, or breaks off."""

from __future__ import annotations

import contextlib
import http.client
import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar

import pytest

from stratos.deploy import proxy as module
from stratos.deploy.hosted_server import Hosted
from stratos.deploy.proxy import MOST_BROKEN, Proxy, Upstream
from stratos.deploy.server import free_port

OWN = "/srv/models/the student"


class Engine(BaseHTTPRequestHandler):
    """Answers as the last message says."""

    protocol_version = "HTTP/1.1"
    bodies: ClassVar[list[dict[str, Any]]] = []
    n_waiting = n_left = 0

    def do_GET(self) -> None:
        if self.path == "/metrics":
            self._reply(b"engine_total 7\n", "text/plain")
            return
        names = [OWN, f"{OWN}:student", "another"]
        self._reply(json.dumps({"data": [{"id": name} for name in names]}).encode())

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.bodies.append(body)
        text = body["messages"][-1]["content"]
        if text == "break" or (text == "break once" and len(self.bodies) == 1):
            self.close_connection = True
            return
        if text == "slow":
            self._wait_until_left()
            return
        usage = {"prompt_tokens": 5, "completion_tokens": 2}
        answer = {"model": body["model"], "choices": [{"text": text}], "usage": usage}
        if not body.get("stream"):
            self._reply(json.dumps(answer).encode())
            return
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        event = f"data: {json.dumps(answer)}\n\n".encode()
        for piece in (event[:9], event[9:]):
            self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
        self.wfile.flush()
        if text == "cut":
            self.close_connection = True
            return
        self.wfile.write(b"0\r\n\r\n")

    def _wait_until_left(self) -> None:
        Engine.n_waiting += 1
        self.connection.settimeout(20)
        with contextlib.suppress(OSError):
            Engine.n_left += not self.connection.recv(1)
        Engine.n_waiting -= 1
        self.close_connection = True

    def _reply(self, data: bytes, kind: str = "application/json") -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def engine() -> Iterator[ThreadingHTTPServer]:
    Engine.bodies.clear()
    Engine.n_waiting = Engine.n_left = 0
    server = ThreadingHTTPServer(("127.0.0.1", 0), Engine)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def hosted(port: int, key_file: str = "") -> Hosted:
    return Hosted(
        bundle="/run/bundle", name="support", port=port, engine_port=0, module="", arguments=[],
        environment={}, log="", since="", version="v1", engine="own", at_once=1, key_file=key_file,
    )  # fmt: skip


class Client:
    """Asks a proxy."""

    def __init__(self, proxy: Proxy, port: int) -> None:
        self.proxy, self.port = proxy, port

    def call(
        self, path: str, body: dict[str, Any] | None = None, **headers: str
    ) -> tuple[int, str]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        data = None if body is None else json.dumps(body)
        head = {"Content-Type": "application/json", **headers}
        connection.request("GET" if data is None else "POST", path, data, head)
        answer = connection.getresponse()
        found = answer.status, answer.read().decode()
        connection.close()
        return found

    def chat(self, text: str, **more: Any) -> tuple[int, str]:
        body = {"model": "support", "messages": [{"role": "user", "content": text}], **more}
        return self.call("/v1/chat/completions", body)

    def metric(self, line: str) -> float:
        text = self.call("/metrics")[1]
        return sum(float(one.split()[-1]) for one in text.splitlines() if one.startswith(line))


@pytest.fixture
def client(engine: ThreadingHTTPServer) -> Iterator[Client]:
    port = free_port()
    proxy = Proxy(hosted(port))
    proxy.start()
    proxy.turn_to(Upstream(engine.server_address[1]), hosted(port))
    yield Client(proxy, port)
    proxy.stop()


def test_clients_know_one_name_and_no_path(client):
    names = [entry["id"] for entry in json.loads(client.call("/v1/models")[1])["data"]]
    assert names == ["support", "support:student"]
    for asked, own in (("support", OWN), ("support:student", f"{OWN}:student"), (None, OWN)):
        status, text = client.chat("hi", model=asked)
        assert status == 200 and Engine.bodies[-1]["model"] == own
        assert json.loads(text)["model"] == (asked or "support")
        assert OWN not in client.chat("hi", model=asked, stream=True)[1]
    for asked in (OWN, "another", "gpt", "", ["support"], "x" * 10_000):
        status, text = client.chat("hi", model=asked)
        error = json.loads(text)["error"]
        assert (status, error["code"]) == (404, "model_not_found") and len(text) < 300


def test_a_chat_without_a_text_reaches_no_engine(client):
    user = {"role": "user", "content": "hi"}
    for messages in ([], "hi", None, [{"role": "user", "content": "\n"}], [user, {"role": "user"}]):
        status, text = client.call("/v1/chat/completions", {"messages": messages})
        assert (status, json.loads(text)["error"]["code"]) == (400, 400)
    assert (
        client.call("/v1/chat/completions", {"messages": [user, {"role": "tool", "content": ""}]})[
            0
        ]
        == 200
    )
    assert len(Engine.bodies) == 1


def test_requests_wait_for_an_engine_that_starts(client, engine):
    there = client.proxy.turn_to(Upstream(free_port()), hosted(client.port))
    found: list[tuple[int, str]] = []
    asking = threading.Thread(target=lambda: found.append(client.chat("hi")))
    asking.start()
    time.sleep(0.5)
    assert client.call("/health")[0] == 200 and client.call("/ready")[0] == 503 and not found
    client.proxy.turn_to(there, hosted(client.port))
    asking.join(20)
    assert found[0][0] == 200 and client.call("/ready")[0] == 200


def test_what_an_engine_ends_with_is_sent_again_but_not_forever(client):
    assert client.chat("break once")[0] == 200 and len(Engine.bodies) == 2
    status, text = client.chat("break")
    assert status == 503 and json.loads(text)["error"]["code"] == 503
    assert len(Engine.bodies) == 2 + MOST_BROKEN
    assert client.metric("stratos_resent_requests_total") == 1 + MOST_BROKEN


def test_a_stream_that_breaks_off_says_so(client):
    status, text = client.chat("cut", stream=True)
    assert status == 200 and json.loads(text.split("data: ")[-1])["error"]["code"] == 503
    assert client.metric('http_server_request_duration_seconds_count{http_request_method="POST",'
                         'http_response_status_code="502"') == 1  # fmt: skip


def test_what_is_counted_and_logged_holds_no_text(client, capfd):
    client.chat("my secret")
    client.chat("my secret", stream=True)
    client.call("/v1/my-secret")
    client.call("/my-secret?my-secret")
    log: list[str] = []
    until = time.monotonic() + 10
    while len(log) < 4 and time.monotonic() < until:  # a line is written behind its answer
        log += capfd.readouterr().out.splitlines()
    assert [line.split()[1:4] for line in log] == [
        ["POST", "/v1/chat/completions", "200"], ["POST", "/v1/chat/completions", "200"],
        ["GET", "other", "200"], ["GET", "other", "404"],
    ]  # fmt: skip
    assert log[0].endswith("s input=5 output=2") and "secret" not in "".join(log)
    assert client.metric("gen_ai_client_token_usage_total") == 14
    assert client.metric("engine_total") == 7, "the engine's own"
    assert "secret" not in client.call("/metrics")[1]


@pytest.mark.parametrize("path", ["/v1/../metrics", "/v1/./models", "/load_model", "/v1//models"])
def test_nothing_else_of_the_engine_is_reached(client, path):
    status, text = client.call(path)
    assert status == 404 and "engine_total" not in text


def test_a_key_is_asked_for_but_not_whether_it_is_well(engine, tmp_path):
    port = free_port()
    (tmp_path / "key").write_text("sk-0123")
    proxy = Proxy(hosted(port, str(tmp_path / "key")))
    proxy.start()
    proxy.turn_to(Upstream(engine.server_address[1]), hosted(port))
    client = Client(proxy, port)
    try:
        for path in ("/v1/models", "/metrics"):
            assert client.call(path)[0] == client.call(path, Authorization="Bearer sk-x")[0] == 401
            assert client.call(path, Authorization="Bearer sk-0123")[0] == 200
        assert client.call("/health")[0] == client.call("/ready")[0] == 200
    finally:
        proxy.stop()


def test_pages_of_other_sites_are_not_answered(client):
    assert client.call("/v1/models", Host="rebound.example")[0] == 421
    assert client.call("/v1/completions", {}, **{"Content-Type": "text/plain"})[0] == 415


def test_an_engine_that_was_given_up_keeps_nobody_waiting(client, monkeypatch):
    monkeypatch.setattr(module, "WAIT_S", 0.2)
    client.proxy.turn_to(Upstream(free_port()), hosted(client.port))
    assert client.chat("hi")[0] == 503
    monkeypatch.setattr(module, "WAIT_S", 60)
    client.proxy.is_given_up = True
    began = time.monotonic()
    assert client.chat("hi")[0] == 503 and time.monotonic() - began < 5
    assert json.loads(client.call("/ready")[1])["status"] == "given up"


def test_an_engine_need_not_finish_what_nobody_waits_for(client):
    """What a client leaves is closed at the engine, so that its slot is free."""
    for stream in (False, True):
        connection = http.client.HTTPConnection("127.0.0.1", client.port, timeout=30)
        body = {"messages": [{"role": "user", "content": "slow"}], "stream": stream}
        head = {"Content-Type": "application/json"}
        connection.request("POST", "/v1/chat/completions", json.dumps(body), head)
        until = time.monotonic() + 10
        while not Engine.n_waiting and time.monotonic() < until:
            time.sleep(0.02)
        connection.close()
        while Engine.n_waiting and time.monotonic() < until:
            time.sleep(0.02)
        assert time.monotonic() < until and Engine.n_left == 1 + stream
    assert client.chat("hi")[0] == 200
