"""An offer as a roofline: FLOP/s, bytes per second, and how much memory."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from stratos.catalog.gpus import find_gpu
from stratos.estimate import constants as k
from stratos.records import Offer


@dataclass(frozen=True)
class Hardware:
    """What one device (a GPU, or the CPUs of a server together) gives, after utilisation."""

    is_gpu: bool
    n_devices: int
    train_flops: float
    """FLOP/s of one device in training."""
    infer_flops: float
    """FLOP/s of one device in prefill."""
    bytes_per_s: float
    """Memory traffic of one device in decode."""
    memory_bytes: float
    """Usable memory of one device."""
    startup_hours: float
    vcpus: float


@lru_cache(maxsize=100_000)
def hardware(offer: Offer) -> Hardware:
    """Return the roofline of an offer."""
    startup = 0.0 if offer.cloud == "local" else k.STARTUP_HOURS
    if offer.accelerator is None:
        parallel = max(1.0, offer.vcpus) ** k.CPU_SCALING
        return Hardware(
            is_gpu=False,
            n_devices=1,
            train_flops=k.CPU_TRAIN_GFLOPS_PER_VCPU * 1e9 * parallel,
            infer_flops=k.CPU_INFER_GFLOPS_PER_VCPU * 1e9 * parallel,
            bytes_per_s=1e9 * min(k.CPU_GB_PER_S_MAX, k.CPU_GB_PER_S_PER_VCPU * parallel),
            memory_bytes=_usable(offer.memory_gib - k.RUNTIME_GIB_CPU),
            startup_hours=startup,
            vcpus=offer.vcpus,
        )
    gpu = find_gpu(offer.accelerator)
    if gpu is None:
        raise ValueError(f"{offer.name} has a GPU without a specification")
    peak = gpu.tflops_train * 1e12
    return Hardware(
        is_gpu=True,
        n_devices=offer.accelerator_count,
        train_flops=peak * k.MFU_BY_GPU.get(gpu.name, k.MFU),
        infer_flops=peak * k.PREFILL_MFU,
        bytes_per_s=gpu.bandwidth_gb_per_s * 1e9 * k.BANDWIDTH_UTILISATION,
        memory_bytes=_usable(gpu.memory_gib - k.RUNTIME_GIB_GPU),
        startup_hours=startup,
        vcpus=offer.vcpus,
    )


def _usable(gib: float) -> float:
    """Return bytes that model and cache may take of what the runtime leaves."""
    return max(0.0, gib) * 2**30 * k.MEMORY_USABLE
