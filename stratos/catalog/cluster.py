"""The nodes of a cluster as offers, whoever manages it, so that it is planned like any cloud."""

from __future__ import annotations

import datetime
import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from typing import ClassVar, NamedTuple

from stratos.catalog.gpus import SAME_MEMORY, Gpu, find_gpu, variants
from stratos.catalog.table import Table
from stratos.config import CloudConfig
from stratos.core.errors import CatalogError, StratosError
from stratos.core.formats import counted
from stratos.core.machine import Share
from stratos.records import Offer

_MIB_A_GIB = 1024
_MAKERS = frozenset(("nvidia", "amd", "geforce", "tesla", "quadro", "instinct"))
_SLICE = re.compile(r"\dg\.\d+gb")
"""In the name of a part of a card (MIG)."""


_SIZE = re.compile(r"\d+gb?\b")
"""In the name of a card: its memory."""
_LARGER = 1.5
"""Times the memory at which it is worth telling that a card may be a larger one of its name."""
_ALL = "*"


class Nodes(NamedTuple):
    """The nodes of a cluster, to be planned with."""

    table: Table
    wait_hours: dict[tuple[str, str, str], float]
    """Cloud, region and instance type of an offer to the hours until a job of it would start."""
    warnings: list[str]
    preempts: dict[tuple[str, str], dict[str, str]]
    """Cloud and partition to the partitions whose jobs its own may preempt, and what becomes of
    those."""


class Cluster(ABC):
    """A cluster whose nodes are offers, and what messages call it.

    Args:
        config: the `cloud=` of the run.
    """

    cloud: ClassVar[str]
    """Of its offers; also the choice of the group."""
    name: ClassVar[str]
    """Of whoever manages it."""
    types: ClassVar[str]
    """Where it names the types of GPUs."""
    nothing: ClassVar[str]
    """What to look at where it has no node."""
    source: ClassVar[str]
    """Of the offers."""

    def __init__(self, config: CloudConfig) -> None:
        self.config = config

    @abstractmethod
    def shares(self) -> list[Share]:
        """Ask the cluster for its nodes.

        Raises:
            StratosError: it does not answer.
        """

    @abstractmethod
    def waits(self, shares: list[Share]) -> tuple[dict[tuple[str, str], float], str]:
        """Return the hours until a job of each share would start, and why some are not known.

        Returns:
            Partition and name of a share to hours; and a reason, "" where all are known.
        """

    def within(self, shares: list[Share]) -> tuple[list[Share], list[str]]:
        """Return the shares that this user's jobs may have, and warnings."""
        return shares, []

    def preempts(self, partitions: Sequence[str]) -> dict[str, dict[str, str]]:
        """Return each partition to those whose jobs its own may preempt, and what becomes of those.

        Args:
            partitions: that are planned with.
        """
        return {}


def cluster_nodes(cluster: Cluster) -> Nodes:
    """Return the offers of a cluster, how long they would be waited for, and warnings.

    Raises:
        CatalogError: it does not answer, or no node of it can be planned with.
    """
    try:
        shares = cluster.shares()
    except StratosError as error:
        raise CatalogError(
            f"cloud={cluster.cloud}: {error} Or take another catalog, such as cloud=local."
        ) from error
    cards = {share.gpu: _fitting(share) for share in shares if share.n_gpus}
    known = [share for share in shares if not share.n_gpus or cards[share.gpu] is not None]
    unknown = sorted({share.gpu or "gpu, without a type" for share in shares if share not in known})
    lacks = (
        f"No specification of the GPUs of these nodes: {', '.join(unknown)}. Have the types in "
        f"{cluster.types} named like the GPUs of cloud.gpu_file=<path>, which holds those of your "
        "own."
    )
    if not known:
        reason = lacks if unknown else cluster.nothing
        raise CatalogError(f"cloud={cluster.cloud}: there is nothing to plan with. {reason}")
    warnings = [f"Nodes of {cluster.name} are left out. {lacks}"] if unknown else []
    warnings += _small_ones(known, cards, cluster)
    known, limits = cluster.within(known)
    warnings += limits
    if not known:
        raise CatalogError(
            f"cloud={cluster.cloud}: there is nothing to plan with. {' '.join(limits)}"
        )
    offers = [
        offer_of(share, cards.get(share.gpu) if share.n_gpus else None, cluster) for share in known
    ]
    table = Table.of(offers, [share.count for share in known])
    shares_used = [share for share in known if _is_wanted(share.partition, cluster.config.regions)]
    waits, reason = cluster.waits(shares_used)
    if len(waits) < len(shares_used):
        warnings.append(
            f"{cluster.name}: how long a job waits is not known for "
            f"{len(shares_used) - len(waits)} of {counted(len(shares_used), 'kind')} of servers "
            f"({reason}): no waiting is counted for them."
        )
    hours = {(cluster.cloud, *key): wait for key, wait in waits.items()}
    preempting = cluster.preempts(sorted({share.partition for share in known}))
    preempts = {(cluster.cloud, name): preempted for name, preempted in preempting.items()}
    return Nodes(table, hours, warnings, preempts)


def _fitting(share: Share) -> Gpu | None:
    """Return the GPU of a share: of the variants of what it is called, that of its memory."""
    card = card_of(share.gpu)
    if card is None or share.gpu_gib is None:
        return card
    near = [variant for variant in (card, *variants(card))
            if abs(share.gpu_gib / variant.memory_gib - 1) <= SAME_MEMORY]  # fmt: skip
    return near[0] if near else card


def _small_ones(
    shares: Sequence[Share], cards: dict[str, Gpu | None], cluster: Cluster
) -> Iterator[str]:
    """Say which GPUs are planned as the smallest that has their name."""
    sized = {share.gpu for share in shares if share.gpu_gib is not None}
    for name, card in sorted(cards.items()):
        if card is None or name in sized or _SIZE.search(name.lower()):
            continue
        larger = [
            variant for variant in variants(card) if variant.memory_gib >= _LARGER * card.memory_gib
        ]
        if larger:
            yield (
                f"{cluster.name} calls GPUs {name}, of which there are several sizes: they are "
                f"planned with {card.memory_gib:g} GB. Where they have "
                f"{larger[0].memory_gib:g} GB, have the type in {cluster.types} named "
                f"{larger[0].name}."
            )


def _is_wanted(partition: str, regions: Sequence[str]) -> bool:
    return any(fnmatchcase(partition, pattern) for pattern in regions or (_ALL,))


def offer_of(share: Share, card: Gpu | None, cluster: Cluster) -> Offer:
    """Return a share of a node as an offer: its partition is the region."""
    prices = cluster.config
    return Offer(
        cloud=cluster.cloud,
        region=share.partition,
        instance_type=share.name,
        accelerator=None if card is None else card.name,
        accelerator_count=share.n_gpus,
        vcpus=float(share.cpus),
        memory_gib=round(share.memory_mib / _MIB_A_GIB, 1),
        vram_gib=0.0 if card is None else card.memory_gib,
        usd_per_hour=share.n_gpus * prices.usd_per_gpu_hour + share.cpus * prices.usd_per_cpu_hour,
        price_date=datetime.date.today().isoformat(),
        source=cluster.source,
    )


def card_of(name: str) -> Gpu | None:
    """Return the GPU that a cluster names, by its own name or by that which its driver tells.

    Drivers say nvidia_h100_80gb_hbm3 and more; the longest part that names a card is taken. Ray
    says A100-80G.
    """
    if _SLICE.search(name):
        return None
    words = [word for word in re.split(r"[-_ ]+", name.lower()) if word not in _MAKERS]
    words = [re.sub(r"^(\d+)g$", r"\1gb", word) for word in words]
    return next(
        (card for n in range(len(words), 0, -1) if (card := _find(words[:n])) is not None), None
    )


def _find(words: Sequence[str]) -> Gpu | None:
    return find_gpu("-".join(words)) or find_gpu("".join(words))
