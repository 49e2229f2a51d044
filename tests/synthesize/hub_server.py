"""A loopback hub with one model, whose files it serves as the hub's client asks for them."""

from __future__ import annotations

import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

NAME = "tiny-org/tiny-student"
COMMIT = "a" * 40


class HubServer:
    """Serves the files of a folder as `NAME`."""

    def __init__(self, folder: Path) -> None:
        self.fetched: list[str] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *args: Any) -> None:
                return

            def do_HEAD(self) -> None:
                self._reply(with_body=False)

            def do_GET(self) -> None:
                self._reply(with_body=True)

            def _reply(self, with_body: bool) -> None:
                path, _, name = self.path.partition("/resolve/")
                file = folder / name.partition("/")[2].partition("?")[0]
                if path != f"/{NAME}" or not file.is_file():
                    content = json.dumps({"error": "not found"}).encode()
                    self.send_response(404)
                    self.send_header("X-Error-Code", "EntryNotFound")
                else:
                    content = file.read_bytes()
                    self.send_response(200)
                    self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
                    self.send_header("X-Repo-Commit", COMMIT)
                    if with_body:
                        outer.fetched.append(file.name)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                if with_body:
                    self.wfile.write(content)

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._http.server_port}"

    def __enter__(self) -> HubServer:
        threading.Thread(target=self._http.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *args: Any) -> None:
        self._http.shutdown()
        self._http.server_close()
