"""Serving engines and formats on this machine: one answer alone, eight in flight, CPU, memory.

    python benchmarks/engines.py outputs/<run> …         runs that have a bundle and its answers
    python benchmarks/engines.py --shape                 the 1M Mahjong student's shape, untrained
    STRATOS_VLLM=/opt/vllm python benchmarks/engines.py --shape --keep serving/vllm
                                                         vLLM, too, beside the others
    python benchmarks/engines.py --losses outputs/<run>  keeps what deploy measured of each format
                                                         of a run (deploy=llamacpp)

Every engine is asked the same questions by the same client (plain HTTP over kept connections, a
thread for each request in flight), in one go, so that other work on the machine meets all of them.
Compare the ratios, and the CPU milliseconds, which other work changes least. `--keep` keeps the
figures as JSON.
"""

from __future__ import annotations

import argparse
import http.client
import json
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import msgspec

sys.path.insert(0, str(Path(__file__).parent))

from record import keep

from stratos import records
from stratos.core.machine import group_memory, group_seconds, others_between, usage
from stratos.deploy.bundle_server import serving_bundle
from stratos.deploy.engines.gguf_file import cannot_export, export
from stratos.deploy.engines.vllm import Vllm
from stratos.deploy.exports import read_exports
from stratos.deploy.server import HOST, Server
from stratos.evaluate.answer_files import read_answers
from stratos.evaluate.metrics import percentile
from stratos.records import ServingSetting

IN_FLIGHT = 8
FORMATS = ("f32", "f16", "q8_0", "q4_k_m")
SHAPE_TOKENS = 160
"""Tokens of an answer of the 1M Mahjong student (conf/student/stratos_1m.yaml)."""


class Shape(NamedTuple):
    """Of a student with random weights."""

    width: int
    mlp: int
    layers: int
    heads: int


SHAPE_1M = Shape(128, 384, 4, 4)


def main() -> None:
    """Measure each run's bundle with each engine and format, and print a row for each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", nargs="*", type=Path)
    parser.add_argument("--shape", action="store_true")
    parser.add_argument("--losses", action="store_true")
    parser.add_argument("--items", type=int, default=24)
    parser.add_argument("--formats", nargs="*", default=["f32", "q8_0"], choices=FORMATS)
    parser.add_argument("--rounds", type=int, default=1, help="how often all are measured")
    parser.add_argument(
        "--keep", nargs="?", const="serving/exports", metavar="NAME", help="keep the figures"
    )
    told = parser.parse_args()
    if told.losses:
        keep("serving/format_loss", [losses(run) for run in told.runs])
        return
    rows = []
    with tempfile.TemporaryDirectory() as work:
        for run in told.runs:
            bundle = Path(shutil.copytree(run / "bundle", Path(work) / run.name))
            kept = read_answers(run)[: told.items]
            chats, texts = [one.messages for one in kept], [one.text for one in kept]
            rows += measured(run.name, bundle, chats, texts, told, max_tokens=768)
        if told.shape:
            bundle, chats = untrained(Path(work) / "shape", told.items)
            rows += measured("stratos_1m, untrained", bundle, chats, None, told,
                             max_tokens=SHAPE_TOKENS)  # fmt: skip
    if told.keep:
        versions = {name: version(name) for name in ("xllamacpp", "llama-cpp-py-sync", "gguf")}
        if Vllm().unusable() is None:
            versions["vllm"] = Vllm().version().removeprefix("vllm ")
        keep(told.keep, {"in_flight": IN_FLIGHT, "rows": rows}, more={"engines": versions})


def losses(run: Path) -> dict:
    """Return what each format of a run's bundle lost, with student and training."""
    exports = read_exports(run / "bundle")
    student = records.load(run / "distill.json", None, records.Student)
    assert exports is not None, f"{run} has no exports"
    return {
        "student": student.name,
        "train_tokens": student.train_tokens,
        "task": records.load(run / "evaluate.json", None, records.Scorecard).task,
        "engine": exports.version,
        "formats": msgspec.to_builtins(exports.formats),
    }


def untrained(bundle: Path, n: int, shape: Shape = SHAPE_1M) -> tuple[Path, list]:
    """Return a bundle of a student's shape whose weights are random, and questions.

    Its answers have all the tokens that a request allows: it never ends one by itself.
    """
    import torch
    from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM

    from stratos.distill.tokenizer import symbol_tokenizer
    from stratos.tasks.mahjong import MahjongTask

    task = MahjongTask()
    symbols = task.vocabulary()
    assert symbols is not None
    tokenizer = symbol_tokenizer(symbols)
    tokenizer.save_pretrained(bundle)
    torch.manual_seed(0)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer), hidden_size=shape.width, num_hidden_layers=shape.layers,
            num_attention_heads=shape.heads, num_key_value_heads=shape.heads,
            intermediate_size=shape.mlp, max_position_embeddings=1024, tie_word_embeddings=True,
            initializer_range=0.1, bos_token_id=None, eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )  # fmt: skip
    with torch.no_grad():
        model.get_input_embeddings().weight[tokenizer.eos_token_id] = 0
    model.save_pretrained(bundle)
    GenerationConfig(
        do_sample=False, max_new_tokens=768, eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    ).save_pretrained(bundle)  # fmt: skip
    return bundle, [task.student_messages(item) for item in task.items("train", n)]


def measured(
    name: str, bundle: Path, chats: list, texts: list[str] | None, told: argparse.Namespace,
    *, max_tokens: int,
) -> list[dict]:  # fmt: skip
    """Return a row for each engine and format; where no texts are known, transformers' count."""
    forms = [form for form in told.formats if cannot_export(bundle, form) is None]
    export(bundle, forms, chats)
    cases = [
        ("transformers", ServingSetting("transformers")),
        ("transformers, batching", ServingSetting("transformers-batching", slots=IN_FLIGHT)),
    ]
    vllm = Vllm(formats=("f32", "bf16"))
    if vllm.unusable() is None and (why := vllm.cannot_export(bundle, "f32")) is None:
        for form in vllm.exports:
            cases.append((f"vLLM, {form}", ServingSetting("vllm", IN_FLIGHT, format=form)))
    else:
        print(f"No row of vLLM: {vllm.unusable() or why}", file=sys.stderr)
    for form in forms:
        cases.append((f"llama.cpp, {form}", ServingSetting("llamacpp", IN_FLIGHT, format=form)))
    rows = []
    for _ in range(told.rounds):
        for case, run in cases:
            row, found = one_case(bundle, run, chats, max_tokens)
            texts = found if texts is None else texts
            row["equal"] = sum(a == b for a, b in zip(found, texts, strict=True))
            rows.append({"model": name, "engine": case, "items": len(chats), **row})
            print(json.dumps(rows[-1]), flush=True)
    return rows


def one_case(
    bundle: Path, run: ServingSetting, chats: list, max_tokens: int
) -> tuple[dict, list[str]]:
    """Serve a bundle by one engine; return what it showed, and its answers."""
    with hosted(bundle, run) as server:
        asked = asker(server, str(bundle), max_tokens)
        asked(chats[0])
        group = server.process.pid
        before, cpu = usage(group), group_seconds(group)
        alone = [asked(chat) for chat in chats]
        cpu = group_seconds(group) - cpu
        others, busy = others_between(before, usage(group))
        started = time.perf_counter()
        with ThreadPoolExecutor(IN_FLIGHT) as pool:
            together = list(pool.map(asked, chats))
        seconds = time.perf_counter() - started
        memory = group_memory(group)
    milliseconds, tokens = [1000 * one[0] for one in alone], sum(one[2] for one in alone)
    row = {
        "p50_ms": round(percentile(milliseconds, 0.5), 1),
        "p95_ms": round(percentile(milliseconds, 0.95), 1),
        "requests_per_s": round(len(chats) / seconds, 2),
        "tokens_per_s": round(sum(one[2] for one in together) / seconds, 1),
        "tokens": tokens,
        "cpu_ms_per_token": round(1000 * cpu / tokens, 3),
        "memory_mib": round(memory / 2**20),
        "others_cores": None if others is None else round(others, 2),
        "was_busy": busy,
    }
    return row, [one[1] for one in alone]


@contextmanager
def hosted(bundle: Path, run: ServingSetting) -> Iterator[Server]:
    """Yield a server of a bundle, started as `deploy` does."""
    with serving_bundle(bundle, run, bundle / "server.log") as server:
        yield server


def asker(server: Server, model: str, max_tokens: int):
    """Return what asks a server one chat: seconds, text and tokens of the answer."""
    local = threading.local()

    def ask(chat: list) -> tuple[float, str, int]:
        if not hasattr(local, "connection"):
            local.connection = http.client.HTTPConnection(HOST, server.port, timeout=600)
        body = {"model": model, "messages": chat, "max_tokens": max_tokens, "temperature": 0}
        started = time.perf_counter()
        local.connection.request(
            "POST", "/v1/chat/completions", json.dumps(body), {"Content-Type": "application/json"}
        )
        found = json.loads(local.connection.getresponse().read())
        seconds = time.perf_counter() - started
        text = found["choices"][0]["message"]["content"]
        return seconds, text, found["usage"]["completion_tokens"]

    return ask


if __name__ == "__main__":
    main()
