"""GCP prices host and accelerators separately: join them into one offer.

A GPU row has no instance type; a GPU host has no accelerator, and costs little or $0. Machines of
the A and G families have their GPUs built in: such a host is no offer without them, since alone it
would pass as a cheap CPU server. To an N1 machine GPUs may be attached; it is a CPU server too.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace

import numpy as np

from stratos.catalog.readers import Listings
from stratos.catalog.table import Bools, Floats, Words, combine

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


def join(listings: Listings, dropped: Counter[str]) -> Listings:
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
