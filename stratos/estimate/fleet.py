"""The estimate vectorised over many servers.

The rooflines read a device's figures by name, so a `Fleet` whose figures are arrays takes the place
of a `Device`; a server alone is a fleet of one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from stratos.deploy.engines.known import compiled_kinds
from stratos.estimate import constants as k
from stratos.estimate.device import Device
from stratos.estimate.fitted import Setting, fitted
from stratos.records import Interval

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Fleet:
    """The figures of `Device` as arrays; see there."""

    name: NDArray[np.str_]
    is_gpu: Bools
    count: Ints
    train_flops: Floats
    infer_flops: Floats
    attention_flops: Floats
    fp8_flops: Floats
    bytes_per_s: Floats
    memory_bytes: Floats
    link_bytes_per_s: Floats
    node_bytes_per_s: Floats
    startup_hours: Floats
    vcpus: Floats
    decode_floor_s: Floats
    calibrated: Bools
    load_tested: Bools
    compiled_scale: Floats
    compiled_tested: Bools
    bf16_flops: Floats

    @classmethod
    def of(cls, devices: Sequence[Device]) -> Fleet:
        """Return the devices of some servers as one."""
        return cls(
            **{f.name: np.array([getattr(d, f.name) for d in devices]) for f in fields(Device)}
        )

    def take(self, index: Ints | Bools) -> Fleet:
        """Return some of the servers, in any order and number."""
        return Fleet(**{f.name: getattr(self, f.name)[index] for f in fields(self)})

    def __len__(self) -> int:
        return len(self.count)


@dataclass(frozen=True, eq=False)
class Ranges:
    """Times of many servers, each with its range."""

    mean: Floats
    low: Floats
    high: Floats

    def __add__(self, other: Ranges) -> Ranges:
        """Return the times of one after the other, all ends added."""
        return Ranges(self.mean + other.mean, self.low + other.low, self.high + other.high)

    def where(self, chosen: Bools, other: Ranges) -> Ranges:
        """Return these times where `chosen`, those of `other` elsewhere."""
        return Ranges(
            np.where(chosen, self.mean, other.mean),
            np.where(chosen, self.low, other.low),
            np.where(chosen, self.high, other.high),
        )

    def interval(self, at: int, source: str) -> Interval:
        """Return the time of one server."""
        return Interval(float(self.mean[at]), float(self.low[at]), float(self.high[at]), source)


def within(mean: Floats, factor: float | Floats) -> Ranges:
    """Return times that may be off by a factor either way."""
    return Ranges(mean, mean / factor, mean * factor)


def ranged(
    fleet: Fleet,
    quantity: str,
    mean: Floats,
    launches: Bools,
    engine: str | NDArray[np.str_],
    hidden: float | Floats = 0.0,
) -> Ranges:
    """Return times with what their source leaves: held-out errors on GPUs, else a factor.

    Args:
        fleet: the servers.
        quantity: whose error of the fit it is.
        mean: the times.
        launches: where the floor of launches decides.
        engine: what runs on them; see `errors`.
        hidden: seconds of the host that are counted as hidden behind the device.
    """
    engines = np.broadcast_to(np.asarray(engine), fleet.name.shape)
    names, of_name = np.unique(fleet.name, return_inverse=True)
    kinds, of_engine = np.unique(engines, return_inverse=True)
    errors = np.ones((len(names), len(kinds), 2))
    for i, name in enumerate(names.tolist()):
        for j, kind in enumerate(kinds.tolist()):
            if name != "CPU":
                one = fitted().errors[quantity].interval(Setting(kind, name), 1.0)
                errors[i, j] = one.low, one.high
    low, high = errors[of_name, of_engine].T
    own = k.CPU_CALIBRATED_ERROR if quantity == "training" else k.CPU_RECORDED_ERROR
    cpu_error = np.where(fleet.calibrated, k.CPU_CALIBRATED_ERROR, k.CPU_ERROR)
    tested = np.where(np.isin(engines, compiled_kinds()), fleet.compiled_tested, fleet.load_tested)
    cpu_error = np.where(tested, own, cpu_error)
    error = np.where(fleet.is_gpu, k.EAGER_ERROR, cpu_error)
    by_factor = within(mean, error)
    most = np.maximum(mean * high, mean + hidden)
    return by_factor.where(launches | ~fleet.is_gpu, Ranges(mean, mean * low, most))


def source_of(device: Device, quantity: str, launches: bool, engine: str) -> str:
    """Return the sentence that says where the times of `ranged` are from."""
    if not device.is_gpu:
        is_compiled = engine in compiled_kinds()
        tested = device.compiled_tested if is_compiled else device.load_tested
        if tested and quantity != "training":
            return "load tests of servers on this machine"
        return f"roofline of {'this machine, measured' if device.calibrated else 'an assumed CPU'}"
    if launches:
        return "floor of kernel launches, within a factor of 1.5"
    return fitted().errors[quantity].interval(Setting(engine, device.name), 1.0).source


# Start-up time of a rented server: order, boot, image and download of weights.


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
