"""A server with the OpenAI API whose every answer takes a known time, one after another."""

import json
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

CHATS = [[{"role": "user", "content": str(i)}] for i in range(12)]


class OneAtATime(BaseHTTPRequestHandler):
    """The OpenAI API, as far as it is asked; a lock lets one answer be made at a time."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.reply({"object": "list", "data": [{"id": "m", "object": "model", "created": 0,
                                                "owned_by": "x"}]})  # fmt: skip

    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.server.lock:
            time.sleep(self.server.seconds)
        text = asked["messages"][-1]["content"]
        message = {"role": "assistant", "content": text}
        if asked.get("stream"):
            self.stream(text)
            return
        self.reply({
            "id": "1", "object": "chat.completion", "created": 0, "model": "m",
            "choices": [{"index": 0, "finish_reason": "stop", "message": message}],
            "usage": {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10},
        })  # fmt: skip

    def stream(self, text):
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        for part in (text, "!"):
            chunk = {"id": "1", "object": "chat.completion.chunk", "created": 0, "model": "m",
                     "choices": [{"index": 0, "delta": {"content": part}}]}  # fmt: skip
            self.wfile.write(f"data: {json.dumps(chunk)}\n\n".encode())
            self.wfile.flush()
            time.sleep(self.server.seconds)
        self.wfile.write(b"data: [DONE]\n\n")

    def reply(self, body):
        data = json.dumps(body).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *args):
        return


class Server(ThreadingHTTPServer):
    """A server that takes many connections at once."""

    request_queue_size = 128
    daemon_threads = True


@contextmanager
def one_at_a_time(seconds, handler=OneAtATime):
    httpd = Server(("127.0.0.1", 0), handler)
    httpd.lock, httpd.seconds = threading.Lock(), seconds
    thread = threading.Thread(target=httpd.serve_forever, daemon=True)
    thread.start()
    try:
        yield SimpleNamespace(url=f"http://127.0.0.1:{httpd.server_address[1]}")
    finally:
        httpd.shutdown()
        httpd.server_close()
