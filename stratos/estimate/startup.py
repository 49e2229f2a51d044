"""Hours until a rented server can begin: order, boot, image, and the weights on their way."""

from __future__ import annotations

import numpy as np

from stratos.estimate import constants as k
from stratos.estimate.fleet import Fleet, Ranges


def startup_hours(fleet: Fleet, download_bytes: float) -> Ranges:
    """Return the hours before the work, a machine that is here already having none.

    Args:
        fleet: the servers.
        download_bytes: weights that each has to fetch.
    """
    rented = (fleet.startup_hours > 0).astype(np.float64)
    download = download_bytes / k.DOWNLOAD_BYTES_PER_S / 3600
    return Ranges(
        rented * (k.STARTUP_HOURS + download),
        rented * (k.STARTUP_HOURS_LOW + download / k.DOWNLOAD_SPREAD),
        rented * (k.STARTUP_HOURS_HIGH + download * k.DOWNLOAD_SPREAD),
    )
