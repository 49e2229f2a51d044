"""The rules that turn listings into offers; what is dropped is counted by reason.

1. A price that is missing, NaN, infinite, zero or negative drops the row. (A host that is priced
   at $0 because its GPUs carry the whole price is joined first, see 2.)
2. Hosts and accelerators that are priced apart (GCP: accelerator rows have no instance type) are
   summed zone by zone. A GPU host whose accelerator has no price there is dropped: alone it would
   pass as a cheap CPU server.
3. TPUs and fractions of a GPU are dropped: nothing here runs on them.
4. A GPU without a specification in `gpus.csv` is dropped and named.
5. A spot price that is absent, 0.00, negative or not below the on-demand price means no spot.
6. Zones are collapsed: a region has one offer per instance type, at its lowest prices.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import replace

from stratos.catalog.gpus import find_gpu
from stratos.catalog.parse import Listing
from stratos.records import Offer

GCP_GPU_FAMILIES = ("a2-", "a3-", "a4-", "a4x-", "g2-", "g4-")
"""GCP machine types that exist only with GPUs."""

GCP_ATTACHED = {
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

GCP_L4_COUNT = {4: 1, 8: 1, 12: 1, 16: 1, 24: 2, 32: 1, 48: 4, 96: 8}
"""vCPUs of a g2-standard to its number of L4s."""

GCP_N1_GPUS = ("T4", "V100", "P100", "P4")
"""Accelerators that may be attached to any N1 machine."""

GCP_N1_VCPUS_PER_GPU = (4, 8)
"""Sizes of N1 host that are offered for each attached GPU; GCP allows 1 to 12 for every card."""


def clean(listings: Iterable[Listing]) -> tuple[list[Offer], Counter[str], Counter[str]]:
    """Apply the rules of this module.

    Returns:
        The offers; a count of dropped rows by reason; a count of rows by GPU that has no
        specification.
    """
    dropped: Counter[str] = Counter()
    unknown: Counter[str] = Counter()
    best: dict[tuple[str, str, str, str, int], Offer] = {}
    for listing in _join_hosts(listings, dropped):
        offer = _offer(listing, dropped, unknown)
        if offer is None:
            continue
        key = (
            offer.cloud,
            offer.region,
            offer.instance_type,
            offer.accelerator or "",
            offer.accelerator_count,
        )
        best[key] = _cheaper(best[key], offer) if key in best else offer
    return list(best.values()), dropped, unknown


def _offer(listing: Listing, dropped: Counter[str], unknown: Counter[str]) -> Offer | None:
    price = listing.usd_per_hour
    if math.isnan(price):
        dropped["no price"] += 1
        return None
    if price <= 0 or math.isinf(price):
        dropped["zero price" if price == 0 else "negative or infinite price"] += 1
        return None
    if listing.vcpus <= 0 and listing.memory_gib <= 0:
        dropped["no host (vCPUs and memory unknown)"] += 1
        return None
    count, gpu = 0, None
    if listing.accelerator:
        if listing.accelerator.lower().startswith("tpu"):
            dropped["TPU"] += 1
            return None
        count = int(listing.accelerator_count)
        if count < 1 or count != listing.accelerator_count:
            dropped["fraction of a GPU"] += 1
            return None
        gpu = find_gpu(listing.accelerator, listing.size_mib, count)
        if gpu is None:
            dropped["GPU without a specification"] += 1
            unknown[listing.accelerator] += 1
            return None
    spot = listing.usd_per_hour_spot
    return Offer(
        cloud=listing.cloud,
        region=listing.region,
        instance_type=listing.instance_type,
        accelerator=gpu.name if gpu else None,
        accelerator_count=count,
        vcpus=listing.vcpus,
        memory_gib=listing.memory_gib,
        vram_gib=gpu.memory_gib if gpu else 0.0,
        usd_per_hour=price,
        usd_per_hour_spot=spot if 0 < spot < price else None,
        price_date=listing.price_date,
        source=listing.source,
    )


def _cheaper(kept: Offer, other: Offer) -> Offer:
    spots = [s for s in (kept.usd_per_hour_spot, other.usd_per_hour_spot) if s is not None]
    low = kept if kept.usd_per_hour <= other.usd_per_hour else other
    return replace(low, usd_per_hour_spot=min(spots, default=None))


def _join_hosts(listings: Iterable[Listing], dropped: Counter[str]) -> Iterator[Listing]:
    """Yield complete listings as they come, then the sums of hosts and accelerators."""
    hosts: dict[tuple[str, str], list[tuple[Listing, str, int]]] = defaultdict(list)
    accelerators: dict[tuple[str, str, str, int], Listing] = {}
    for listing in listings:
        if not listing.instance_type and listing.accelerator:
            if listing.accelerator.lower().startswith("tpu"):
                dropped["TPU"] += 1
                continue
            key = (listing.region, listing.zone, listing.accelerator)
            accelerators[(*key, int(listing.accelerator_count))] = listing
            continue
        if listing.cloud == "gcp" and not listing.accelerator:
            attached = list(_attached(listing))
            for name, count in attached:
                hosts[(listing.region, listing.zone)].append((listing, name, count))
            if listing.instance_type.startswith(GCP_GPU_FAMILIES):
                if not attached:
                    dropped["GPU host of an unknown kind"] += 1
                continue
        yield listing
    for (region, zone), group in hosts.items():
        for host, name, count in group:
            gpu = accelerators.get((region, zone, name, count))
            if gpu is not None:
                yield replace(
                    host,
                    accelerator=name,
                    accelerator_count=count,
                    size_mib=gpu.size_mib,
                    usd_per_hour=_sum(host.usd_per_hour, gpu.usd_per_hour),
                    usd_per_hour_spot=_sum(host.usd_per_hour_spot, gpu.usd_per_hour_spot),
                )
            elif host.instance_type.startswith(GCP_GPU_FAMILIES):
                dropped["GPU host without a price of its GPU"] += 1


def _sum(host_usd: float, gpu_usd: float) -> float:
    """Add two parts of a price; NaN (no price) where either part is not to be trusted."""
    return round(host_usd + gpu_usd, 5) if host_usd >= 0 and gpu_usd > 0 else math.nan


def _attached(host: Listing) -> Iterator[tuple[str, int]]:
    """Yield accelerator and count of every GPU server that this GCP host can be part of."""
    family, _, size = host.instance_type.rpartition("-")
    if host.instance_type.endswith("-nolssd"):
        family, _, size = host.instance_type.removesuffix("-nolssd").rpartition("-")
    if family in GCP_ATTACHED and size.removesuffix("g").isdigit():
        yield GCP_ATTACHED[family], int(size.removesuffix("g"))
    elif family == "g2-standard" and int(host.vcpus) in GCP_L4_COUNT:
        yield "L4", GCP_L4_COUNT[int(host.vcpus)]
    elif family == "n1-standard":
        for per_gpu in GCP_N1_VCPUS_PER_GPU:
            if host.vcpus >= per_gpu and host.vcpus % per_gpu == 0:
                for name in GCP_N1_GPUS:
                    yield name, int(host.vcpus) // per_gpu
