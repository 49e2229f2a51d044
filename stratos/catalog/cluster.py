"""The nodes of a cluster as offers, whoever manages it, so that it is planned like any cloud."""

from __future__ import annotations

import datetime
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from stratos.catalog.gpus import Gpu, find_gpu
from stratos.catalog.table import Table
from stratos.core.errors import CatalogError, StratosError
from stratos.core.shares import Share
from stratos.records import Offer

if TYPE_CHECKING:
    from stratos.config import CloudConfig

_MIB_A_GIB = 1024
_MAKERS = frozenset(("nvidia", "amd", "geforce", "tesla", "quadro", "instinct"))
_SLICE = re.compile(r"\dg\.\d+gb")
"""In the name of a part of a card (MIG)."""


@dataclass(frozen=True)
class Manager:
    """Who manages a cluster, in the words of messages."""

    cloud: str
    """Of its offers; also the choice of the group."""
    name: str
    shares: Callable[[], list[Share]]
    """Asks it for its nodes."""
    types: str
    """Where it names the types of GPUs."""
    nothing: str
    """What to look at where it has no node."""
    source: str
    """Of the offers."""


def cluster_table(manager: Manager, cloud: CloudConfig) -> tuple[Table, list[str]]:
    """Return the offers of a cluster, and warnings.

    Raises:
        CatalogError: it does not answer, or no node of it can be planned with.
    """
    try:
        shares = manager.shares()
    except StratosError as error:
        raise CatalogError(
            f"cloud={manager.cloud}: {error} Or take another catalog, such as cloud=local."
        ) from error
    cards = {one.gpu: card_of(one.gpu) for one in shares if one.n_gpus}
    known = [one for one in shares if not one.n_gpus or cards[one.gpu] is not None]
    unknown = sorted({one.gpu or "gpu, without a type" for one in shares if one not in known})
    lacks = (
        f"No specification of the GPUs of these nodes: {', '.join(unknown)}. Have the types in "
        f"{manager.types} named like the GPUs of cloud.gpu_file=<path>, which holds those of your "
        "own."
    )
    if not known:
        reason = lacks if unknown else manager.nothing
        raise CatalogError(f"cloud={manager.cloud}: there is nothing to plan with. {reason}")
    offers = [
        offer_of(one, cards.get(one.gpu) if one.n_gpus else None, manager, cloud) for one in known
    ]
    table = Table.of(offers, [one.count for one in known])
    return table, [f"Nodes of {manager.name} are left out. {lacks}"] if unknown else []


def offer_of(share: Share, card: Gpu | None, manager: Manager, cloud: CloudConfig) -> Offer:
    """Return a share of a node as an offer: its partition is the region."""
    return Offer(
        cloud=manager.cloud,
        region=share.partition,
        instance_type=share.name,
        accelerator=None if card is None else card.name,
        accelerator_count=share.n_gpus,
        vcpus=float(share.cpus),
        memory_gib=round(share.memory_mib / _MIB_A_GIB, 1),
        vram_gib=0.0 if card is None else card.memory_gib,
        usd_per_hour=share.n_gpus * cloud.usd_per_gpu_hour + share.cpus * cloud.usd_per_cpu_hour,
        price_date=datetime.date.today().isoformat(),
        source=manager.source,
    )


def card_of(name: str) -> Gpu | None:
    """Return the GPU that a cluster names, by its own name or by that which its driver tells.

    Drivers say nvidia_h100_80gb_hbm3 and more; the longest part that names a card is taken. Ray
    says A100-80G.
    """
    if _SLICE.search(name):
        return None
    words = [one for one in re.split(r"[-_ ]+", name.lower()) if one not in _MAKERS]
    words = [re.sub(r"^(\d+)g$", r"\1gb", one) for one in words]
    return next(
        (card for n in range(len(words), 0, -1) if (card := _find(words[:n])) is not None), None
    )


def _find(words: Sequence[str]) -> Gpu | None:
    return find_gpu("-".join(words)) or find_gpu("".join(words))
