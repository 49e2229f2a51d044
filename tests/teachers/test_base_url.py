"""An address that lacks /v1: what to type is found out and said, before anything is asked."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from stratos.teachers.openai import OpenAITeacher
from stratos.teachers.words import OtherAddress


class _OnlyV1(BaseHTTPRequestHandler):
    def log_message(self, *args: Any) -> None:
        return

    def do_GET(self) -> None:
        known = self.path == "/v1/models"
        model = {"id": "parrot", "object": "model", "created": 0, "owned_by": "x"}
        body = json.dumps({"object": "list", "data": [model]} if known else {}).encode()
        self.send_response(200 if known else 404)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture
def url() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _OnlyV1)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_an_address_without_its_version_is_mended_by_what_is_said(url: str) -> None:
    def teacher(base_url: str) -> OpenAITeacher:
        return OpenAITeacher(
            "parrot", model="parrot", base_url=base_url, api_key_env=None, max_retries=0
        )

    assert teacher(url).unreachable() == OtherAddress(url, f"{url}/v1")
    assert teacher(f"{url}/v1").unreachable() is None
