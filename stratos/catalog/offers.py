"""Load the offers of `cloud=`: read, clean, select, and warn."""

from __future__ import annotations

import datetime
import hashlib
import json
import platform
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from fnmatch import fnmatchcase
from functools import cache, cached_property
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from stratos.catalog.clean import Cleaned, clean
from stratos.catalog.cluster import cluster_nodes
from stratos.catalog.gpus import COLUMNS, own_gpus, use_gpu_file
from stratos.catalog.readers import File, Listings, Malformed, cloud_of, parse, read_files, state_of
from stratos.catalog.residency import MARKETPLACES, allowed_places, left_out
from stratos.catalog.table import (
    LOCAL,
    Bools,
    Floats,
    Table,
    Words,
)
from stratos.config import CloudConfig
from stratos.core.atomic_files import replacing_file
from stratos.core.errors import CatalogError, did_you_mean, nearest
from stratos.core.extensions import extensions, load
from stratos.core.machine import memory_bytes, n_cores
from stratos.records import Offer

_COUNTS = "counts"
"""What a cached catalog has beside its columns: rows by the reason why they are left out."""


def cached(
    folder: Path,
    files: Sequence[tuple[File, str]],
    make: Callable[[], Cleaned],
    warn: Callable[[str], None],
) -> Cleaned:
    """Return what was made of these files before, else make it and keep it.

    Args:
        folder: where cleaned catalogs are kept; made if need be. It may be deleted at any time.
        files: each file, and the cloud whose offers it lists.
        make: reads and cleans the files.
        warn: told of an entry that is damaged, and of a folder that cannot be written to.
    """
    path = folder / f"{_key(files)}.npz"
    try:
        return _read(path)
    except FileNotFoundError:
        pass
    except Exception as error:
        warn(f"The cached catalog {path} was damaged ({type(error).__name__}) and is made again.")
    made = make()
    try:
        _write(made, path)
    except OSError as error:
        warn(f"The cleaned catalog could not be kept in {folder}: {error}.")
    return made


def _key(files: Sequence[tuple[File, str]]) -> str:
    digest = hashlib.blake2b(_code_version(), digest_size=16)
    digest.update(repr(own_gpus()).encode())
    for file, cloud in files:
        digest.update(f"\0{file.name}\0{cloud}\0{len(file.data)}\0".encode())
        digest.update(file.data)
    return digest.hexdigest()


@cache
def _code_version() -> bytes:
    """Return the hash of all code and tables that decide what a file is cleaned to."""
    digest = hashlib.blake2b(digest_size=16)
    here = Path(__file__).parent
    for path in sorted([*here.glob("*.py"), here / "gpus.csv"]):
        digest.update(f"\0{path.name}\0".encode())
        digest.update(path.read_bytes())
    return digest.digest()


def _read(path: Path) -> Cleaned:
    with np.load(path, allow_pickle=False) as stored:  # each member has its checksum
        columns: dict[str, Any] = {
            column.name: (
                Words(stored[column.name], tuple(stored[f"{column.name}_names"].tolist()))
                if column.type == "Words"
                else stored[column.name]
            )
            for column in fields(Table)
        }
        return Cleaned(Table(**columns), *json.loads(stored[_COUNTS].item()))


def _write(cleaned: Cleaned, path: Path) -> None:
    arrays: dict[str, Any] = {_COUNTS: json.dumps((cleaned.dropped, cleaned.unknown))}
    for column in fields(Table):
        values = getattr(cleaned.table, column.name)
        if isinstance(values, Words):
            arrays[f"{column.name}_names"] = np.array(values.names, str)
            values = values.codes
        arrays[column.name] = values
    with replacing_file(path, flushed=False) as new, new.open("wb") as file:
        np.savez(file, **arrays)


# Filter the offers by `cloud=`, and report every name without an offer at once.


# Match offers with the keys of `cloud.quotas`.


def rows_of(table: Table, key: str) -> Bools:
    """Return a mask of the offers that a quota counts.

    Args:
        table: the offers.
        key: "cloud", "cloud/region" or "cloud/region/instance_type"; a `*` stands for any text,
            so that "*/*/g5.*" counts every g5 of every cloud.
    """
    mask = np.ones(len(table), bool)
    columns = (table.cloud, table.region, table.instance_type)
    for column, pattern in zip(columns, key.split("/", 2), strict=False):
        mask &= column.where(matcher(pattern))
    return mask


def suggestion(table: Table, key: str) -> str:
    """Return " Did you mean x?" for a key that matches no offer; the first wrong part decides."""
    parts = key.split("/", 2)
    here = np.ones(len(table), bool)
    for n, column in enumerate((table.cloud, table.region, table.instance_type)[: len(parts)]):
        matches = here & column.where(matcher(parts[n]))
        if not matches.any():
            known = column.take(here).used()
            corrected = [
                "/".join([*parts[:n], name, *parts[n + 1 :]]) for name in nearest(parts[n], known)
            ]
            return f" Did you mean {' or '.join(corrected)}?" if corrected else ""
        here = matches
    return ""


def matcher(pattern: str) -> Callable[[str], bool]:
    """Return what tells whether a name is a text in which `*` stands for any."""
    regex = re.compile(".*".join(map(re.escape, pattern.split("*"))), re.DOTALL)
    return lambda name: regex.fullmatch(name) is not None


MAX_NAMES = 20
"""Known names that one message lists."""


def select(table: Table, cloud: CloudConfig) -> tuple[Table, list[str]]:
    """Return the offers that clouds, regions, residency and price cap allow, and warnings.

    Raises:
        CatalogError: a cloud, a region or a quota names what no offer has, nothing is left without
            marketplaces or within the residency, no server is cheap enough, or spot is asked for
            and no offer has a price of it.
    """
    allowed = np.ones(len(table), bool)
    if cloud.providers:
        allowed &= table.cloud.where(lambda name: name in cloud.providers)
    elif not cloud.marketplaces:
        allowed &= _no_marketplaces(table)
    problems = [*_unknown_clouds(table, cloud), *_unknown_quotas(table, cloud.quotas)]
    if cloud.regions and allowed.any():
        problems += _unknown_regions(table.region.take(allowed).used(), cloud)
        allowed &= table.region.where(lambda name: _is_of(name, cloud.regions))
    if problems:
        raise CatalogError("\n".join(problems))
    allowed, warnings = allowed_places(table, cloud, allowed)
    idle = [key for key in cloud.quotas if not rows_of(table, key)[allowed].any()]
    if cloud.spot:
        warnings += _without_spot(table, allowed, cloud.regions)
    if cloud.max_usd_per_hour is not None:
        allowed &= _cheap_enough(table, allowed, cloud.max_usd_per_hour, cloud.spot)
    if idle:
        warnings.append(f"cloud.quotas: no allowed offer is of {', '.join(idle)}.")
    return table if allowed.all() else table.take(allowed), warnings


def _no_marketplaces(table: Table) -> Bools:
    own = ~table.cloud.where(MARKETPLACES.__contains__)
    if not own.any():
        raise CatalogError(
            "All offers of the catalog are of a marketplace "
            f"({_listed(table.cloud.used())}), whose hosts are not verified. "
            "Type cloud.marketplaces=true to rent from them anyway."
        )
    return own


def _unknown_clouds(table: Table, cloud: CloudConfig) -> Iterator[str]:
    known = table.cloud.used()
    for name in cloud.providers:
        if name not in known:
            yield (
                f"cloud.providers has {name!r}, and the catalog has no offer of it."
                f"{did_you_mean(name, known)} It has: {_listed(known)}."
            )


def _unknown_regions(known: list[str], cloud: CloudConfig) -> Iterator[str]:
    for region in cloud.regions:
        if not any(_is_of(name, [region]) for name in known):
            yield (
                f"cloud.regions has {region!r}, and no offer of {cloud.name} is there."
                f"{did_you_mean(region, known)} Known are: {_listed(known)}."
            )


def _is_of(region: str, patterns: Iterable[str]) -> bool:
    """Return whether a region is one of several, in which * and ? stand for any letters."""
    return any(fnmatchcase(region, pattern) for pattern in patterns)


def _unknown_quotas(table: Table, keys: Iterable[str]) -> Iterator[str]:
    for key in keys:
        if not rows_of(table, key).any():
            yield (
                f"cloud.quotas has {key!r}, and no offer matches it.{suggestion(table, key)} "
                "A key is cloud, cloud/region or cloud/region/instance_type, and * stands for any."
            )


def _without_spot(table: Table, allowed: Bools, regions: Sequence[str]) -> Iterator[str]:
    """Say of which clouds no allowed offer has a spot price, though spot was asked for.

    Raises:
        CatalogError: none has one, in whatever region, and this machine is none of them.
    """
    priced = allowed & ~np.isnan(table.usd_per_hour_spot)
    named = set(table.cloud.take(allowed).used())
    clouds = sorted(named - set(table.cloud.take(priced).used()) - {LOCAL})
    if clouds and not priced.any() and LOCAL not in named and not regions:
        raise CatalogError(
            f"cloud.spot=true: no offer of {', '.join(clouds)} has a spot price, so that nothing "
            "can be planned on spot. Leave it out. With executor=skypilot, executor.spot=true "
            "rents spot servers all the same, counted at the on-demand price. Or name a catalog "
            "with spot prices: cloud.catalog=[…]."
        )
    if clouds:
        yield (
            f"cloud.spot=true: no offer of {', '.join(clouds)} has a spot price, so that "
            f"{'its' if len(clouds) == 1 else 'their'} servers are planned on demand. Name a "
            "catalog with spot prices: cloud.catalog=[…]."
        )


def _cheap_enough(table: Table, allowed: Bools, cap: float, spot: bool) -> Bools:
    lowest = lowest_usd_per_hour(table, spot)
    cheap = lowest <= cap
    if not (cheap & allowed).any():
        cheapest = float(lowest[allowed].min())
        raise CatalogError(
            f"No server costs ${cap:g} an hour or less (cloud.max_usd_per_hour): the cheapest "
            f"is ${cheapest:.4g}. Type cloud.max_usd_per_hour={cheapest:.4g} or more."
        )
    return cheap


def lowest_usd_per_hour(table: Table, spot: bool) -> Floats:
    """Return the lowest price that each offer can be had at, with spot prices or without."""
    if not spot:
        return table.usd_per_hour
    return np.fmin(table.usd_per_hour, table.usd_per_hour_spot)


def _listed(names: list[str]) -> str:
    return f"{', '.join(names[:MAX_NAMES])}{' …' if len(names) > MAX_NAMES else ''}"


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
    catalog = _held.pop(key, None) or _load(cloud, cache_dir)
    if hold:
        _held.clear()  # one at a time: they are large
        _held[key] = catalog
    return catalog


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
    table, notes = select(table, cloud)
    warnings += _left_out(cleaned)
    warnings += notes
    elsewhere = left_out(everything, table, cloud)
    return Catalog(table, cleaned.dropped, tuple(warnings), elsewhere, wait_hours, preempts)


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
