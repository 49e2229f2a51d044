"""Hours of a batch of answers and of a training on an offer, with their range.

The rows of a step are dealt to the devices of all nodes; a device takes its rows at once if they
fit, in more and smaller micro steps if not, and recomputes activations where that is faster than
micro steps so small, or the only way. `roofline.train_step_seconds` says what a step takes, no less
than the launches of an eager framework. On a CPU the seconds of CPU per token that a card's runs
measured replace the roofline.
"""

from __future__ import annotations

import math
from dataclasses import replace
from statistics import median

import numpy as np

from stratos.catalog.table import Bools, Ints
from stratos.core.formats import counted
from stratos.deploy.engines.base import engine_named
from stratos.deploy.engines.cost import ServingCost, WeightFormat
from stratos.estimate import constants as k
from stratos.estimate.answering import (
    GENERATE,
    GENERATE_COST,
    AnswerTime,
    all_degrees,
    answer_ranges,
    answer_source,
    fits,
    pace,
)
from stratos.estimate.cards import (
    TrainingJob,
    Workload,
    adapter_params,
    forward_flops_per_token,
    serving_bytes,
    training_memory,
)
from stratos.estimate.fitted import TRAINER, fitted
from stratos.estimate.fleet import (
    Calibration,
    Fleet,
    Ranges,
    device_of,
    fixed_training_hours,
    ranged,
    source_of,
    startup_hours,
    within,
)
from stratos.estimate.roofline import TrainSetup, train_step_seconds
from stratos.records import Interval, ModelCard, Offer, ServingSetting

# Hours for a batch of answers on one server or several.


def generate_all(
    card: ModelCard, fleet: Fleet, work: Workload, n_answers: int, n_nodes: Ints
) -> tuple[Ranges, Bools]:
    """Return hours from the order until each has given `n_answers`; NaN where it does not fit.

    The batch is that of a local teacher, or what fits of it; the degree of tensor parallelism the
    one that ends first.

    Args:
        card: the teacher.
        fleet: the servers.
        work: size of an answer.
        n_answers: answers asked for.
        n_nodes: how many of each are together, each with its share of the answers.

    Returns:
        The hours, and where the launches of kernels decide.
    """
    n = len(fleet)
    best, rounds = np.full(n, np.inf), np.full(n, np.nan)
    none = np.zeros(n)
    time = AnswerTime(none, none, np.zeros(n, bool), none, none)
    for g in all_degrees(card, fleet):
        batch = np.full(n, max(1, min(k.TEACHER_BATCH, n_answers)))
        while True:
            is_fitting = fits(card, fleet, work.context, batch, g)
            if (is_fitting | (batch == 1)).all():
                break
            batch = np.where(is_fitting, batch, np.maximum(1, batch // 2))
        batch_seconds = pace(card, fleet, work, g, GENERATE_COST).together(batch)
        replicas = np.maximum(1, fleet.count // g) * n_nodes
        turns = np.ceil(np.ceil(n_answers / batch) / replicas)
        seconds = turns * batch_seconds.seconds(work.answer_tokens)
        better = is_fitting & (fleet.count >= g) & (seconds < best)
        best, rounds = np.where(better, seconds, best), np.where(better, turns, rounds)
        time = batch_seconds.where(better, time)
    start = startup_hours(fleet, k.BYTES_PER_PARAM_INFER * float(card.n_params))
    hours = answer_ranges(card, fleet, work, time, rounds / 3600, GENERATE)
    return start + hours, time.launches


def generate(
    card: ModelCard,
    offer: Offer,
    work: Workload,
    n_answers: int,
    n_nodes: int = 1,
    calibration: Calibration | None = None,
) -> Interval | None:
    """Return hours from the order until servers have given `n_answers`; None if it does not fit.

    Args:
        card: the teacher.
        offer: the server.
        work: size of an answer.
        n_answers: answers asked for.
        n_nodes: servers of this kind together, each with its share of the answers.
        calibration: the measurement of this machine, for local offers.
    """
    device = device_of(offer, calibration)
    fleet = Fleet.of([device])
    hours, launches = generate_all(card, fleet, work, n_answers, np.array([n_nodes]))
    if np.isnan(hours.mean[0]):
        return None
    return hours.interval(0, answer_source(card, device, work, bool(launches[0]), GENERATE))


# Point estimates of inference, for callers that need no range.


def process_gib(
    card: ModelCard, context: float, cost: ServingCost, form: WeightFormat, slots: int
) -> float:
    """Return the GiB of one process that answers: weights, cache and the engine itself.

    Args:
        card: the model.
        context: tokens of the longest requests with their answers.
        cost: of the engine.
        form: what it loads.
        slots: answers at once.
    """
    own = cost.process_gib + cost.token_bytes * card.vocab_size / 2**30
    return _model_gib(card, context, cost, form, slots) + own


def loaded_bytes(n_bytes: float, n_params: int) -> float:
    """Return what a process that loads a student which is no language model has at most.

    Args:
        n_bytes: of its file, which lies beside what is made of it.
        n_params: its numbers, which become float32.
    """
    return n_bytes + k.FLOAT_BYTES * n_params


def _model_gib(
    card: ModelCard, context: float, cost: ServingCost, form: WeightFormat, slots: int
) -> float:
    needed_bytes = serving_bytes(
        card,
        cost.slot_context(card, context),
        slots,
        weight_bytes=form.weight_bytes,
        cache_bytes=form.cache_bytes,
    )
    needed_bytes += cost.prompt_bytes(card, context)
    return float(needed_bytes) / k.MEMORY_USABLE / 2**30


def batch_hours(card: ModelCard, offer: Offer, work: Workload, n_answers: int) -> float:
    """Return the mean hours from the order of the server until it has given `n_answers`.

    Infinite where its memory does not hold the model.
    """
    hours = generate(card, offer, work, n_answers)
    return math.inf if hours is None else hours.mean


def answers_per_s(card: ModelCard, offer: Offer, work: Workload, run: ServingSetting) -> float:
    """Return what one server answers a second as it is run, at the utilisation it is planned at.

    At all of its capacity where requests come one at a time.
    """
    device, engine = device_of(offer), engine_named(run.engine)
    cost, form = engine.cost, engine.weight_format(run.format)
    answer = pace(card, device, work, run.tensor_parallel, cost, form).steady(run.slots)
    replicas = max(1, device.count // run.tensor_parallel) if cost.all_devices else 1
    busy = run.utilisation or 1.0
    return busy * replicas * run.slots / float(answer.seconds(work.answer_tokens))


def train_setup(
    card: ModelCard, fleet: Fleet, job: TrainingJob, n_nodes: Ints
) -> tuple[TrainSetup, Bools]:
    """Return how the job lies on the devices, the fastest way, and where one row fits at all.

    Args:
        card: the model.
        fleet: the servers.
        job: what is to be trained.
        n_nodes: how many of each are together.
    """
    plain, again = (
        _largest_micro_step(card, fleet, job, n_nodes, checkpointing)
        for checkpointing in (False, True)
    )
    fits = [setup.n_micro > 0 for setup in (plain, again)]
    seconds = [
        train_step_seconds(card, fleet, setup, fitted().training) for setup in (plain, again)
    ]
    # Recomputation pays where it is the only way, or takes larger micro steps and less time.
    better = (plain.n_micro != again.n_micro) & (seconds[1] < seconds[0])
    recomputed = fits[1] & (~fits[0] | better)
    setup = replace(
        plain,
        micro_tokens=np.where(recomputed, again.micro_tokens, plain.micro_tokens),
        n_micro=np.where(recomputed, again.n_micro, plain.n_micro),
        checkpointing=recomputed,
    )
    return setup, fits[0] | fits[1]


def _largest_micro_step(
    card: ModelCard, fleet: Fleet, job: TrainingJob, n_nodes: Ints, checkpointing: bool
) -> TrainSetup:
    """Return the setup with the most rows at once; no micro steps where not one row fits."""
    rows = max(1, job.batch_tokens // job.context)
    row_tokens = min(job.context, job.batch_tokens)
    n_devices = np.minimum(fleet.count * n_nodes, rows)
    rows_each = -(-rows // n_devices)
    micro_rows = rows_each
    while True:
        need = training_memory(
            card,
            micro_rows * row_tokens,
            fleet.count * n_nodes,
            method=job.method,
            checkpointing=checkpointing,
        )
        too_many = (need.total > fleet.memory_bytes) & (micro_rows > 0)
        if not too_many.any():
            break
        micro_rows = np.where(too_many, micro_rows // 2, micro_rows)
    return TrainSetup(
        context=row_tokens,
        micro_tokens=micro_rows * row_tokens,
        n_micro=np.where(micro_rows > 0, -(-rows_each // np.maximum(1, micro_rows)), 0),
        n_devices=n_devices,
        n_nodes=n_nodes,
        checkpointing=checkpointing,
    )


def train_all(
    card: ModelCard, fleet: Fleet, job: TrainingJob, n_nodes: Ints
) -> tuple[Ranges, Bools]:
    """Return hours from the order to the trained student of each; NaN where it does not fit.

    Args:
        card: the student.
        fleet: the servers.
        job: what is to be trained.
        n_nodes: how many of each are together.

    Returns:
        The hours, and where the launches of kernels decide.
    """
    setup, fits = train_setup(card, fleet, job, n_nodes)
    steps = math.ceil(job.tokens / job.batch_tokens)
    computed = replace(setup, micro_tokens=setup.micro_tokens * job.computed)
    step = train_step_seconds(card, fleet, computed, fitted().training)
    floor = setup.n_micro * (k.TRAIN_STEP_S + k.TRAIN_STEP_S_PER_LAYER * card.n_layers)
    launches = fleet.is_gpu & (floor > step)
    hours = steps * np.maximum(step, floor) * _method_factor(job) / 3600
    hours = np.where(fits, hours, np.nan)
    work = ranged(fleet, "training", hours, launches, TRAINER)
    if not fleet.is_gpu.all():
        work = work.where(fleet.is_gpu, _cpu_hours(card, fleet, job, setup, fits))
    return startup_hours(fleet, 0.0) + fixed_training_hours(fleet) + work, launches


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
    hours, launches = train_all(card, Fleet.of([device]), job, np.array([n_nodes]))
    if np.isnan(hours.mean[0]):
        return None
    measured = None if device.is_gpu or job.method != "full" else cpu_seconds_per_token(card)
    if measured is not None:
        source = f"seconds per token of {counted(len(measured), 'recorded run')}"
    else:
        source = source_of(device, "training", bool(launches[0]), TRAINER)
    return hours.interval(0, source)


def _method_factor(job: TrainingJob) -> float:
    if job.method == "full":
        return 1.0
    return k.LORA_FLOPS * (k.QLORA_SLOWDOWN if job.method == "qlora" else 1.0)


def _cpu_hours(
    card: ModelCard, fleet: Fleet, job: TrainingJob, setup: TrainSetup, fits: Bools
) -> Ranges:
    nodes = np.minimum(setup.n_nodes, setup.n_devices)
    measured = cpu_seconds_per_token(card)
    n_steps, n_computed = math.ceil(job.tokens / job.batch_tokens), job.tokens * job.computed
    n_trained = card.n_params if job.method == "full" else adapter_params(card)
    step_s = k.CPU_STEP_S + k.CPU_STEP_S_PER_PARAM[job.optimizer] * n_trained
    if measured is not None and job.method == "full":
        parallel = np.maximum(1.0, fleet.vcpus) ** k.CPU_SCALING
        # The recorded seconds hold those of their own steps.
        more_s = step_s * max(0.0, n_steps - job.tokens / k.CPU_RECORDED_BATCH_TOKENS)
        low, mid, high = (
            np.where(fits, (rate * n_computed / parallel / nodes + more_s) / 3600, np.nan)
            for rate in (min(measured), median(measured), max(measured))
        )
        spread = within(mid, k.CPU_RECORDED_ERROR)
        return Ranges(mid, np.minimum(low, spread.low), np.maximum(high, spread.high))
    flops = 3.0 * forward_flops_per_token(card, setup.context / 2) * _method_factor(job)
    token_s = flops / fleet.train_flops
    if job.precision != "fp32":
        passes_s = k.CPU_TRAIN_OPERATIONS * card.n_layers * card.hidden_size / fleet.train_flops
        faster = fleet.bf16_flops > 0
        bf16_s = flops / np.where(faster, fleet.bf16_flops, np.inf) + passes_s
        token_s = np.where(faster, bf16_s, token_s)
    hours = (n_computed * token_s / nodes + n_steps * step_s) / 3600
    hours = np.where(fits, hours, np.nan)
    return ranged(fleet, "training", hours, np.zeros(len(fleet), bool), TRAINER)


def cpu_seconds_per_token(card: ModelCard) -> tuple[float, ...] | None:
    """Return the seconds of CPU per computed token of every recorded run; None without runs."""
    rates = tuple(
        run.train_cpu_seconds / (run.train_tokens * run.computed)
        for run in card.runs
        if run.train_tokens > 0 and run.train_cpu_seconds > 0
    )
    return rates or None
