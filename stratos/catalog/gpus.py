"""GPU specifications: memory, bandwidth and FLOP/s by precision, from vendors' datasheets."""

from __future__ import annotations

import csv
import io
import math
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from stratos.core.errors import CatalogError
from stratos.core.foreign import cause, open_regular
from stratos.core.names import why_no_name
from stratos.core.printable import shown

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
    return [other for name, other in gpu_table().items() if name.startswith(f"{gpu.name}-")]


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
    found: dict[str, Gpu] = {}
    wrong: list[str] = []
    for row in reader:
        try:
            gpu = _gpu(row)
        except (TypeError, ValueError) as error:
            wrong.append(f"line {reader.line_num}: {error}")
            continue
        taken = [n for n in (gpu.name, *gpu.aliases) if n in found or _key(n) in _taken()]
        if taken:
            wrong.append(f"line {reader.line_num}: {', '.join(taken)} is in the table already")
        found[gpu.name] = gpu
    if wrong:
        listed = "\n  ".join(wrong)
        raise CatalogError(f"cloud.gpu_file={path} is malformed:\n  {listed}")
    return found


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
