"""Load the offers of `cloud=`: read, clean, select, and warn."""

from __future__ import annotations

import datetime
import platform
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from stratos.catalog.cache import cached
from stratos.catalog.clean import Cleaned, clean
from stratos.catalog.cluster import cluster_nodes
from stratos.catalog.gpus import COLUMNS, use_gpu_file
from stratos.catalog.readers import Listings, Malformed, parse
from stratos.catalog.residency import left_out
from stratos.catalog.select import select
from stratos.catalog.source import File, cloud_of, read_files, state_of
from stratos.catalog.table import LOCAL, Table
from stratos.core.errors import CatalogError
from stratos.core.extensions import extensions, load
from stratos.core.machine import memory_bytes, n_cores
from stratos.records import Offer

if TYPE_CHECKING:
    from stratos.config import CloudConfig


# This machine as an offer, so that `cloud=local` is planned like any cloud.


CLOUD = "local"
"""Cloud of the offers that are this machine."""


def local_offer(usd_per_cpu_hour: float = 0.0) -> Offer:
    """Describe this machine: the CPUs that this process may use, and its memory.

    Args:
        usd_per_cpu_hour: dollars that an hour of one CPU counts.
    """
    vcpus = float(n_cores())
    return Offer(
        cloud=CLOUD,
        region="here",
        instance_type=platform.machine() or "cpu",
        accelerator=None,
        accelerator_count=0,
        vcpus=vcpus,
        memory_gib=round(memory_bytes() / 2**30, 1),
        vram_gib=0.0,
        usd_per_hour=vcpus * usd_per_cpu_hour,
        price_date=datetime.date.today().isoformat(),
        source="this machine",
    )


MAX_SHOWN_ERRORS = 8
"""Malformed values that one message lists."""

CACHE_FOLDER = "catalogs"
"""Folder of cleaned catalogs, in the cache that runs share."""


@dataclass(frozen=True, eq=False)
class Catalog:
    """The offers that a run may choose from."""

    table: Table
    dropped: dict[str, int]
    """Reason to the number of rows that were left out."""
    warnings: tuple[str, ...]
    left_out: dict[str, str] = field(default_factory=dict)
    """Cloud to the reason why none of its offers is among them."""
    wait_hours: dict[tuple[str, str, str], float] = field(default_factory=dict)
    """Cloud, region and instance type of a cluster's servers to the hours until a job of them would
    start; not there where that is not known."""
    preempts: dict[tuple[str, str], dict[str, str]] = field(default_factory=dict)
    """Cloud and partition of a cluster to the partitions whose jobs its own may preempt, and what
    becomes of those."""

    @cached_property
    def offers(self) -> Sequence[Offer]:
        """The rows of the table as records, made when they are asked for."""
        return tuple(self.table.offers())

    def offer(self, row: int) -> Offer:
        """Return one row of the table as a record."""
        return self.table.offer(row)

    @cached_property
    def price_dates(self) -> tuple[str, str]:
        """Oldest and newest price; empty strings where the catalog has no dates."""
        dates = [date for date in self.table.price_date.used() if date]
        return (dates[0], dates[-1]) if dates else ("", "")


_held: dict[tuple[object, ...], Catalog] = {}


def load_catalog(
    cloud: CloudConfig,
    cache_dir: Path | None = None,
    hold: bool = False,
) -> Catalog:
    """Return the offers that `cloud` allows.

    Args:
        cloud: which catalogs to read, and which clouds, regions and prices are allowed.
        cache_dir: the cache that runs share; catalogs other than our own are kept there cleaned,
            by content. None reads and cleans anew.
        hold: keep it in memory for the next call with the same arguments: the check of a command
            reads it for the plan.

    Raises:
        CatalogError: a catalog is missing, empty or malformed, nothing is left of it, or a cloud,
            a region or a quota is not in it.
    """
    use_gpu_file(cloud.gpu_file)
    gpus = state_of([cloud.gpu_file] if cloud.gpu_file else [])
    key = (repr(cloud), cache_dir, state_of(cloud.catalog), gpus)
    found = _held.pop(key, None) or _load(cloud, cache_dir)
    if hold:
        _held.clear()  # one at a time: they are large
        _held[key] = found
    return found


def _load(cloud: CloudConfig, cache_dir: Path | None) -> Catalog:
    warnings: list[str] = []
    tables: list[Table] = []
    wait_hours: dict[tuple[str, str, str], float] = {}
    preempts: dict[tuple[str, str], dict[str, str]] = {}
    cleaned = Cleaned.empty()
    clusters = {name: target for room in extensions() for name, target in room.clusters.items()}
    if not cloud.providers or {*cloud.providers} - {LOCAL, *clusters}:
        if not all(cloud.catalog) or not cloud.catalog:
            raise CatalogError(
                f"cloud.catalog={list(cloud.catalog)}: name a catalog, or use the built-in one "
                "with cloud.catalog=[builtin]."
            )
        files = [(file, _cloud_name(file.name, cloud)) for file in read_files(cloud.catalog)]
        if cache_dir is None or all(file.name == "builtin" for file, _ in files):
            cleaned = clean(_listings(files))
        else:
            folder = cache_dir / CACHE_FOLDER
            cleaned = cached(folder, files, lambda: clean(_listings(files)), warnings.append)
        tables.append(cleaned.table)
    if LOCAL in cloud.providers:
        tables.append(Table.of([local_offer(cloud.usd_per_cpu_hour)]))
    for name, target in clusters.items():
        if name in cloud.providers:
            nodes = cluster_nodes(load(target)(cloud))
            tables.append(nodes.table)
            wait_hours |= nodes.wait_hours
            preempts |= nodes.preempts
            warnings += nodes.warnings
    table = tables[0] if len(tables) == 1 else Table.concat(tables)
    if not len(table):
        raise CatalogError(
            f"Nothing is left of the catalog {', '.join(cloud.catalog)}: "
            f"{_counts(cleaned.dropped)}. Use the built-in one with cloud.catalog=[builtin]."
        )
    everything = table
    table, said = select(table, cloud)
    warnings += _left_out(cleaned)
    warnings += said
    others = left_out(everything, table, cloud)
    return Catalog(table, cleaned.dropped, tuple(warnings), others, wait_hours, preempts)


def _listings(files: list[tuple[File, str]]) -> Listings:
    """Return the rows of all files; each is let go of when it has been read."""
    parts: list[Listings] = []
    wrong: list[str] = []
    while files:
        file, cloud = files.pop(0)
        try:
            part = parse(file, cloud)
        except Malformed as error:
            wrong += error.args
            continue
        if not all(part.cloud.used()):
            raise CatalogError(
                f"The catalog {file.name} does not name its cloud: put it into a "
                "folder with the cloud's name (aws/vms.csv), name one cloud with "
                "cloud.providers=[aws], or add a column Cloud."
            )
        parts.append(part)
    if wrong:
        listed = "\n  ".join(wrong[:MAX_SHOWN_ERRORS])
        more = len(wrong) - MAX_SHOWN_ERRORS
        rest = f"\n  and {more} more." if more > 0 else ""
        raise CatalogError(f"The catalog is malformed:\n  {listed}{rest}\nFix or remove the rows.")
    return Listings.concat(parts)


def _cloud_name(file: str, cloud: CloudConfig) -> str:
    """SkyPilot's own layout (<cloud>/vms.csv) speaks first, then the config, then the folder."""
    folder = cloud_of(file)
    if PurePosixPath(file).stem == "vms" and folder:
        return folder
    return cloud.providers[0] if len(cloud.providers) == 1 else folder


def _left_out(cleaned: Cleaned) -> Iterator[str]:
    if cleaned.dropped:
        yield f"Rows of the catalog left out: {_counts(cleaned.dropped)}."
    if cleaned.unknown:
        yield (
            f"No specification of {', '.join(sorted(cleaned.unknown))}: to include it, write a CSV"
            f" with the columns {','.join(COLUMNS)} and name it with "
            "cloud.gpu_file=<path>."
        )


def _counts(dropped: Mapping[str, int]) -> str:
    return ", ".join(f"{n} × {reason}" for reason, n in sorted(dropped.items())) or "no rows"
