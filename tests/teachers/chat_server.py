"""A loopback server that speaks chat completions, and fails in the ways that real ones do."""

from __future__ import annotations

import json
import threading
import time
from collections import deque
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

KEY = "sk-test-0123456789abcdef"
MODELS = ("parrot-large", "parrot-small")


class _Http(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 512  # with the usual 5, a crowd of connections is reset under load


class ChatServer:
    """Answers `says`, else the last message in capitals; serves `faults` first, one a request.

    A fault is an HTTP status, (status, headers), (status, headers, message), "cut" (the body ends
    in the middle), "garbage" (200 with a body that is no JSON) or "empty" (no choices). `gate` is
    passed by each request with its number, from 1.
    """

    def __init__(self) -> None:
        self.faults: deque[Any] = deque()
        self.requests: list[dict[str, Any]] = []
        self.times: list[float] = []
        self.delay_s = 0.0
        self.gate: Callable[[int], None] = lambda number: None
        self.says = ""
        self.n_cached = 0
        """Of the 100 input tokens of each answer those that it says it had read before."""
        self.listed: dict[str, dict[str, Any]] = {}
        """Model to what the list of models says of it besides."""
        self.most_in_flight = 0
        self._in_flight = 0
        self._lock = threading.Lock()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *args: Any) -> None:
                return

            def do_GET(self) -> None:
                if not self._allowed():
                    return
                models = [
                    {"id": m, "object": "model", "created": 0, "owned_by": "x"}
                    | outer.listed.get(m, {})
                    for m in MODELS
                ]
                self._send(200, {"object": "list", "data": models})

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with outer._lock:
                    outer.requests.append(body)
                    number = len(outer.requests)
                    outer.times.append(time.monotonic())
                    outer._in_flight += 1
                    outer.most_in_flight = max(outer.most_in_flight, outer._in_flight)
                    fault = outer.faults.popleft() if outer.faults else None
                try:
                    outer.gate(number)
                    time.sleep(outer.delay_s)
                    if self._allowed():
                        self._reply(body, fault)
                finally:
                    with outer._lock:
                        outer._in_flight -= 1

            def _allowed(self) -> bool:
                if self.headers["Authorization"] == f"Bearer {KEY}":
                    return True
                self._send(
                    401, {"error": {"message": f"wrong key {self.headers['Authorization']}"}}
                )
                return False

            def _reply(self, body: dict[str, Any], fault: Any) -> None:
                if body["model"] not in MODELS:
                    self._send(404, {"error": {"message": f"no model {body['model']}"}})
                elif fault is None or fault in ("cut", "garbage", "empty"):
                    self._send(200, outer._completion(body), fault)
                elif isinstance(fault, int):
                    self._send(fault, {"error": {"message": "a fault"}})
                else:
                    status, headers, *text = fault
                    message = {"message": text[0] if text else "a fault"}
                    self._send(status, {"error": message}, headers=headers)

            def _send(
                self, status: int, data: Any, how: str | None = None, headers: Any = ()
            ) -> None:
                if how == "empty":
                    data = {**data, "choices": []}
                content = b"<html>busy</html>" if how == "garbage" else json.dumps(data).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(content)))
                for name, value in dict(headers).items():
                    self.send_header(name, value)
                self.end_headers()
                if how == "cut":
                    self.wfile.write(content[: len(content) // 2])
                    self.close_connection = True
                else:
                    self.wfile.write(content)

        self._http = _Http(("127.0.0.1", 0), Handler)

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self._http.server_port}/v1"

    def _completion(self, body: dict[str, Any]) -> dict[str, Any]:
        text = self.says or body["messages"][-1]["content"].upper()
        message = {"role": "assistant", "content": text}
        return {
            "id": "x",
            "object": "chat.completion",
            "created": 0,
            "model": body["model"],
            "choices": [{"index": 0, "finish_reason": "stop", "message": message}],
            "usage": {
                "prompt_tokens": 100,
                "completion_tokens": 10,
                "total_tokens": 110,
                "prompt_tokens_details": {"cached_tokens": self.n_cached},
            },
        }

    def __enter__(self) -> ChatServer:
        threading.Thread(target=self._http.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *args: Any) -> None:
        self._http.shutdown()
        self._http.server_close()
