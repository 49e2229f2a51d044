"""Hours of a training on an offer, with the range that the fit's error leaves.

The rows of a step are dealt to the devices of all nodes; a device takes its rows at once if they
fit, in more and smaller micro steps if not, and recomputes activations where that is faster than
micro steps so small, or the only way. `roofline.train_step_seconds` says what a step takes, no less
than the launches of an eager framework. On a CPU the seconds of CPU per token that a card's runs
measured replace the roofline.
"""

from __future__ import annotations

import math
from statistics import median

from stratos.estimate import constants as k
from stratos.estimate.calibrate import Calibration
from stratos.estimate.cards import forward_flops_per_token
from stratos.estimate.device import Device, device_of
from stratos.estimate.fitted import fitted
from stratos.estimate.jobs import TrainingJob
from stratos.estimate.memory import training_memory
from stratos.estimate.roofline import TrainSetup, train_step_seconds
from stratos.estimate.startup import startup_hours
from stratos.records import Interval, ModelCard, Offer


def train_setup(
    card: ModelCard, device: Device, job: TrainingJob, n_nodes: int = 1
) -> TrainSetup | None:
    """Return how the job lies on the devices, the fastest way; None if one row does not fit."""
    setups = [
        setup
        for checkpointing in (False, True)
        if (setup := _largest_micro_step(card, device, job, n_nodes, checkpointing)) is not None
    ]
    if len(setups) < 2 or setups[0].n_micro == setups[1].n_micro:
        return setups[0] if setups else None
    return min(setups, key=lambda setup: train_step_seconds(card, device, setup, fitted().training))


def _largest_micro_step(
    card: ModelCard, device: Device, job: TrainingJob, n_nodes: int, checkpointing: bool
) -> TrainSetup | None:
    rows = max(1, job.batch_tokens // job.context)
    row_tokens = min(job.context, job.batch_tokens)
    n_devices = min(device.count * n_nodes, rows)
    rows_each = math.ceil(rows / n_devices)
    micro_rows = rows_each
    while micro_rows:
        need = training_memory(
            card,
            micro_rows * row_tokens,
            device.count * n_nodes,
            method=job.method,
            checkpointing=checkpointing,
        )
        if need.total <= device.memory_bytes:
            return TrainSetup(
                context=row_tokens,
                micro_tokens=micro_rows * row_tokens,
                n_micro=math.ceil(rows_each / micro_rows),
                n_devices=n_devices,
                n_nodes=n_nodes,
                checkpointing=checkpointing,
            )
        micro_rows //= 2
    return None


def train(
    card: ModelCard,
    offer: Offer,
    job: TrainingJob,
    n_nodes: int = 1,
    calibration: Calibration | None = None,
) -> Interval | None:
    """Return hours from the order of the servers to the trained student; None if it does not fit.

    Args:
        card: the student.
        offer: the server.
        job: what is to be trained.
        n_nodes: servers of this kind together.
        calibration: the measurement of this machine, for local offers.
    """
    device = device_of(offer, calibration)
    setup = train_setup(card, device, job, n_nodes)
    if setup is None:
        return None
    start = startup_hours(device, 0.0)
    steps = math.ceil(job.tokens / job.batch_tokens)
    if device.is_gpu:
        step = train_step_seconds(card, device, setup, fitted().training)
        floor = setup.n_micro * (k.TRAIN_STEP_S + k.TRAIN_STEP_S_PER_LAYER * card.n_layers)
        hours = steps * max(step, floor) * _method_factor(job) / 3600
        work = fitted().interval("training", device.name, hours)
        if floor > step:
            source = "floor of kernel launches, within a factor of 1.5"
            work = Interval(hours, hours / k.EAGER_ERROR, hours * k.EAGER_ERROR, source)
    else:
        work = _cpu_hours(card, device, job, setup, n_nodes)
    return Interval(
        start.mean + work.mean, start.low + work.low, start.high + work.high, work.source
    )


def _method_factor(job: TrainingJob) -> float:
    if job.method == "full":
        return 1.0
    return k.LORA_FLOPS * (k.QLORA_SLOWDOWN if job.method == "qlora" else 1.0)


def _cpu_hours(
    card: ModelCard,
    device: Device,
    job: TrainingJob,
    setup: TrainSetup,
    n_nodes: int,
) -> Interval:
    nodes = min(n_nodes, setup.n_devices)
    measured = cpu_seconds_per_token(card)
    if measured is not None and job.method == "full":
        low, mid, high = (
            rate * job.tokens / max(1.0, device.vcpus) ** k.CPU_SCALING / nodes / 3600
            for rate in (min(measured), median(measured), max(measured))
        )
        spread = k.CPU_RECORDED_ERROR
        return Interval(
            mid,
            min(low, mid / spread),
            max(high, mid * spread),
            f"seconds per token of {len(measured)} recorded runs",
        )
    flops = 3.0 * forward_flops_per_token(card, setup.context / 2) * job.tokens
    hours = flops * _method_factor(job) / device.train_flops / nodes / 3600
    error = k.CPU_CALIBRATED_ERROR if device.calibrated else k.CPU_ERROR
    machine = "this machine, measured" if device.calibrated else "an assumed CPU"
    source = f"roofline of {machine}"
    return Interval(hours, hours / error, hours * error, source)


def cpu_seconds_per_token(card: ModelCard) -> tuple[float, ...] | None:
    """Return the seconds of CPU per token of every recorded run; None without runs."""
    rates = tuple(
        run.train_cpu_seconds / run.train_tokens
        for run in card.runs
        if run.train_tokens > 0 and run.train_cpu_seconds > 0
    )
    return rates or None


def training_bytes(card: ModelCard, row_tokens: int, n_devices: int = 1) -> float:
    """Return bytes that one of `n_devices` needs to train a model with all its weights."""
    return training_memory(card, row_tokens, n_devices).total
