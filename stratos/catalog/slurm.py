"""The nodes of a SLURM cluster as offers, so that `cloud=slurm` is planned like any cloud."""

from __future__ import annotations

import datetime
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from stratos.catalog.gpus import Gpu, find_gpu
from stratos.catalog.table import Table
from stratos.core.errors import CatalogError, StratosError
from stratos.core.slurm_nodes import CLOUD, Share, shares_of_cluster
from stratos.records import Offer

if TYPE_CHECKING:
    from stratos.config import CloudConfig

_MIB_A_GIB = 1024
_MAKERS = frozenset(("nvidia", "amd", "geforce", "tesla", "quadro", "instinct"))
_SLICE = re.compile(r"\dg\.\d+gb")
"""In the name of a part of a card (MIG)."""


def slurm_table(cloud: CloudConfig) -> tuple[Table, list[str]]:
    """Return the offers of the cluster that this machine submits to, and warnings.

    Raises:
        CatalogError: SLURM does not answer, or no node of it can be planned with.
    """
    try:
        shares = shares_of_cluster()
    except StratosError as error:
        raise CatalogError(
            f"cloud=slurm: {error} Or take another catalog, such as cloud=local."
        ) from error
    cards = {one.gpu: card_of(one.gpu) for one in shares if one.n_gpus}
    known = [one for one in shares if not one.n_gpus or cards[one.gpu] is not None]
    unknown = sorted({one.gpu or "gpu, without a type" for one in shares if one not in known})
    lacks = (
        f"No specification of the GPUs of these nodes: {', '.join(unknown)}. Have the types in "
        "SLURM's GRES named like the GPUs of cloud.gpu_file=<path>, which holds those of your own."
    )
    if not known:
        reason = lacks if unknown else "It has no node that is up: see sinfo -R."
        raise CatalogError(f"cloud=slurm: there is nothing to plan with. {reason}")
    offers = [offer_of(one, cards.get(one.gpu) if one.n_gpus else None, cloud) for one in known]
    table = Table.of(offers, [one.count for one in known])
    return table, [f"Nodes of SLURM are left out. {lacks}"] if unknown else []


def offer_of(share: Share, card: Gpu | None, cloud: CloudConfig) -> Offer:
    """Return a share of a node as an offer: its partition is the region."""
    return Offer(
        cloud=CLOUD,
        region=share.partition,
        instance_type=share.name,
        accelerator=None if card is None else card.name,
        accelerator_count=share.n_gpus,
        vcpus=float(share.cpus),
        memory_gib=round(share.memory_mib / _MIB_A_GIB, 1),
        vram_gib=0.0 if card is None else card.memory_gib,
        usd_per_hour=share.n_gpus * cloud.usd_per_gpu_hour + share.cpus * cloud.usd_per_cpu_hour,
        price_date=datetime.date.today().isoformat(),
        source="sinfo",
    )


def card_of(name: str) -> Gpu | None:
    """Return the GPU that SLURM names, by its own name or by that which its driver tells.

    Drivers say nvidia_h100_80gb_hbm3 and more; the longest part that names a card is taken.
    """
    if _SLICE.search(name):
        return None
    words = [one for one in re.split(r"[-_ ]+", name.lower()) if one not in _MAKERS]
    return next(
        (card for n in range(len(words), 0, -1) if (card := _find(words[:n])) is not None), None
    )


def _find(words: Sequence[str]) -> Gpu | None:
    return find_gpu("-".join(words)) or find_gpu("".join(words))
