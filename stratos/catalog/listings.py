"""Raw catalog rows as typed columns."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from stratos.catalog.text_column import Bools, Floats, Ints, Words

REQUIRED = (
    "InstanceType",
    "AcceleratorName",
    "AcceleratorCount",
    "vCPUs",
    "MemoryGiB",
    "Price",
    "Region",
)
"""Columns that every version of the schema has."""

TEXTS = {
    "cloud": "Cloud",
    "region": "Region",
    "zone": "AvailabilityZone",
    "instance_type": "InstanceType",
    "accelerator": "AcceleratorName",
    "gpu_info": "GpuInfo",
    "price_date": "PriceDate",
    "source": "Source",
}
NUMBERS = {
    "accelerator_count": "AcceleratorCount",
    "vcpus": "vCPUs",
    "memory_gib": "MemoryGiB",
    "usd_per_hour": "Price",
    "usd_per_hour_spot": "SpotPrice",
    "max_count": "Count",
}
COLUMNS = (*TEXTS.values(), *NUMBERS.values())


@dataclass(frozen=True, eq=False)
class Listings:
    """Rows as they stand in the files, typed: text without a value is "", a number NaN."""

    cloud: Words
    region: Words
    zone: Words
    instance_type: Words
    accelerator: Words
    gpu_info: Words
    price_date: Words
    source: Words
    accelerator_count: Floats
    vcpus: Floats
    memory_gib: Floats
    usd_per_hour: Floats
    usd_per_hour_spot: Floats
    max_count: Floats

    def __len__(self) -> int:
        return len(self.usd_per_hour)

    def take(self, rows: Bools | Ints) -> Listings:
        """Return some rows."""
        columns: dict[str, Any] = {}
        for field in fields(Listings):
            column = getattr(self, field.name)
            columns[field.name] = column.take(rows) if field.name in TEXTS else column[rows]
        return Listings(**columns)

    @staticmethod
    def concat(parts: Sequence[Listings]) -> Listings:
        """Return the rows of all parts."""
        columns: dict[str, Any] = {}
        for field in fields(Listings):
            column = [getattr(part, field.name) for part in parts]
            join: Callable[..., Any] = Words.concat if field.name in TEXTS else np.concatenate
            columns[field.name] = join(column)
        return Listings(**columns)
