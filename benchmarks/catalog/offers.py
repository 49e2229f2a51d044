"""Check every row of our own catalog against the public data that it names as its source.

    python benchmarks/catalog/offers.py --catalog ../shared/catalog [--libcloud pricing.json]

Each row of `stratos/catalog/offers.csv` names one of `SOURCES`. The script looks the row up there
by cloud, region, instance type and number of GPUs, and compares price, spot price, vCPUs and
memory, each within rounding. GCP lists host and GPU apart: their sum in one zone counts. It prints
every row that differs or is not found, and how many were checked against which source; it ends with
1 if a row differs, is not found, or names a source that there is not.

Sources: folders `<cloud>/vms.csv` in the SkyPilot schema (`--catalog`), assembled from
anycloud-sh/catalog of 2026-05-20 (azure, gcp, lambda, vast) and, for aws, from karpenter of
2026-07-20 and apache-libcloud of 2025-03; and `libcloud/data/pricing.json` of the package
apache-libcloud 3.9.1 (`--libcloud`, by default that of the installed package), which has AWS's CPU
servers. Rows of a source that is not at hand are counted as such.

What apache-libcloud says of EC2 is not always the price of a shared host: for some sizes it has
that of a dedicated one, about 6 or 10% more. A size is in our table only if its price over that in
us-east-1 is the lowest of its family in the region, which two sizes at least agree on. The P
families of other regions are not in it: their prices were lowered in June 2025, after that data.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from stratos.catalog.readers import BUILTIN

SOURCES = {
    "Azure retail price as in anycloud catalog 2026-05-20": "azure",
    "Cloud Billing list price as in anycloud catalog 2026-05-20": "gcp",
    "Cloud Billing list price (host + GPU) as in anycloud catalog 2026-05-20": "gcp",
    "EC2 on-demand list price as in apache-libcloud 2025-03": "aws",
    "EC2 on-demand list price as in apache-libcloud 3.9.1": "libcloud",
    "EC2 on-demand list price as in karpenter 2026-07-20": "aws",
    "lambda.ai price as in anycloud catalog 2026-05-20": "lambda",
    "vast.ai marketplace ask as in anycloud catalog 2026-05-20": "vast",
}
"""What a row says of its source, and where that is: a folder of `--catalog`, or libcloud."""

ROUNDING_USD = 2e-5
"""Half a unit of the fifth digit, to which prices are written, of host and GPU each."""

C7I_M7I = {"c7i": 2.0, "m7i": 4.0}
"""GiB of memory for each vCPU of the families that libcloud is the source of."""
VCPUS = {"large": 2, "xlarge": 4, "2xlarge": 8, "4xlarge": 16}


@dataclass(frozen=True)
class Figures:
    """What a source says of one row; None where it says nothing."""

    usd_per_hour: float
    usd_per_hour_spot: float | None
    vcpus: float | None
    memory_gib: float | None


Key = tuple[str, str, str, int]
"""Cloud, region, instance type, number of GPUs."""


def read_catalog(folder: Path) -> dict[Key, list[Figures]]:
    """Return what the folders of a SkyPilot catalog say, row by row."""
    by_key: dict[Key, list[Figures]] = defaultdict(list)
    for path in sorted(folder.glob("*/vms.csv")):
        cloud = path.parent.name
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        for row in rows:
            key = (cloud, row["Region"].lstrip(", "), row["InstanceType"], _count(row))
            by_key[key].append(_figures(row))
        if cloud == "gcp":
            for key, figures in _with_gpus(rows):
                by_key[key].append(figures)
    return by_key


def _with_gpus(rows: list[dict[str, str]]) -> Iterator[tuple[Key, Figures]]:
    """Yield hosts with each number of each GPU that their zone has a price of."""
    gpus: dict[str, list[dict[str, str]]] = defaultdict(list)
    for row in rows:
        if not row["InstanceType"]:
            gpus[row["AvailabilityZone"]].append(row)
    for host in rows:
        if not host["InstanceType"]:
            continue
        for gpu in gpus[host["AvailabilityZone"]]:
            usd = float(host["Price"] or "nan") + float(gpu["Price"] or "nan")
            on_spot = [_number(row["SpotPrice"]) for row in (host, gpu)]
            spot = None if None in on_spot else sum(price or 0.0 for price in on_spot)
            together = {**host, "Price": str(usd), "SpotPrice": "" if spot is None else str(spot)}
            key = ("gcp", host["Region"], host["InstanceType"], _count(gpu))
            yield key, _figures(together)


def read_libcloud(pricing: Path) -> dict[Key, list[Figures]]:
    """Return what libcloud says of the EC2 servers without GPUs."""
    listed = json.loads(pricing.read_text(encoding="utf-8"))["compute"]["ec2_linux"]
    by_key: dict[Key, list[Figures]] = defaultdict(list)
    for family, gib in C7I_M7I.items():
        for size, vcpus in VCPUS.items():
            for region, usd in listed[f"{family}.{size}"].items():
                key = ("aws", region, f"{family}.{size}", 0)
                by_key[key].append(Figures(usd, None, float(vcpus), gib * vcpus))
    return by_key


def installed_libcloud() -> Path | None:
    """Return the prices of the installed apache-libcloud, None if it is not there."""
    from importlib import metadata

    try:
        package = metadata.distribution("apache-libcloud")
    except metadata.PackageNotFoundError:
        return None
    path = Path(str(package.locate_file("libcloud/data/pricing.json")))
    return path if package.version == "3.9.1" and path.exists() else None


def check(
    offers: Path, catalog: Path, libcloud: Path | None = None
) -> tuple[list[str], Counter[str]]:
    """Return what is wrong with the rows of a catalog, and how many were checked by source.

    Args:
        offers: the catalog to check.
        catalog: folders of `<cloud>/vms.csv`.
        libcloud: `pricing.json`; None leaves its rows unchecked.
    """
    listed = read_catalog(catalog)
    libcloud_listed = read_libcloud(libcloud) if libcloud is not None else None
    wrong: list[str] = []
    checked: Counter[str] = Counter()
    with offers.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        name = f"{row['Cloud']}/{row['Region']} {row['InstanceType']}"
        folder = SOURCES.get(row["Source"])
        if folder is None:
            wrong.append(f"{name}: {row['Source'] or 'no source'} is no source that can be checked")
            continue
        source = libcloud_listed if folder == "libcloud" else listed
        if source is None or (folder != "libcloud" and not (catalog / folder).is_dir()):
            checked["not at hand"] += 1
            continue
        key = (row["Cloud"], row["Region"], row["InstanceType"], _count(row))
        candidates = source.get(key, [])
        if not candidates:
            wrong.append(f"{name}: not in {row['Source']}")
        elif not any(_same(_figures(row), figures) for figures in candidates):
            wrong.append(f"{name}: {_figures(row)} in the table, {candidates[0]} in its source")
        else:
            checked[row["Source"]] += 1
    return wrong, checked


def _same(ours: Figures, theirs: Figures) -> bool:
    def close(a: float | None, b: float | None, room: float) -> bool:
        if a is None or b is None:
            return a is b
        return abs(a - b) <= room

    return (
        close(ours.usd_per_hour, theirs.usd_per_hour, ROUNDING_USD)
        and close(ours.usd_per_hour_spot, theirs.usd_per_hour_spot, ROUNDING_USD)
        and close(ours.vcpus, theirs.vcpus, 0.0)
        and close(ours.memory_gib, theirs.memory_gib, 0.5)
    )


def _figures(row: dict[str, str]) -> Figures:
    spot = _number(row["SpotPrice"])
    usd = float(row["Price"] or "nan")
    return Figures(
        usd,
        spot if spot and spot < usd else None,
        _number(row["vCPUs"]),
        _number(row["MemoryGiB"]),
    )


def _number(text: str) -> float | None:
    return float(text) if text else None


def _count(row: dict[str, str]) -> int:
    return round(float(row["AcceleratorCount"] or 0)) if row["AcceleratorName"] else 0


def main() -> int:
    """Check our own table and print what was found."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--catalog", type=Path, default=Path("../shared/catalog"))
    parser.add_argument("--libcloud", type=Path, default=installed_libcloud())
    parser.add_argument("--offers", type=Path, default=BUILTIN)
    arguments = parser.parse_args()
    wrong, checked = check(arguments.offers, arguments.catalog, arguments.libcloud)
    print(*wrong, sep="\n")
    print(*(f"{n} rows: {source}" for source, n in checked.items()), sep="\n")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
