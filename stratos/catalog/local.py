"""This machine as an offer, so that `cloud=local` is planned like any cloud."""

from __future__ import annotations

import datetime
import platform

from stratos.core.machine import memory_bytes, n_cores
from stratos.records import Offer

CLOUD = "local"
"""Cloud of the offers that are this machine."""


def local_offer() -> Offer:
    """Describe this machine: the CPUs that this process may use, its memory, at $0 an hour."""
    return Offer(
        cloud=CLOUD,
        region="here",
        instance_type=platform.machine() or "cpu",
        accelerator=None,
        accelerator_count=0,
        vcpus=float(n_cores()),
        memory_gib=round(memory_bytes() / 2**30, 1),
        vram_gib=0.0,
        usd_per_hour=0.0,
        price_date=datetime.date.today().isoformat(),
        source="this machine",
    )
