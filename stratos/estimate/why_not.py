"""Why a job does not fit a server: bytes needed, on what, and what is there."""

from __future__ import annotations

from stratos.estimate.answering import tensor_degrees
from stratos.estimate.device import Device, device_of
from stratos.estimate.jobs import TrainingJob, Workload
from stratos.estimate.memory import serving_bytes, training_memory
from stratos.records import ModelCard, Offer

GIB = 2**30


def bytes_to_train(card: ModelCard, job: TrainingJob, n_devices: int = 1) -> float:
    """Return the least bytes on each of `n_devices`: one row at once, activations recomputed."""
    row = min(job.context, job.batch_tokens)
    return min(
        training_memory(card, row, n_devices, method=job.method, checkpointing=checkpointing).total
        for checkpointing in (False, True)
    )


def bytes_to_serve(card: ModelCard, work: Workload, tensor_parallel: int = 1) -> float:
    """Return the bytes on each device of a group that answers one request at a time."""
    return serving_bytes(card, work.context, 1, tensor_parallel)


def why_not_train(card: ModelCard, offer: Offer, job: TrainingJob, n_nodes: int = 1) -> str | None:
    """Return why the training does not fit; None if it does."""
    device = device_of(offer)
    n_devices = device.count * n_nodes
    need = bytes_to_train(card, job, n_devices)
    if need <= device.memory_bytes:
        return None
    method = "" if job.method == "full" else f" with {job.method}"
    return _sentence(f"training {card.name}{method}", need, n_devices, device)


def why_not_serve(card: ModelCard, offer: Offer, work: Workload) -> str | None:
    """Return why the model cannot answer there; None if it can."""
    device = device_of(offer)
    degree = tensor_degrees(card, device)[-1]
    need = bytes_to_serve(card, work, degree)
    if need <= device.memory_bytes:
        return None
    return _sentence(f"serving {card.name}", need, degree, device)


def _sentence(what: str, need: float, n_devices: int, device: Device) -> str:
    each = f"on each of {n_devices} devices" if n_devices > 1 else "on one device"
    there = device.memory_bytes / GIB
    return f"{what} needs {need / GIB:.1f} GiB {each}, and {device.name} has {there:.1f} GiB for it"
