"""The two tables of measurements as the estimate sees them, and what their columns mean.

training.csv   llm-foundry's published table (MPT models, PyTorch FSDP, flash attention). MFU counts
               6·N + 12·L·h·T FLOPs a token, which is why long contexts lose little of it although
               a causal attention computes half. `section` names the network between servers.
inference.csv  two campaigns of a load generator with a fixed number of requests in flight:
    lab        rows with a `backend_version`: bf16, answers of 128 to 512 tokens, and one request
               more in flight than the engine's largest batch: each waits until another has ended
    sweep      the others: fp8 and fp4 weights; a run is ten times as many requests as are in
               flight, which start all at once, and the time to first token is their mean
    In both, a batch that the cache cannot hold runs at the batch that it can hold, and the rest of
    the requests queue: times to first token of many seconds.
"""

from __future__ import annotations

import csv
import re
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TypeVar

from stratos.catalog.gpus import find_gpu
from stratos.estimate import constants as k
from stratos.estimate.cards import llama_params, training_memory
from stratos.estimate.fleet import Device, device_of
from stratos.estimate.roofline import TrainSetup
from stratos.records import ModelCard, Offer

Row = TypeVar("Row")

ROOT = Path(__file__).parents[2]
PERF = ROOT.parent / "shared" / "perf"
SYSTEMS = {
    "A100-SXM": "A100-80GB",
    "A100-40GB": "A100",
    "GB200": "B200",
    "GB200-SXM": "B200",
    "RTX-PRO-6000-SERVER": "RTXPRO6000",
    "GB300": "B300",
    "GB300-SXM": "B300",
}
"""Systems of the tables whose name is not the GPU's in the catalog's table."""

MODELS_CSV = Path(__file__).with_name("models.csv")


@dataclass(frozen=True)
class TrainRow:
    """One row of the training table."""

    card: ModelCard
    device: Device
    setup: TrainSetup
    tokens_per_s: float
    """Of one GPU, as measured."""
    size: str
    offload: bool

    @property
    def tokens_per_step(self) -> float:
        """Tokens of one optimizer step on one GPU."""
        return self.setup.n_micro * self.setup.micro_tokens


@dataclass(frozen=True)
class ServeRow:
    """One row of the inference table."""

    card: ModelCard
    device: Device
    prompt: int
    answer: int
    batch: int
    tensor_parallel: int
    weight_bits: int
    backend: str
    lab: bool
    ttft_ms: float
    tpot_ms: float


@cache
def models() -> dict[str, dict[str, str]]:
    """Return the shapes of `models.csv` by name, longest name first."""
    with MODELS_CSV.open(newline="", encoding="utf-8") as file:
        rows = {row["Name"].lower(): row for row in csv.DictReader(file)}
    return dict(sorted(rows.items(), key=lambda item: -len(item[0])))


def card_of(name: str, n_params: int | None = None) -> ModelCard:
    """Return the card of a model of the tables.

    Raises:
        ValueError: models.csv has no shape for it.
    """
    key = name.lower().rpartition("/")[2]
    shape = models().get(key) or next(
        (row for known, row in models().items() if "-" in known and known in key), None
    )
    if shape is None:
        raise ValueError(f"{name}: no shape is known; add a row to {MODELS_CSV.name}")
    layers, hidden, heads, kv, head, inner, vocab = (
        int(shape[column])
        for column in ("Layers", "Hidden", "Heads", "KvHeads", "Head", "Intermediate", "Vocab")
    )
    if n_params is None:
        n_params = llama_params(
            vocab, hidden, layers, heads, kv, inner, tied=shape["Tied"] == "1", head_size=head
        )
    return ModelCard(
        name, n_params, layers, hidden, heads, kv, inner, vocab, 131072, head_size=head
    )


def gpu_device(system: str, count: int, node_gbit_per_s: float | None = None) -> Device:
    """Return a GPU as an offer's device, with the table's own network where it names one.

    Raises:
        ValueError: stratos/catalog/gpus.csv has no such GPU.
    """
    name = system.upper().replace("_", "-")
    gpu = find_gpu(SYSTEMS.get(name, name.removesuffix("-SXM")))
    if gpu is None:
        raise ValueError(f"{system}: no such GPU in stratos/catalog/gpus.csv")
    device = device_of(Offer("table", "", name, gpu.name, count, 64.0, 1024.0, gpu.memory_gib, 1.0))
    if node_gbit_per_s:
        device = replace(device, node_bytes_per_s=node_gbit_per_s / 8 * 1e9)
    return device


def _read(path: Path, parse: Callable[[dict[str, str]], Row]) -> list[Row]:
    """Return the rows of a table; those of unknown models or GPUs are left out, which is said."""
    rows, left_out = [], Counter[str]()
    with path.open(newline="", encoding="utf-8") as file:
        for fields in csv.DictReader(file):
            try:
                rows.append(parse(fields))
            except ValueError as error:
                left_out[str(error)] += 1
    for reason, n in left_out.items():
        print(f"{path.name}: {n} rows left out: {reason}", file=sys.stderr)
    return rows


def training_rows(path: Path = PERF / "training.csv") -> list[TrainRow]:
    """Read the training table."""
    return _read(path, _train_row)


def _train_row(row: dict[str, str]) -> TrainRow:
    n_gpus, context = int(row["# GPUs"]), int(row["SeqLen (T)"])
    n_nodes = max(1, n_gpus // 8)
    gbit = re.search(r"(\d+) ?Gbps", row["section"])
    card = card_of(row["Model"], int(row["NumParams"]))
    return TrainRow(
        # Learned positions are looked up and cost no product: they are left out of N.
        card=replace(card, n_params=card.n_params - context * card.hidden_size),
        device=gpu_device(row["GPU"], min(8, n_gpus), float(gbit[1]) if gbit else None),
        setup=TrainSetup(
            context=context,
            micro_tokens=int(row["MicroBatchSize"]) * context,
            n_micro=int(row["GradAccum"]),
            n_devices=n_gpus,
            n_nodes=n_nodes,
            checkpointing=row["Activation Checkpointing"] == "True",
            reshard=row["Sharding Strategy"] == "FULL_SHARD",
            fp8="fp8" in row["Precision"],
        ),
        tokens_per_s=float(row["Throughput (T/s/GPU)"]),
        size=row["Model"],
        offload=row["Activation CPUOffload"] == "True",
    )


def training_bytes_of(row: TrainRow, more: float = 1.0) -> float:
    """Return the bytes that a row's training needs on each GPU, with `more` times its tokens.

    llm-foundry's loss is fused: its logits take half of what plain ones do.
    """
    return training_memory(
        row.card,
        more * row.setup.micro_tokens,
        row.setup.n_devices,
        checkpointing=row.setup.checkpointing,
        offload=row.offload,
        logit_bytes=k.LOGIT_BYTES / 2,
    ).total


def inference_rows(path: Path = PERF / "inference.csv") -> list[ServeRow]:
    """Read the inference table."""
    return _read(path, _serve_row)


def _serve_row(row: dict[str, str]) -> ServeRow:
    precision = (row["precision"] or row["gemm_quant_mode"]).lower()
    tensor_parallel = int(float(row["tp_size"]))
    return ServeRow(
        card=card_of(row["model_path"]),
        device=gpu_device(row["system"], tensor_parallel),
        prompt=int(row["isl"]),
        answer=int(row["osl"]),
        batch=int(row["batch_size"]),
        tensor_parallel=tensor_parallel,
        weight_bits=4 if "4" in precision else 8 if "8" in precision else 16,
        backend=row["backend"],
        lab=bool(row["backend_version"]),
        ttft_ms=float(row["silicon_ttft_ms"]),
        tpot_ms=float(row["silicon_tpot_ms"]),
    )


def cache_bytes(row: ServeRow) -> int:
    """Return bytes per number of the row's cache: fp8 where the engine keeps it so by default."""
    if row.weight_bits == 16:
        return 2
    return 2 if row.backend == "vllm" and row.device.name.startswith(("H", "A")) else 1


def products_flops(row: ServeRow) -> float | None:
    """Return achievable FLOP/s in the precision of the row's products."""
    if row.weight_bits == 16:
        return None
    fp4 = row.weight_bits == 4 and row.device.name in k.FP4_GPUS
    return row.device.fp8_flops * (2 if fp4 else 1)
