"""What a GPU can do: memory, bandwidth and FLOP/s by precision, from vendors' datasheets."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import cache
from pathlib import Path

GPUS_CSV = Path(__file__).with_name("gpus.csv")

SAME_MEMORY = 0.15
"""Two sizes of memory within this share are the same card (vendors say GB, drivers say MiB)."""

GIB_BELOW = 1024
"""A `SizeInMiB` below this is in GiB: RunPod's catalog writes 80 for 80 GiB."""


@dataclass(frozen=True)
class Gpu:
    """One accelerator as its datasheet describes it, dense FLOP/s without sparsity."""

    name: str
    memory_gib: float
    bandwidth_gb_per_s: float
    tflops_bf16: float | None
    tflops_fp16: float | None
    tflops_fp32: float
    tflops_fp8: float | None
    source: str

    @property
    def tflops_train(self) -> float:
        """TFLOP/s of mixed-precision training: bf16, else fp16, else fp32."""
        return self.tflops_bf16 or self.tflops_fp16 or self.tflops_fp32


def _key(name: str) -> str:
    return name.lower().replace("_", "-").replace(" ", "-")


@cache
def gpu_table() -> dict[str, Gpu]:
    """Return the table by canonical name, in the order of the file."""
    with GPUS_CSV.open(newline="", encoding="utf-8") as file:
        return {row["Name"]: _gpu(row) for row in csv.DictReader(file)}


@cache
def _by_key() -> dict[str, Gpu]:
    table = gpu_table()
    found = {_key(name): gpu for name, gpu in table.items()}
    with GPUS_CSV.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            for alias in filter(None, row["Aliases"].split("|")):
                found.setdefault(_key(alias), table[row["Name"]])
    return found


def _gpu(row: dict[str, str]) -> Gpu:
    def tflops(column: str) -> float | None:
        return float(row[column]) if row[column] else None

    return Gpu(
        name=row["Name"],
        memory_gib=float(row["MemoryGiB"]),
        bandwidth_gb_per_s=float(row["BandwidthGBs"]),
        tflops_bf16=tflops("TflopsBf16"),
        tflops_fp16=tflops("TflopsFp16"),
        tflops_fp32=float(row["TflopsFp32"]),
        tflops_fp8=tflops("TflopsFp8"),
        source=row["Source"],
    )


@cache
def find_gpu(name: str, size_mib: float | None = None, count: int = 1) -> Gpu | None:
    """Return the specification of an accelerator as a catalog names it; None if it is not known.

    Catalogs write memory in three ways: that of one GPU, that of all of them under the same key
    (Vast), and GiB under the key `SizeInMiB` (RunPod). The table decides: the reading that fits
    the named card is taken, then the one that fits a variant of it such as "A100-80GB"; a size
    that fits nothing is ignored.

    Args:
        name: accelerator name, canonical or an alias, in any case.
        size_mib: the catalog's `SizeInMiB`, if it has one.
        count: number of accelerators in the offer.
    """
    gpu = _by_key().get(_key(name))
    if gpu is None or not size_mib:
        return gpu
    gib = size_mib if size_mib < GIB_BELOW else size_mib / 1024
    variants = [other for key, other in gpu_table().items() if key.startswith(f"{gpu.name}-")]
    for candidate in [gpu, *variants]:
        for per_gpu in (gib, gib / count):
            if abs(per_gpu / candidate.memory_gib - 1) <= SAME_MEMORY:
                return candidate
    return gpu
