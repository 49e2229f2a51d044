"""Start-up time of a rented server: order, boot, image and download of weights."""

from __future__ import annotations

import numpy as np

from stratos.estimate import constants as k
from stratos.estimate.fleet import Fleet, Ranges


def fixed_training_hours(fleet: Fleet) -> Ranges:
    """Return the hours of a training that its tokens do not take, on a machine that is here.

    On a rented one they are within what ordering and booting it may take.
    """
    here = (fleet.startup_hours <= 0).astype(np.float64) / 3600
    return Ranges(here * k.TRAIN_FIXED_S, here * k.TRAIN_FIXED_S_LOW, here * k.TRAIN_FIXED_S_HIGH)


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
