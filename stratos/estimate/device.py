"""An offer's devices for the roofline: FLOP/s, bytes per second, memory and links."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from stratos.catalog.gpus import find_gpu
from stratos.estimate import constants as k
from stratos.estimate.calibrate import Calibration
from stratos.records import Offer


@dataclass(frozen=True)
class Device:
    """One of the server's GPUs, or its CPUs together."""

    name: str
    """Canonical GPU name, or "CPU"."""
    is_gpu: bool
    count: int
    """Devices of the server."""
    train_flops: float
    """FLOP/s in bf16 training: a GPU's achievable peak, a CPU's measured rate."""
    infer_flops: float
    """The same for prefill."""
    attention_flops: float
    """FLOP/s that flash attention reaches at best."""
    fp8_flops: float
    """Achievable FLOP/s in fp8; that of bf16 where the GPU has no fp8."""
    bytes_per_s: float
    memory_bytes: float
    """Memory of one device that model and data may take."""
    link_bytes_per_s: float
    """From one device to the others of its server, one direction."""
    node_bytes_per_s: float
    """From the whole server to other servers, one direction."""
    startup_hours: float
    vcpus: float
    """Of a CPU server; 0 on GPUs, whose work does not depend on them."""
    decode_floor_s: float
    """Seconds that the host takes for one block in a decoding step that is issued from Python."""
    calibrated: bool
    """Whether a measurement of this very machine speaks."""
    load_tested: bool
    """Whether a load test of a server on this very machine does."""
    compiled_scale: float = 1.0
    """Seconds of llama.cpp over the estimate's, by load tests on this very machine."""
    compiled_tested: bool = False
    """Whether there were any."""
    bf16_flops: float = 0.0
    """FLOP/s of products in bfloat16 that were measured on a CPU; 0: not measured, or emulated."""


@lru_cache(maxsize=100_000)
def device_of(offer: Offer, calibration: Calibration | None = None) -> Device:
    """Return the devices of an offer.

    Args:
        offer: any offer whose GPU the table knows.
        calibration: what a measurement of this machine gave; it speaks for local offers only.
    """
    local = offer.cloud == "local"
    startup = k.STARTUP_HOURS if offer.is_rented else 0.0
    if offer.accelerator is None:
        return _cpu(offer, calibration if local else None, startup)
    gpu = find_gpu(offer.accelerator)
    if gpu is None:
        raise ValueError(f"{offer.name} has a GPU without a specification")
    share = k.MATMUL_SHARE.get(gpu.name, k.MATMUL_SHARE_UNKNOWN)
    peak = gpu.tflops_train * 1e12 * share
    fp8 = peak
    if gpu.tflops_fp8:
        fp8 = gpu.tflops_fp8 * 1e12 * k.MATMUL_SHARE_FP8.get(gpu.name, share)
    return Device(
        name=gpu.name,
        is_gpu=True,
        count=offer.accelerator_count,
        train_flops=peak,
        infer_flops=peak,
        attention_flops=gpu.tflops_train
        * 1e12
        * k.ATTENTION_SHARE.get(gpu.name, k.ATTENTION_SHARE_UNKNOWN),
        fp8_flops=fp8,
        bytes_per_s=gpu.bandwidth_gb_per_s * 1e9,
        memory_bytes=usable_bytes(gpu.memory_gib - k.RUNTIME_GIB_GPU),
        link_bytes_per_s=k.LINK_GB_PER_S.get(gpu.name, k.LINK_GB_PER_S_PCIE) * 1e9,
        node_bytes_per_s=k.NODE_GB_PER_S.get(gpu.name, k.NODE_GB_PER_S_ETHERNET) * 1e9,
        startup_hours=startup,
        vcpus=0.0,
        decode_floor_s=k.DECODE_S_PER_LAYER,
        calibrated=False,
        load_tested=False,
    )


@lru_cache(maxsize=1)
def recorded_machine() -> Device:
    """Return the CPU server that the latencies of students' cards are measured on."""
    offer = Offer("recorded", "", "", None, 0, k.CPU_RECORDED_VCPUS, 8.0, 0.0, 0.0)
    return _cpu(offer, None, 0.0)


def _cpu(offer: Offer, calibration: Calibration | None, startup: float) -> Device:
    parallel = max(1.0, offer.vcpus) ** k.CPU_SCALING
    train, infer = k.CPU_TRAIN_GFLOPS_PER_VCPU * 1e9, k.CPU_INFER_GFLOPS_PER_VCPU * 1e9
    bandwidth, floor = k.CPU_GB_PER_S_PER_VCPU * 1e9, k.CPU_DECODE_S_PER_LAYER
    served = None if calibration is None else calibration.block_s
    compiled = None if calibration is None else calibration.over_estimate
    bf16 = 0.0
    if calibration is not None:
        train = calibration.gemm_flops * k.CPU_TRAIN_OVER_GEMM
        infer = calibration.gemm_flops * k.CPU_INFER_OVER_GEMM
        bf16 = (calibration.bf16_flops or 0.0) * parallel
        bandwidth = calibration.bytes_per_s
        floor = served or calibration.operation_s * k.DECODE_OPERATIONS_PER_LAYER
    train, infer = train * parallel, infer * parallel
    bandwidth = min(k.CPU_GB_PER_S_MAX * 1e9, bandwidth * parallel)
    return Device(
        name="CPU",
        is_gpu=False,
        count=1,
        train_flops=train,
        infer_flops=infer,
        attention_flops=infer,
        fp8_flops=train,
        bytes_per_s=bandwidth,
        memory_bytes=usable_bytes(offer.memory_gib - k.RUNTIME_GIB_CPU),
        link_bytes_per_s=bandwidth,
        node_bytes_per_s=k.NODE_GB_PER_S_ETHERNET * 1e9,
        startup_hours=startup,
        vcpus=offer.vcpus,
        decode_floor_s=floor,
        calibrated=calibration is not None,
        load_tested=served is not None,
        compiled_scale=compiled or 1.0,
        compiled_tested=compiled is not None,
        bf16_flops=bf16,
    )


def usable_bytes(gib: float) -> float:
    """Return bytes that model and data may take of what the runtime leaves."""
    return max(0.0, gib) * 2**30 * k.MEMORY_USABLE
