"""A loopback server that scores given text as vLLM does, with a real tiny model."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import torch

MODEL = "tiny-served"


class CompletionServer:
    """Answers /v1/completions with `prompt_logprobs`.

    Args:
        network: the model.
        words: its tokenizer.
        max_logprobs: more than this is refused with 400, as by vLLM's --max-logprobs.
        drops: leaves prompt_logprobs out of its replies, as `transformers serve` does.
        faults: HTTP statuses served first, one a request.
    """

    def __init__(self, network: Any, words: Any, max_logprobs: int = 20, drops: bool = False):
        self.network, self.words = network, words
        self.max_logprobs, self.drops = max_logprobs, drops
        self.faults: list[int] = []
        self.requests: list[dict[str, Any]] = []
        self.path = "/v1/completions"
        outer, lock = self, threading.Lock()

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *args: Any) -> None:
                return

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with lock:
                    outer.requests.append(body)
                    status, reply = outer._reply(self.path, body)
                content = json.dumps(reply).encode()
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

    def _reply(self, path: str, body: dict[str, Any]) -> tuple[int, Any]:
        if self.faults:
            return self.faults.pop(0), {"error": {"message": "a fault"}}
        if path != self.path or body["model"] != MODEL:
            return 404, {"error": {"message": "not here"}}
        k = body.get("prompt_logprobs")
        if k is not None and k > self.max_logprobs:
            return 400, {"error": {"message": f"Requested prompt logprobs of {k}, max allowed"}}
        choice: dict[str, Any] = {"index": 0, "text": "x", "finish_reason": "length"}
        choice["logprobs"] = None
        if k is not None and not self.drops:
            choice["prompt_logprobs"] = self._score(body["prompt"], k)
        usage = {"prompt_tokens": len(body["prompt"]), "completion_tokens": 1, "total_tokens": 0}
        return 200, {
            "id": "x",
            "object": "text_completion",
            "created": 0,
            "model": MODEL,
            "choices": [choice],
            "usage": usage,
        }

    def _score(self, ids: list[int], k: int) -> list[Any]:
        with torch.no_grad():
            logprobs = self.network(torch.tensor([ids])).logits[0].float().log_softmax(-1)
        places: list[Any] = [None]
        for place, target in enumerate(ids[1:]):
            row = logprobs[place]
            told = {*row.topk(k).indices.tolist(), target}
            ranks = {id_: int((row > row[id_]).sum()) + 1 for id_ in told}
            places.append(
                {
                    str(id_): {
                        "logprob": row[id_].item(),
                        "rank": ranks[id_],
                        "decoded_token": self.words.decode([id_]),
                    }
                    for id_ in told
                }
            )
        return places

    def __enter__(self) -> CompletionServer:
        threading.Thread(target=self._http.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *args: Any) -> None:
        self._http.shutdown()
        self._http.server_close()
