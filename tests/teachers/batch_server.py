"""A loopback provider with a batch API: files go in, batches run for a while, files come out."""

from __future__ import annotations

import json
import re
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from typing import Any


class BatchServer:
    """Answers in capitals after `seconds`; `faults` maps a message to statuses, one a try.

    `says` is the message of every refusal, `http` the status of every upload.
    """

    def __init__(self, seconds: float = 0.2) -> None:
        self.seconds = seconds
        self.faults: dict[str, list[Any]] = {}
        self.refuses, self.says, self.http = "", "a fault", 200
        self.files: dict[str, bytes] = {}
        self.batches: dict[str, dict[str, Any]] = {}
        self.asked: Counter[str] = Counter()
        self._ids = count()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *args: Any) -> None:
                return

            def do_GET(self) -> None:
                path = self.path.partition("?")[0]
                if path == "/v1/batches":
                    made = [outer.told(id_) for id_ in reversed(outer.batches)]
                    self._send({"object": "list", "data": made, "has_more": False})
                elif path.endswith("/content"):
                    self._send(outer.files[path.split("/")[3]])
                else:
                    self._send(outer.told(path.split("/")[3]))

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if outer.http != 200:
                    self._send({"error": {"message": outer.says}}, outer.http)
                elif self.path == "/v1/files":
                    self._send(outer.keep(body, self.headers["Content-Type"]))
                else:
                    self._send(outer.start(json.loads(body)))

            def _send(self, data: Any, status: int = 200) -> None:
                content = data if isinstance(data, bytes) else json.dumps(data).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self._http.server_port}/v1"

    def keep(self, body: bytes, content_type: str) -> dict[str, Any]:
        boundary = re.search(r'boundary="?([^";]+)', content_type)
        assert boundary is not None
        parts = body.split(b"--" + boundary.group(1).encode())
        part = next(part for part in parts if b'name="file"' in part)
        return self._file(part.split(b"\r\n\r\n", 1)[1].removesuffix(b"\r\n"))

    def start(self, asked: dict[str, Any]) -> dict[str, Any]:
        assert asked["endpoint"] == "/v1/chat/completions"
        id_ = f"batch_{next(self._ids)}"
        self.batches[id_] = {**asked, "started": time.time()}
        for text in self.files[asked["input_file_id"]].splitlines():
            self.asked[json.loads(text)["body"]["messages"][-1]["content"]] += 1
        return self.told(id_)

    def told(self, id_: str) -> dict[str, Any]:
        batch = self.batches[id_]
        told = {
            "id": id_, "object": "batch", "endpoint": batch["endpoint"], "status": "in_progress",
            "input_file_id": batch["input_file_id"], "completion_window": "24h",
            "created_at": int(batch["started"]), "metadata": batch["metadata"],
        }  # fmt: skip
        if self.refuses:
            return {**told, "status": "failed", "errors": {"data": [{"message": self.refuses}]}}
        if time.time() - batch["started"] < self.seconds:
            return told
        if "out" not in batch:
            batch["out"], batch["bad"] = self._run(batch)
        return {
            **told, "status": "completed", "completed_at": int(batch["started"]) + 2,
            "output_file_id": batch["out"], "error_file_id": batch["bad"],
        }  # fmt: skip

    def _run(self, batch: dict[str, Any]) -> tuple[str, str]:
        good, bad = [], []
        for text in self.files[batch["input_file_id"]].splitlines():
            line = json.loads(text)
            content = line["body"]["messages"][-1]["content"]
            faults = self.faults.get(content) or [200]
            status = faults.pop(0)
            if status == "missing":
                continue
            completion = {
                "id": "x", "object": "chat.completion", "created": 0, "model": "m",
                "choices": [{
                    "index": 0, "finish_reason": "stop",
                    "message": {"role": "assistant", "content": content.upper()},
                }],
                "usage": {"prompt_tokens": 20, "completion_tokens": 5, "total_tokens": 25},
            }  # fmt: skip
            refusal = {"error": {"message": self.says}}
            response = {"status_code": status, "body": completion if status == 200 else refusal}
            made = json.dumps({"custom_id": line["custom_id"], "response": response})
            (good if status == 200 else bad).append(made)
        good.reverse()  # providers keep no order
        good.append('{"torn')
        files = [self._file("\n".join(lines).encode())["id"] for lines in (good, bad)]
        return files[0], files[1]

    def _file(self, data: bytes) -> dict[str, Any]:
        id_ = f"file_{next(self._ids)}"
        self.files[id_] = data
        return {
            "id": id_, "object": "file", "bytes": len(data), "created_at": 0,
            "filename": "x", "purpose": "batch", "status": "processed",
        }  # fmt: skip

    def __enter__(self) -> BatchServer:
        threading.Thread(target=self._http.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *args: Any) -> None:
        self._http.shutdown()
        self._http.server_close()
