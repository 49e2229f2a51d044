"""The built-in prices against themselves; `test_offers_sources.py` has them against their sources.

A price that is ten times too high or too low is plausible to every parser, and decides every plan.
"""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from statistics import median
from typing import Any

import pytest

import stratos.catalog

OFFERS = Path(stratos.catalog.__file__).with_name("offers.csv")

USD_PER_VCPU_HOUR = (0.015, 0.15)
USD_PER_GPU_HOUR = {
    "RTX3060": (0.02, 0.3), "RTX3090": (0.06, 0.8), "RTX4090": (0.12, 1.6),
    "RTX5070": (0.03, 0.5), "RTX5090": (0.15, 2.0), "RTX5880-Ada": (0.12, 1.8),
    "RTX6000": (0.25, 2.0), "RTX6000-Ada": (0.18, 2.5), "RTXA5000": (0.08, 1.0),
    "RTXA6000": (0.15, 2.0), "RTXPRO6000": (1.0, 8.0), "RTXPRO6000WS": (0.35, 5.0),
    "A6000": (0.35, 3.0), "P4": (0.3, 3.0), "P100": (0.5, 5.0), "V100": (0.1, 5.0),
    "T4": (0.2, 3.0), "A10": (0.5, 6.0), "A10G": (0.4, 5.0), "L4": (0.3, 4.0),
    "A40": (0.15, 3.0), "L40S": (0.3, 7.0),
    "A100": (0.4, 6.0), "A100-80GB": (0.5, 8.0), "H100": (1.2, 18.0),
    "H100-PCIE": (1.2, 12.0), "H100-NVL": (1.2, 14.0), "H100-MEGA": (4.0, 20.0),
    "GH200": (0.8, 10.0), "H200": (1.5, 20.0), "B200": (2.5, 25.0),
}  # fmt: skip
"""On demand, from the cheapest marketplace to the dearest region."""
ACROSS_REGIONS = 2.5
"""How much dearer one instance type may be in one region than in another."""
WITHIN_A_CLOUD = 4.5
"""How far $ per GPU-hour of one GPU may lie from the median of its cloud's other servers."""

Row = dict[str, Any]


def rows_of(path: Path) -> list[Row]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def per_unit(row: Row) -> float:
    """Dollars per GPU-hour, or per vCPU-hour where there is none."""
    n_gpus = float(row["AcceleratorCount"] or 0)
    return float(row["Price"]) / (n_gpus or float(row["vCPUs"]))


def implausible(rows: Iterable[Row]) -> list[str]:
    """Return what is wrong with prices, by what is known of all servers alike."""
    rows, wrong = list(rows), []
    by_type: dict[tuple[str, ...], list[float]] = defaultdict(list)
    by_gpu: dict[tuple[str, str], list[float]] = defaultdict(list)
    for row in rows:
        kind = row["Cloud"], row["InstanceType"], row["AcceleratorName"], row["AcceleratorCount"]
        by_type[kind].append(float(row["Price"]))
        by_gpu[row["Cloud"], row["AcceleratorName"]].append(per_unit(row))
    for kind, prices in by_type.items():
        if max(prices) > ACROSS_REGIONS * min(prices):
            wrong.append(f"{kind}: {min(prices):g} to {max(prices):g} across regions")
    for row in rows:
        gpu, value = row["AcceleratorName"], per_unit(row)
        name = f"{row['Cloud']}/{row['Region']} {row['InstanceType']} {gpu}"
        if gpu and gpu not in USD_PER_GPU_HOUR:
            wrong.append(f"{gpu}: say in USD_PER_GPU_HOUR what an hour of it may cost")
            continue
        low, high = USD_PER_GPU_HOUR[gpu] if gpu else USD_PER_VCPU_HOUR
        if not low <= value <= high:
            wrong.append(f"{name}: ${value:.3f} a unit is not within {low:g} to {high:g}")
        neighbours = list(by_gpu[row["Cloud"], gpu])
        neighbours.remove(value)
        if (
            len(neighbours) > 1
            and not 1 / WITHIN_A_CLOUD < value / median(neighbours) < WITHIN_A_CLOUD
        ):
            wrong.append(
                f"{name}: ${value:.3f} a unit beside a median of ${median(neighbours):.3f}"
            )
        if row["SpotPrice"] and not 0.05 <= float(row["SpotPrice"]) / float(row["Price"]) <= 1:
            wrong.append(f"{name}: spot ${row['SpotPrice']} of ${row['Price']}")
    return wrong


def test_prices_are_plausible() -> None:
    assert implausible(rows_of(OFFERS)) == []


@pytest.mark.parametrize("column", ["Price", "SpotPrice"])
def test_a_price_ten_times_too_high_or_too_low_is_noticed(column: str) -> None:
    rows = rows_of(OFFERS)
    missed = []
    for index, row in enumerate(rows):
        for factor in (10.0, 0.1):
            # A spot price may be a tenth of the one on demand: then only the higher one shows.
            if row[column] and not (column == "SpotPrice" and factor < 1):
                wrong = {**row, column: str(float(row[column]) * factor)}
                if not implausible([*rows[:index], wrong, *rows[index + 1 :]]):
                    missed.append(f"{factor:g} x {row['Cloud']} {row['InstanceType']}")
    assert missed == []
