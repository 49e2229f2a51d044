"""Hours until a rented server can begin: order, boot, image, and the weights on their way."""

from __future__ import annotations

from stratos.estimate import constants as k
from stratos.estimate.device import Device
from stratos.records import Interval


def startup_hours(device: Device, download_bytes: float) -> Interval:
    """Return the hours before the work, a machine that is here already having none.

    Args:
        device: the server's devices.
        download_bytes: weights that it has to fetch.
    """
    if not device.startup_hours:
        return Interval(0.0, 0.0, 0.0, "this machine")
    download = download_bytes / k.DOWNLOAD_BYTES_PER_S / 3600
    return Interval(
        k.STARTUP_HOURS + download,
        k.STARTUP_HOURS_LOW + download / k.DOWNLOAD_SPREAD,
        k.STARTUP_HOURS_HIGH + download * k.DOWNLOAD_SPREAD,
        "assumed start-up and download",
    )
