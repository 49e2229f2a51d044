"""The devices of one server or many, as the estimate reads them, and what this machine does.

The rooflines read a device's figures by name, so a `Fleet` whose figures are arrays takes the place
of a `Device`; a server alone is a fleet of one.

An offer's devices for the roofline: FLOP/s, bytes per second, memory and links.

Calibrate the roofline on this machine for `cloud=local`.

    GEMM       fp32 product of two 1024 x 1024 matrices
    bandwidth  fp32 product of a vector with a matrix that no cache holds: bytes read per second
    floor      fp32 product of a vector with a 128 x 128 matrix: what one small operation costs

All by numpy, so that planning need not import torch. Both hand an fp32 product to a BLAS that the
vendor or OpenBLAS tuned, and reach the same rate within a quarter (on one EPYC core numpy 42 to 53,
torch 34 to 53 GFLOP/s, under load and alone). Where the processor multiplies bfloat16, which numpy
has not, torch says in a process of its own what its product reaches: trainings run in it there.
What a training or a prefill reaches of fp32 are `CPU_TRAIN_OVER_GEMM` and `CPU_INFER_OVER_GEMM` of
`constants`; what a block of a decoding step costs in small operations is
`DECODE_OPERATIONS_PER_LAYER`.

Times are CPU seconds of this process, the best of several: other work on the machine shows in
neither. Rates are those of one core. The result is kept in the cache folder, and measured again
where the machine's processor or its number of cores is another.

A load test of `deploy` adds what a server took for a request and a token here (`ServedHere`). From
then on that is the floor of a step on this machine, in place of small operations. One of llama.cpp,
whose time is arithmetic, scales the whole of its answers.
"""

from __future__ import annotations

import platform
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from pathlib import Path
from statistics import median

import msgspec
import numpy as np
from numpy.typing import NDArray

from stratos.catalog.gpus import find_gpu
from stratos.catalog.table import Bools, Floats, Ints
from stratos.core.atomic_files import write_atomically
from stratos.core.machine import bf16_product_seconds, multiplies_bf16, n_cores
from stratos.deploy.engines.base import compiled_kinds
from stratos.estimate import constants as k
from stratos.estimate.fitted import Setting, fitted
from stratos.records import Interval, Offer, from_json, to_json

GEMM_SIZE = 1024
ROWS = 32768
SMALL = 128
N_SMALL = 1000
FILE = "calibration.json"
MOST_SERVED = 9
"""Load tests that are kept: the newest."""
SECONDS_EACH = 0.4
"""CPU seconds that each of the measurements may take."""
_BF16_TIMEOUT_S = 60


@dataclass(frozen=True)
class ServedHere:
    """What a server of this machine took for answers that it gave one at a time."""

    engine: str
    model: str
    n_params: int
    block_s: float
    """Seconds that the host took for a block: what brings the estimate to the seconds measured."""
    answer_s: float
    """Mean seconds of an answer alone."""
    answer_tokens: float
    """Mean tokens of it."""
    n_requests: int
    date: str
    format: str = ""
    """Export that was served; "" for the bundle's own weights."""
    over_estimate: float = 1.0
    """Seconds of an answer over those of the estimate without load tests."""


@dataclass(frozen=True)
class Calibration:
    """What this machine does."""

    machine: str
    """Processor and cores that it was measured on."""
    gemm_flops: float
    """fp32 FLOP/s of a matrix product on one core."""
    bytes_per_s: float
    """Memory traffic that one core draws."""
    operation_s: float
    """Seconds of one small operation."""
    date: str
    served: tuple[ServedHere, ...] = ()
    """What load tests of servers showed here, the newest last."""
    slowness: float = 1.0
    """How many times as long work takes now as without the machine's other work; never kept."""
    bf16_flops: float | None = None
    """The same as `gemm_flops` in bfloat16; 0 where that is only emulated, None: not measured."""

    @property
    def block_s(self) -> float | None:
        """Seconds that Python takes for a block, by the load tests; None where none was made."""
        kinds = compiled_kinds()
        seconds = [test.block_s for test in self.served if test.engine not in kinds]
        return median(seconds) if seconds else None

    @property
    def over_estimate(self) -> float | None:
        """Seconds of compiled engines over the estimate's, by the load tests; None without any."""
        kinds = compiled_kinds()
        ratios = [test.over_estimate for test in self.served if test.engine in kinds]
        return median(ratios) if ratios else None


def machine_name() -> str:
    """Return what tells this machine from another: processor and usable cores."""
    processor = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text(errors="replace").splitlines():
            if line.startswith("model name"):
                processor = line.partition(":")[2].strip()
                break
    return f"{processor}, {n_cores()} cores"


def measure() -> Calibration:
    """Measure this machine, in less than two CPU seconds."""
    import numpy as np

    rng = np.random.default_rng(0)
    a, b = (rng.random((GEMM_SIZE, GEMM_SIZE), dtype=np.float32) for _ in range(2))
    product = np.empty_like(a)
    gemm_s = _best(lambda: np.matmul(a, b, out=product))
    tall, vector = np.ones((ROWS, GEMM_SIZE), dtype=np.float32), b[0].copy()
    matvec_s = _best(lambda: tall @ vector)
    square, short = a[:SMALL, :SMALL].copy(), b[0, :SMALL].copy()

    def small() -> None:
        for _ in range(N_SMALL):
            short @ square

    return Calibration(
        machine=machine_name(),
        gemm_flops=2.0 * GEMM_SIZE**3 / gemm_s,
        bytes_per_s=tall.nbytes / matvec_s,
        operation_s=_best(small) / N_SMALL,
        date=time.strftime("%Y-%m-%d"),
    )


_BF16_SCRIPT = (
    "from stratos.core.machine import bf16_product_seconds\n"
    f"print(bf16_product_seconds({GEMM_SIZE}))"
)


def _bf16_flops() -> float:
    """Return FLOP/s of a product of torch in bfloat16 on one core, from its own process or this."""
    if not multiplies_bf16():
        return 0.0
    if "torch" in sys.modules:
        return 2.0 * GEMM_SIZE**3 / bf16_product_seconds(GEMM_SIZE)
    with suppress(OSError, subprocess.SubprocessError, ValueError):
        process = subprocess.run(
            [sys.executable, "-c", _BF16_SCRIPT],
            capture_output=True,
            text=True,
            check=True,
            timeout=_BF16_TIMEOUT_S,
        )
        return 2.0 * GEMM_SIZE**3 / float(process.stdout)
    return 0.0


def calibration(cache_dir: Path, *, with_bf16: bool = False) -> Calibration:
    """Return this machine's calibration: that of the cache, else a new measurement.

    Args:
        cache_dir: where it is kept.
        with_bf16: also measure products in bfloat16, where that was not done; takes torch.
    """
    file = cache_dir / FILE
    known: Calibration | None = None
    with suppress(OSError, msgspec.DecodeError):
        known = from_json(file.read_bytes(), Calibration)
    calibrated = known
    if known is None or known.machine != machine_name():
        known = measure()
    if with_bf16 and known.bf16_flops is None:
        known = replace(known, bf16_flops=_bf16_flops())
    if known is not calibrated:
        write_atomically(file, to_json(known))
    return known


def remember(cache_dir: Path, served: ServedHere) -> Calibration:
    """Add what a server showed on this machine, and return the calibration with it."""
    known = calibration(cache_dir)
    updated = replace(known, served=(*known.served, served)[-MOST_SERVED:])
    write_atomically(cache_dir / FILE, to_json(updated))
    return updated


def _best(work: Callable[[], object]) -> float:
    """Return the least CPU seconds of a repetition, after one to warm up."""
    work()
    best, end = float("inf"), time.process_time() + SECONDS_EACH
    while True:
        start = time.process_time()
        work()
        now = time.process_time()
        best = min(best, now - start)
        if now >= end:
            return best


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

    def __add__(self, later: Ranges) -> Ranges:
        """Return the times of one after the other, all ends added."""
        return Ranges(self.mean + later.mean, self.low + later.low, self.high + later.high)

    def where(self, chosen: Bools, alternative: Ranges) -> Ranges:
        """Return these times where `chosen`, those of `alternative` elsewhere."""
        return Ranges(
            np.where(chosen, self.mean, alternative.mean),
            np.where(chosen, self.low, alternative.low),
            np.where(chosen, self.high, alternative.high),
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
    spared: float | Floats = 0.0,
) -> Ranges:
    """Return times with what their source leaves: held-out errors on GPUs, else a factor.

    Args:
        fleet: the servers.
        quantity: whose error of the fit it is.
        mean: the times.
        launches: where the floor of launches decides.
        engine: what runs on them; see `errors`.
        hidden: seconds of the host that are counted as hidden behind the device.
        spared: seconds that are counted and that another server may not take.
    """
    engines = np.broadcast_to(np.asarray(engine), fleet.name.shape)
    names, of_name = np.unique(fleet.name, return_inverse=True)
    kinds, of_engine = np.unique(engines, return_inverse=True)
    errors = np.ones((len(names), len(kinds), 2))
    for i, name in enumerate(names.tolist()):
        for j, kind in enumerate(kinds.tolist()):
            if name != "CPU":
                interval = fitted().errors[quantity].interval(Setting(kind, name), 1.0)
                errors[i, j] = interval.low, interval.high
    low, high = errors[of_name, of_engine].T
    own = k.CPU_CALIBRATED_ERROR if quantity == "training" else k.CPU_RECORDED_ERROR
    cpu_error = np.where(fleet.calibrated, k.CPU_CALIBRATED_ERROR, k.CPU_ERROR)
    tested = np.where(np.isin(engines, compiled_kinds()), fleet.compiled_tested, fleet.load_tested)
    cpu_error = np.where(tested, own, cpu_error)
    error = np.where(fleet.is_gpu, k.EAGER_ERROR, cpu_error)
    by_factor = within(mean, error)
    ends = np.minimum(mean * low, mean - spared), np.maximum(mean * high, mean + hidden)
    return by_factor.where(launches | ~fleet.is_gpu, Ranges(mean, *ends))


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
