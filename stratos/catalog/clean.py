"""Cleaning rules: catalog rows become offers, and dropped rows are counted by reason.

1. Hosts and accelerators that are priced apart are summed zone by zone (`_join_hosts`). A GPU host
   whose accelerator has no price there is dropped, and so is an accelerator without a host.
2. A row without instance type or region is dropped.
3. A price that is missing, NaN, infinite, zero or negative drops the row. (A host at $0 whose GPUs
   carry the whole price is summed first, see 1.)
4. A CPU server needs vCPUs and memory, a GPU server one of both; else the row is dropped.
5. An accelerator that is counted but not named, or a machine of a GPU family (Azure's N series)
   that names none, is dropped: it would pass as a CPU server.
6. TPUs and their hosts, MIG slices, fractions of a GPU (Azure's NV4as to NV16as say 1 and have an
   eighth to a half) and GPUs with less memory than the card of that name are dropped: nothing here
   runs on them.
7. A GPU without a specification (`gpus.csv`, `cloud.gpu_file`) is dropped and named.
8. The card is the one whose memory the row's GpuInfo fits, in MiB or GiB, of one GPU or of all
   (`memory`): "A100" with 80 GiB is an A100-80GB.
9. A spot price that is absent, 0.00, negative or not below the on-demand price means no spot.
10. A row whose `Count` is 0 is dropped: there is no such server.
11. Zones are collapsed: a region has one offer per instance type and hardware, at its lowest
    prices. Rows with a `Count` are collapsed at equal prices only, and their counts added.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, replace

import numpy as np

from stratos.catalog.gpus import Gpu, find_gpu, fit
from stratos.catalog.readers import Listings
from stratos.catalog.table import (
    UNLIMITED,
    Bools,
    Floats,
    Ints,
    Table,
    Words,
    combine,
    hardware_kinds,
)

MAX_GPUS = 1024
"""More accelerators than this in one server are a slip of the pen."""

_MIG = re.compile(r"(^|[-_ ])mig([-_ ]|$)|\d+g\.\d+gb", re.IGNORECASE)
_AZURE_GPU = re.compile(r"(Standard_)?N[CDGPV]", re.IGNORECASE)
_AZURE_SLICE = re.compile(r"(Standard_)?NV(4|8|16)as_v4", re.IGNORECASE)


@dataclass(frozen=True)
class Cleaned:
    """What is left of a catalog, and what became of the rest."""

    table: Table
    dropped: dict[str, int]
    """Reason to the number of rows."""
    unknown: dict[str, int]
    """GPU without a specification to the number of rows."""

    @staticmethod
    def empty() -> Cleaned:
        """Return no offers, of nothing."""
        return Cleaned(Table.of([]), {}, {})


def clean(listings: Listings) -> Cleaned:
    """Apply the rules of this module."""
    dropped: Counter[str] = Counter()
    unknown: Counter[str] = Counter()
    rows = _join_hosts(listings, dropped)
    alive = np.ones(len(rows), bool)

    def drop(reason: str, where: Bools) -> None:
        n_rows = int((alive & where).sum())
        if n_rows:
            dropped[reason] += n_rows
            alive[where] = False

    drop("TPU", rows.accelerator.where(_is_tpu) | rows.instance_type.where(_hosts_tpu))
    drop("no instance type", ~rows.instance_type.where(bool))
    drop("no region", ~rows.region.where(bool))
    price = rows.usd_per_hour
    drop("no price", np.isnan(price))
    drop("zero price", price == 0)
    drop("negative or infinite price", ~((price > 0) & np.isfinite(price)))
    drop("no such server (Count 0)", rows.max_count == 0)
    is_gpu = rows.accelerator.where(bool)
    vcpus, memory_gib = (
        np.where(column > 0, column, 0.0) for column in (rows.vcpus, rows.memory_gib)
    )
    azure = rows.cloud.where(lambda name: name == "azure")
    drop(
        "accelerator that is not named",
        ~is_gpu
        & (
            (rows.accelerator_count > 0)
            | (azure & rows.instance_type.where(lambda name: bool(_AZURE_GPU.match(name))))
        ),
    )
    drop(
        "no host (vCPUs and memory unknown)",
        np.where(is_gpu, (vcpus == 0) & (memory_gib == 0), (vcpus == 0) | (memory_gib == 0)),
    )
    drop(
        "fraction of a GPU",
        azure & rows.instance_type.where(lambda name: bool(_AZURE_SLICE.fullmatch(name))),
    )
    accelerator, vram_gib = _cards(rows, alive & is_gpu, dropped, unknown, alive)
    spot = rows.usd_per_hour_spot
    table = _collapse(
        np.flatnonzero(alive),
        rows,
        accelerator,
        np.where(alive & is_gpu, rows.accelerator_count, 0).astype(np.int64),
        vcpus,
        memory_gib,
        vram_gib,
        np.where((spot > 0) & (spot < price), spot, np.inf),
    )
    return Cleaned(table, dict(dropped), dict(unknown))


def _is_tpu(name: str) -> bool:
    return name.lower().startswith("tpu")


def _hosts_tpu(name: str) -> bool:
    """Tell the host of a TPU (GCP's n2d-192-112-v5lite-tpu), which is not let without it."""
    return name.lower().endswith("-tpu")


def _cards(
    rows: Listings,
    where: Bools,
    dropped: Counter[str],
    unknown: Counter[str],
    alive: Bools,
) -> tuple[Words, Floats]:
    """Return card and memory of each row; rows without a card that can be used are dropped."""
    index = np.flatnonzero(where)
    codes = np.zeros(len(rows), np.int32)
    vram_gib = np.zeros(len(rows))
    names = [""]
    if len(index):
        count = rows.accelerator_count[index]
        _, count_code = np.unique(count, return_inverse=True)
        key = combine(
            rows.accelerator.codes[index],
            count_code.astype(np.int64),
            rows.gpu_info.codes[index],
        )
        _, first, of_row = np.unique(key, return_index=True, return_inverse=True)
        n_rows = np.bincount(of_row).tolist()
        for kind, row in enumerate(index[first].tolist()):
            name = rows.accelerator[row]
            card = _card(name, float(rows.accelerator_count[row]), rows.gpu_info[row])
            members = index[of_row == kind]
            if isinstance(card, Gpu):
                names.append(card.name)
                codes[members] = len(names) - 1
                vram_gib[members] = card.memory_gib
                continue
            dropped[card] += n_rows[kind]
            alive[members] = False
            if card == NO_SPECIFICATION:
                unknown[name] += n_rows[kind]
    return Words.coded(codes, names), vram_gib


NO_SPECIFICATION = "GPU without a specification"


def _card(name: str, count: float, info: str) -> Gpu | str:
    """Return the card that a listing means, or why it is left out."""
    if not count >= 0:
        return "GPU without a count"
    if _MIG.search(name):
        return "MIG slice of a GPU"
    if count < 1 or count != int(count):
        return "fraction of a GPU"
    if count > MAX_GPUS:
        return f"more than {MAX_GPUS} GPUs in a server"
    gpu = find_gpu(name)
    if gpu is None:
        return NO_SPECIFICATION
    return fit(gpu, info, int(count)) or "less memory than its GPU has"


def _collapse(
    index: Ints,
    rows: Listings,
    accelerator: Words,
    accelerator_count: Ints,
    vcpus: Floats,
    memory_gib: Floats,
    vram_gib: Floats,
    spot: Floats,
) -> Table:
    """Return one offer per place, instance type and hardware, at its lowest prices.

    `index` names the rows that are left (all columns have the others too); `spot` is infinite
    where there is none; the other columns are as in a `Table`.
    """
    kind = hardware_kinds(rows.cloud, accelerator, accelerator_count, vcpus, memory_gib)
    key = combine(
        *(column.codes[index] for column in (rows.cloud, rows.region, rows.instance_type)),
        kind[index],
        _purses(rows, spot)[index],
    )
    order = np.lexsort((rows.price_date.codes[index], spot[index], rows.usd_per_hour[index], key))
    starts = np.flatnonzero(np.diff(key[order], prepend=-1))
    index = index[order]
    first = index[starts]
    usd = rows.usd_per_hour[first]
    lowest, counts = np.zeros(0), np.zeros(0)
    if len(index):
        lowest = np.minimum.reduceat(spot[index], starts)
        counts = np.add.reduceat(np.nan_to_num(rows.max_count[index]), starts)
    is_counted = ~np.isnan(rows.max_count[first])
    return Table.build(
        cloud=rows.cloud.take(first),
        region=rows.region.take(first),
        instance_type=rows.instance_type.take(first),
        accelerator=accelerator.take(first),
        accelerator_count=accelerator_count[first],
        vcpus=vcpus[first],
        memory_gib=memory_gib[first],
        vram_gib=vram_gib[first],
        usd_per_hour=usd,
        usd_per_hour_spot=np.where(lowest < usd, lowest, np.nan),
        price_date=rows.price_date.take(first),
        source=rows.source.take(first),
        max_count=np.where(is_counted, np.minimum(counts, UNLIMITED), UNLIMITED).astype(np.int64),
    )


def _purses(rows: Listings, spot: Floats) -> Ints:
    """Return what tells counted rows of the same hardware apart: their prices; 0 for others."""
    call_budget = np.zeros(len(rows), np.int64)
    counted = ~np.isnan(rows.max_count)
    if counted.any():
        prices = np.stack([rows.usd_per_hour[counted], spot[counted]], axis=1)
        call_budget[counted] = 1 + np.unique(prices, axis=0, return_inverse=True)[1].reshape(-1)
    return call_budget


# GCP prices host and accelerators separately: join them into one offer.
#
# A GPU row has no instance type; a GPU host has no accelerator, and costs little or $0. Machines of
# the A and G families have their GPUs built in: such a host is no offer without them, since alone
# it would pass as a cheap CPU server. To an N1 machine GPUs may be attached; it is a CPU server
# too.

FAMILIES = re.compile(r"(a2|a3|a4|a4x|g2|g4)-")
"""Machine types that exist only with GPUs."""

ATTACHED = {
    "a2-highgpu": "A100",
    "a2-megagpu": "A100",
    "a2-ultragpu": "A100-80GB",
    "a3-highgpu": "H100",
    "a3-edgegpu": "H100",
    "a3-megagpu": "H100-MEGA",
    "a3-ultragpu": "H200",
    "a4-highgpu": "B200",
}
"""Machine family to the accelerator that is part of it (cloud.google.com/compute/docs/gpus)."""

_COUNTED = re.compile(r"(?P<family>[a-z0-9]+-[a-z]+)-(?P<count>\d+)g(-nolssd)?")

L4_COUNT = {4: 1, 8: 1, 12: 1, 16: 1, 24: 2, 32: 1, 48: 4, 96: 8}
"""vCPUs of a g2-standard to its number of L4s."""

N1_GPUS = ("T4", "V100", "P100", "P4")
"""Accelerators that may be attached to any N1 machine."""

N1_VCPUS_PER_GPU = (4, 8)
"""Sizes of N1 host that are offered for each attached GPU; GCP allows 1 to 12 for every card."""


def attached(instance_type: str, vcpus: int) -> list[tuple[str, int]]:
    """Return accelerator and count of every GPU server that this host can be part of."""
    named = _COUNTED.fullmatch(instance_type)
    if named and named["family"] in ATTACHED:
        return [(ATTACHED[named["family"]], int(named["count"]))]
    if instance_type.startswith("g2-standard-") and vcpus in L4_COUNT:
        return [("L4", L4_COUNT[vcpus])]
    if instance_type.startswith("n1-standard-"):
        return [
            (name, vcpus // per_gpu)
            for per_gpu in N1_VCPUS_PER_GPU
            if vcpus >= per_gpu and vcpus % per_gpu == 0
            for name in N1_GPUS
        ]
    return []


def _join_hosts(listings: Listings, dropped: Counter[str]) -> Listings:
    """Return the rows with the parts of GCP's servers replaced by their sums, zone by zone.

    Args:
        listings: rows of all clouds; those of others pass through.
        dropped: counts of rows by the reason why they are left out; added to.
    """
    gcp = listings.cloud.where(lambda name: name == "gcp")
    if not gcp.any():
        return listings
    has_type = listings.instance_type.where(bool)
    has_gpu = listings.accelerator.where(bool)
    is_tpu = listings.accelerator.where(lambda name: name.lower().startswith("tpu"))
    # TPUs go their own way, to be dropped under their own name.
    part = gcp & ~has_type & has_gpu & ~is_tpu
    host = gcp & has_type & ~has_gpu
    bare = host & listings.instance_type.where(lambda name: bool(FAMILIES.match(name)))
    pairs, n_unknown = _pairs(listings, host, bare)
    if n_unknown:
        dropped["GPU host of an unknown kind"] += n_unknown
    servers, joined, used = _sum(listings, pairs, part)
    unpriced = bare & ~joined
    unpriced &= np.isin(np.arange(len(listings)), pairs[0])
    if unpriced.any():
        dropped["GPU host without a price of its GPU"] += int(unpriced.sum())
    if (part & ~used).any():
        dropped["price of a GPU without a host"] += int((part & ~used).sum())
    return Listings.concat([listings.take(~part & ~bare), servers])


Pairs = tuple[np.ndarray, list[str], np.ndarray]
"""Row of a host, name of the accelerator and count, one entry a server that it can be part of."""


def _pairs(listings: Listings, host: Bools, bare: Bools) -> tuple[Pairs, int]:
    """Return every server that a host can be part of, and how many hosts are of no known kind."""
    rows = np.flatnonzero(host)
    vcpus = np.nan_to_num(listings.vcpus[rows]).astype(np.int64)
    kinds, of_row = np.unique(
        combine(listings.instance_type.codes[rows], vcpus), return_inverse=True
    )
    _, first = np.unique(of_row, return_index=True)
    parts = [attached(listings.instance_type[rows[row]], int(vcpus[row])) for row in first]
    hosts: list[np.ndarray] = []
    names: list[str] = []
    counts: list[int] = []
    n_unknown = 0
    order = np.argsort(of_row, kind="stable")
    starts = np.searchsorted(of_row[order], np.arange(len(kinds) + 1))
    for kind, options in enumerate(parts):
        members = rows[order[starts[kind] : starts[kind + 1]]]
        if not options:
            n_unknown += int(bare[members].sum())
        for name, count in options:
            hosts.append(members)
            names += [name] * len(members)
            counts += [count] * len(members)
    pairs = np.concatenate(hosts) if hosts else np.zeros(0, np.int64)
    return (pairs, names, np.array(counts, np.int64)), n_unknown


def _sum(listings: Listings, pairs: Pairs, part: Bools) -> tuple[Listings, Bools, Bools]:
    """Return servers, and masks of the hosts and of the accelerator rows that are in one."""
    hosts, names, counts = pairs
    priced = np.flatnonzero(part)
    accelerator = Words.concat([Words.of(names), listings.accelerator.take(priced)])
    key = combine(
        np.concatenate([listings.region.codes[hosts], listings.region.codes[priced]]),
        np.concatenate([listings.zone.codes[hosts], listings.zone.codes[priced]]),
        accelerator.codes,
        np.concatenate([counts, np.nan_to_num(listings.accelerator_count[priced])]).astype(
            np.int64
        ),
    )
    needed, offered = key[: len(hosts)], key[len(hosts) :]
    # Of rows that say the same, the cheapest counts.
    order = np.lexsort((listings.usd_per_hour[priced], offered))
    offered, priced = offered[order], priced[order]
    at = np.searchsorted(offered, needed)
    is_offered = at < len(offered)
    is_offered[is_offered] = offered[at[is_offered]] == needed[is_offered]
    gpus, hosts = priced[at[is_offered]], hosts[is_offered]
    joined, used = np.zeros(len(listings), bool), np.zeros(len(listings), bool)
    joined[hosts] = True
    used[priced] = np.isin(offered, needed)
    servers = replace(
        listings.take(hosts),
        accelerator=listings.accelerator.take(gpus),
        gpu_info=listings.gpu_info.take(gpus),
        accelerator_count=listings.accelerator_count[gpus],
        usd_per_hour=_added(listings.usd_per_hour[hosts], listings.usd_per_hour[gpus]),
        usd_per_hour_spot=_added(
            listings.usd_per_hour_spot[hosts], listings.usd_per_hour_spot[gpus]
        ),
    )
    return servers, joined, used


def _added(host_usd: Floats, gpu_usd: Floats) -> Floats:
    """Add two parts of a price; NaN (no price) where either part is not to be trusted."""
    sound = (host_usd >= 0) & (gpu_usd > 0)
    return np.where(sound, np.round(host_usd + gpu_usd, 5), np.nan)
