"""This machine as an offer, so that `cloud=local` is planned like any cloud."""

from __future__ import annotations

import datetime
import platform

from stratos.core.machine import memory_bytes, n_cores
from stratos.records import Offer

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
