"""A row of text as typed values, and every malformed value named by file, line and column."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any

from stratos.catalog.source import Row

_SIZE = re.compile(r"""['"]SizeInMiB['"]\s*:\s*([0-9.]+)""")

ABSENT = frozenset({"", "nan", "none", "null", "na", "n/a"})
"""Spellings of "no value" that catalogs use."""


@dataclass(frozen=True, slots=True)
class Listing:
    """One row, typed, before the rules of `clean` are applied."""

    cloud: str
    region: str
    zone: str
    instance_type: str
    accelerator: str
    accelerator_count: float
    size_mib: float | None
    vcpus: float
    memory_gib: float
    usd_per_hour: float
    """NaN where the row has no price."""
    usd_per_hour_spot: float
    price_date: str
    source: str


class Malformed(ValueError):
    """One value that cannot be read."""


def parse_row(row: Row, cloud: str) -> Listing:
    """Return a row as typed values.

    Raises:
        Malformed: a value is no number; the message says where.
    """
    cells = row.cells
    size = _SIZE.search(_text(cells.get("GpuInfo")))
    return Listing(
        cloud=(_text(cells.get("Cloud")) or cloud).lower(),
        # Vast writes ", US, NA" where it does not know the town.
        region=_text(cells["Region"]).lstrip(", "),
        zone=_text(cells.get("AvailabilityZone")),
        instance_type=_text(cells["InstanceType"]),
        accelerator=_text(cells["AcceleratorName"]),
        accelerator_count=_number(row, "AcceleratorCount", 0.0),
        size_mib=float(size[1]) if size else None,
        vcpus=_number(row, "vCPUs", 0.0),
        memory_gib=_number(row, "MemoryGiB", 0.0),
        usd_per_hour=_number(row, "Price", math.nan),
        usd_per_hour_spot=_number(row, "SpotPrice", math.nan),
        price_date=_text(cells.get("PriceDate")),
        source=_text(cells.get("Source")) or row.file,
    )


def _text(value: Any) -> str:
    text = "" if value is None else str(value).strip()
    return "" if text.lower() in ABSENT else text


def _number(row: Row, column: str, absent: float) -> float:
    text = _text(row.cells.get(column))
    if not text:
        return absent
    where = f"{row.file}, line {row.line}, column {column}"
    try:
        number = float(text)
    except ValueError:
        raise Malformed(f"{where}: {text!r} is no number") from None
    if math.isinf(number) and "Price" not in column:
        raise Malformed(f"{where}: {text!r} is not finite")
    return number
