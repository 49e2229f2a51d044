"""What an answer costs a server on this machine, and what the formats of a run lost.

    python benchmarks/serving/engines.py --rounds 5 --keep       CPU of an answer by direct and by
                                                                 llama.cpp in turn, also streamed
    python benchmarks/serving/engines.py --losses outputs/<run>  what deploy measured of each format
                                                                 of a run (deploy=llamacpp)

Every engine is asked the same questions by the same client (plain HTTP over kept connections, a
thread for each request in flight), in one go, so that other work on the machine meets all of them.
Compare the ratios, and the CPU milliseconds, which other work changes least.
"""

from __future__ import annotations

import argparse
import http.client
import json
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

sys.path.insert(0, str(Path(__file__).parents[1]))

import record

from stratos import records
from stratos.core.machine import group_memory, group_seconds, others_between, usage
from stratos.deploy.bundle_server import serving_bundle
from stratos.deploy.engines.gguf_file import export
from stratos.deploy.exports import read_exports
from stratos.deploy.server import HOST, Server
from stratos.evaluate.metrics import percentile
from stratos.records import ServingSetting

IN_FLIGHT = 8
DIRECT = ServingSetting("direct", IN_FLIGHT)
FORMATS = ("f32", "f16", "q8_0", "q4_k_m")
SHAPE_TOKENS = 160
"""Tokens of an answer of the 1M Mahjong student (conf/student/stratos_1m.yaml)."""
Chats = list[Any]
Row = dict[str, Any]


class Shape(NamedTuple):
    """Of a student with random weights."""

    width: int
    mlp: int
    layers: int
    heads: int


SHAPE_1M = Shape(128, 384, 4, 4)


def losses(run: Path) -> Row:
    """Return what each format of a run's bundle lost, with student and training."""
    exports = read_exports(run / "bundle")
    student = records.load(run / "distill.json", None, records.Student)
    if exports is None:
        sys.exit(f"{run} has no exports")
    return {
        "student": student.name,
        "train_tokens": student.train_tokens,
        "task": records.load(run / "evaluate.json", None, records.Scorecard).task,
        "engine": exports.version,
        "formats": msgspec.to_builtins(exports.formats),
    }


def untrained(bundle: Path, n: int, shape: Shape = SHAPE_1M) -> tuple[Path, Chats]:
    """Return a bundle of a student's shape whose weights are random, and questions.

    Its answers have all the tokens that a request allows: it never ends one by itself.
    """
    import torch
    from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM

    from stratos.distill.tokenizer import symbol_tokenizer
    from stratos.tasks.mahjong import MahjongTask

    task = MahjongTask()
    tokenizer = symbol_tokenizer(task.vocabulary())
    tokenizer.save_pretrained(bundle)
    ends = {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=shape.width, num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads, num_key_value_heads=shape.heads,
        intermediate_size=shape.mlp, max_position_embeddings=1024, tie_word_embeddings=True,
        initializer_range=0.1, bos_token_id=None, **ends,
    )  # fmt: skip
    model = LlamaForCausalLM(config)
    with torch.no_grad():
        model.get_input_embeddings().weight[tokenizer.eos_token_id] = 0
    model.save_pretrained(bundle)
    GenerationConfig(do_sample=False, max_new_tokens=768, **ends).save_pretrained(bundle)
    return bundle, [task.student_messages(item) for item in task.items("train", n)]


def one_case(
    bundle: Path, setting: ServingSetting, chats: Chats, most: int
) -> tuple[Row, list[str]]:
    """Serve a bundle by one engine; return what it showed, and its answers."""
    with serving_bundle(bundle, setting, bundle / "server.log") as server:
        ask = asker(server, str(bundle), most)
        ask(chats[0])
        group = server.process.pid
        before, cpu_before = usage(group), group_seconds(group)
        alone = [ask(chat) for chat in chats]
        cpu = group_seconds(group) - cpu_before
        cores, is_busy = others_between(before, usage(group))
        start = time.perf_counter()
        with ThreadPoolExecutor(IN_FLIGHT) as pool:
            together = list(pool.map(ask, chats))
        seconds = time.perf_counter() - start
        memory = group_memory(group)
    milliseconds = [1000 * seconds for seconds, _, _ in alone]
    tokens = sum(n for _, _, n in alone)
    row = {
        "p50_ms": round(percentile(milliseconds, 0.5), 1),
        "p95_ms": round(percentile(milliseconds, 0.95), 1),
        "requests_per_s": round(len(chats) / seconds, 2),
        "tokens_per_s": round(sum(n for _, _, n in together) / seconds, 1),
        "tokens": tokens,
        "cpu_ms_per_token": round(1000 * cpu / tokens, 3),
        "memory_mib": round(memory / 2**20),
        "others_cores": None if cores is None else round(cores, 2),
        "was_busy": is_busy,
    }
    return row, [text for _, text, _ in alone]


def answer_costs(options: argparse.Namespace) -> Row:
    """Return CPU ms of an answer of the 1M shape: both engines run, and are asked in turn."""
    pair = {
        "direct": DIRECT,
        "llama.cpp, q8_0": ServingSetting("llamacpp", IN_FLIGHT, format="q8_0"),
    }
    cases = [(n, streams) for n in (1, IN_FLIGHT) for streams in (False, True)]
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as work, ExitStack() as stack:
        bundle, chats = untrained(Path(work) / "shape", options.items)
        export(bundle, ["q8_0"], chats)
        servers = {
            title: stack.enter_context(serving_bundle(bundle, setting, Path(work) / f"{n}.log"))
            for n, (title, setting) in enumerate(pair.items())
        }
        for round_ in range(options.rounds + 1):
            for n, streams in cases:
                for title, server in servers.items():
                    row = cost_of_answers(server, str(bundle), chats, n, streams)
                    if round_:  # the first one warms them up
                        rows.append({"engine": title, "at_once": n, "streams": streams, **row})
    return {"tokens": SHAPE_TOKENS, "items": options.items, "rows": rows}


def cost_of_answers(server: Server, model: str, chats: Chats, n: int, streams: bool) -> Row:
    """Ask chats, so many at once; return what an answer took."""
    ask, group = asker(server, model, SHAPE_TOKENS, streams), server.process.pid
    before, start = group_seconds(group), time.perf_counter()
    with ThreadPoolExecutor(n) as pool:
        answered = list(pool.map(ask, chats))
    seconds, cpu = time.perf_counter() - start, group_seconds(group) - before
    assert all(tokens == SHAPE_TOKENS for *_, tokens in answered)
    return {
        "cpu_ms": round(1000 * cpu / len(chats), 2),
        "p50_ms": round(1000 * percentile([own for own, *_ in answered], 0.5), 1),
        "answers_per_s": round(len(chats) / seconds, 1),
    }


def asker(
    server: Server, model: str, most: int, streams: bool = False
) -> Callable[[Any], tuple[float, str, int]]:
    """Return what asks a server one chat: seconds, text and tokens of the answer."""
    local = threading.local()

    def ask(chat: Any) -> tuple[float, str, int]:
        if not hasattr(local, "connection"):
            local.connection = http.client.HTTPConnection(HOST, server.port, timeout=600)
        body = {"model": model, "messages": chat, "max_tokens": most, "temperature": 0}
        if streams:
            body["stream"] = True
        start = time.perf_counter()
        local.connection.request(
            "POST", "/v1/chat/completions", json.dumps(body), {"Content-Type": "application/json"}
        )
        data = local.connection.getresponse().read()
        seconds = time.perf_counter() - start
        if streams:
            events = [json.loads(line[6:]) for line in data.split(b"\n\n") if line[6:7] == b"{"]
            deltas = (event["choices"][0]["delta"].get("content", "") for event in events)
            return seconds, "".join(deltas), events[-1]["usage"]["completion_tokens"]
        reply = json.loads(data)
        text = reply["choices"][0]["message"]["content"]
        return seconds, text, reply["usage"]["completion_tokens"]

    return ask


def main() -> None:
    """Measure what an answer costs, or read what formats lost."""
    parser = record.arguments(__doc__)
    parser.add_argument("--losses", nargs="+", type=Path, metavar="RUN")
    parser.add_argument("--items", type=int, default=24)
    parser.add_argument("--rounds", type=int, default=1, help="how often all are measured")
    options = parser.parse_args()
    if options.losses:
        record.finish("serving/format_loss", [losses(run) for run in options.losses], options)
    else:
        record.finish("serving/answers", answer_costs(options), options, seed=0)


if __name__ == "__main__":
    main()
