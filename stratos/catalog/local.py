"""This machine as an offer, so that `cloud=local` is planned like any cloud."""

from __future__ import annotations

import datetime
import os
import platform

from stratos.records import Offer

CLOUD = "local"
"""Cloud of the offers that are this machine."""


def local_offer() -> Offer:
    """Describe this machine: the CPUs that this process may use, its memory, at $0 an hour."""
    usable = getattr(os, "sched_getaffinity", None)
    n_cpus = len(usable(0)) if usable else os.cpu_count() or 1
    memory_bytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return Offer(
        cloud=CLOUD,
        region="here",
        instance_type=platform.machine() or "cpu",
        accelerator=None,
        accelerator_count=0,
        vcpus=float(n_cpus),
        memory_gib=round(memory_bytes / 2**30, 1),
        vram_gib=0.0,
        usd_per_hour=0.0,
        price_date=datetime.date.today().isoformat(),
        source="this machine",
    )
