"""GPU specifications: memory, bandwidth and FLOP/s by precision, from vendors' datasheets.

Identify the GPU variant of a row by its memory.

Catalogs write that memory in four ways: MiB of one GPU; MiB of all of them, under the same key
(Vast); GiB under a key that says MiB (RunPod); and the memory of one as the total (Lambda). Where
`SizeInMiB` x count is `TotalGpuMemoryInMiB`, the size is that of one GPU. Else the card decides:
the reading that fits the named card is taken, then the one that fits a variant of it.
"""

from __future__ import annotations

import csv
import io
import math
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from stratos.core.errors import CatalogError
from stratos.core.foreign import cause, open_regular
from stratos.core.formats import shown
from stratos.core.values import why_no_name

GPUS_CSV = Path(__file__).with_name("gpus.csv")

COLUMNS = (
    "Name",
    "Aliases",
    "MemoryGiB",
    "BandwidthGBs",
    "TflopsBf16",
    "TflopsFp16",
    "TflopsFp32",
    "TflopsFp8",
    "Source",
)
"""Columns of a file of cards; Aliases are separated by |, TFLOP/s are dense."""


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
    aliases: tuple[str, ...] = ()

    @property
    def tflops_train(self) -> float:
        """TFLOP/s of mixed-precision training: bf16, else fp16, else fp32."""
        return self.tflops_bf16 or self.tflops_fp16 or self.tflops_fp32


def find_gpu(name: str) -> Gpu | None:
    """Return the specification of an accelerator as a catalog names it; None if it is not known.

    Args:
        name: accelerator name, canonical or an alias, in any case, with `-`, `_` or spaces.
    """
    return _by_key().get(_key(name))


def variants(gpu: Gpu) -> list[Gpu]:
    """Return the cards whose name goes on where that of `gpu` ends: A100 to A100-80GB."""
    return [variant for name, variant in gpu_table().items() if name.startswith(f"{gpu.name}-")]


def gpu_table() -> dict[str, Gpu]:
    """Return all cards by canonical name: ours, then the user's own."""
    return _builtin() | _own


def use_gpu_file(path: str | None) -> None:
    """Make the cards of a user's own file known to this process, in place of an earlier file's.

    Args:
        path: CSV with the columns of our `gpus.csv`; None knows our own cards only.

    Raises:
        CatalogError: the file cannot be read, or a card lacks what an estimate needs.
    """
    own = _read_own(path) if path else {}
    _own.clear()
    _own.update(own)
    _by_key.cache_clear()


def own_gpus() -> tuple[Gpu, ...]:
    """Return the cards of the user's own file."""
    return tuple(_own.values())


_own: dict[str, Gpu] = {}


@cache
def _builtin() -> dict[str, Gpu]:
    with GPUS_CSV.open(newline="", encoding="utf-8") as file:
        return {gpu.name: gpu for gpu in map(_gpu, csv.DictReader(file))}


@cache
def _by_key() -> dict[str, Gpu]:
    cards = gpu_table().values()
    names = {_key(gpu.name): gpu for gpu in cards}
    return {_key(alias): gpu for gpu in cards for alias in gpu.aliases} | names


def _key(name: str) -> str:
    return name.lower().replace("_", "-").replace(" ", "-")


def _read_own(path: str) -> dict[str, Gpu]:
    try:
        with open_regular(Path(path).expanduser()) as file:
            text = file.read().decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise CatalogError(f"cloud.gpu_file={path} cannot be read: {cause(error)}.") from error
    reader = csv.DictReader(io.StringIO(text, newline=""))
    columns = reader.fieldnames or []
    lacking = [column for column in COLUMNS if column not in columns]
    if lacking:
        raise CatalogError(
            f"cloud.gpu_file={path} lacks the column{'s' if len(lacking) > 1 else ''} "
            f"{', '.join(lacking)}. It needs {','.join(COLUMNS)}."
        )
    gpus: dict[str, Gpu] = {}
    wrong: list[str] = []
    for row in reader:
        try:
            gpu = _gpu(row)
        except (TypeError, ValueError) as error:
            wrong.append(f"line {reader.line_num}: {error}")
            continue
        duplicates = [n for n in (gpu.name, *gpu.aliases) if n in gpus or _key(n) in _taken()]
        if duplicates:
            wrong.append(f"line {reader.line_num}: {', '.join(duplicates)} is in the table already")
        gpus[gpu.name] = gpu
    if wrong:
        listed = "\n  ".join(wrong)
        raise CatalogError(f"cloud.gpu_file={path} is malformed:\n  {listed}")
    return gpus


@cache
def _taken() -> frozenset[str]:
    return frozenset(_key(n) for gpu in _builtin().values() for n in (gpu.name, *gpu.aliases))


def _gpu(row: dict[str, str]) -> Gpu:
    name = (row["Name"] or "").strip()
    if not name:
        raise ValueError("a card needs a Name")
    for text in (name, *(row["Aliases"] or "").split("|")):
        if text and (reason := why_no_name(text)):
            raise ValueError(f"'{shown(text, 60)}': {reason}")

    def number(column: str, needed: bool = False) -> float | None:
        text = (row[column] or "").strip()
        if not text and not needed:
            return None
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not 0 < value < math.inf:
            raise ValueError(f"{column} of {name} is {text!r}, but must be a number above 0")
        return value

    return Gpu(
        name=name,
        memory_gib=number("MemoryGiB", needed=True) or 0.0,
        bandwidth_gb_per_s=number("BandwidthGBs", needed=True) or 0.0,
        tflops_bf16=number("TflopsBf16"),
        tflops_fp16=number("TflopsFp16"),
        tflops_fp32=number("TflopsFp32", needed=True) or 0.0,
        tflops_fp8=number("TflopsFp8"),
        source=(row["Source"] or "").strip(),
        aliases=tuple(
            alias.strip() for alias in (row["Aliases"] or "").split("|") if alias.strip()
        ),
    )


SAME_MEMORY = 0.15
"""Two sizes of memory within this share are the same card (vendors say GB, drivers say MiB)."""

GIB_BELOW = 1024
"""A size of one GPU below this is in GiB: RunPod's catalog writes 80 for 80 GiB."""

_SIZE = re.compile(r"""['"]SizeInMiB['"]\s*:\s*['"]?([0-9.]+)""")
_TOTAL = re.compile(r"""['"]TotalGpuMemoryInMiB['"]\s*:\s*['"]?([0-9.]+)""")


def fit(gpu: Gpu, info: str, count: int) -> Gpu | None:
    """Return the card that fits the memory of a listing: the named one, or a variant of it.

    Memory that is not said, or more than any variant has, takes the named card as its datasheet
    describes it. None: it may be less than the card has, so that this is a slice, or another card.

    Args:
        gpu: the card by its name.
        info: the listing's GpuInfo.
        count: number of GPUs in the server.
    """
    readings = gib_of_one(info, count)
    if not readings:
        return gpu
    for card in (gpu, *variants(gpu)):
        if any(abs(gib / card.memory_gib - 1) <= SAME_MEMORY for gib in readings):
            return card
    return gpu if min(readings) > gpu.memory_gib else None


def gib_of_one(info: str, count: int) -> list[float]:
    """Return what the memory of one GPU may be, in GiB; empty where nothing is said."""
    size, total = _gib(_SIZE.search(info), 1), _gib(_TOTAL.search(info), count)
    if not size:
        return [total / count] if total else []
    if total and count > 1 and abs(size * count / total - 1) < 1e-3:
        return [size]
    return [size, size / count] if count > 1 else [size]


def _gib(match: re.Match[str] | None, count: int) -> float:
    try:
        number = float(match[1]) if match else 0.0
    except ValueError:
        return 0.0
    return number if number < GIB_BELOW * count else number / 1024
