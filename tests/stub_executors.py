"""Executors that submit nothing: what plans, ledgers and messages are counted with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import pytest

from stratos.executors.job import Executor, Job, JobSpec, StageName, Status
from stratos.records import Offer


class _SubmitsNothing(Executor):
    def unusable(self) -> None:
        return None

    def submit(self, spec: JobSpec) -> Job:
        raise NotImplementedError

    def status(self, job: Job) -> Status:
        raise NotImplementedError

    def cancel(self, spec: JobSpec) -> None:
        raise NotImplementedError

    def release(self, job: Job) -> None:
        raise NotImplementedError


@dataclass(frozen=True)
class Queue(_SubmitsNothing):
    """A cluster whose nodes are the offers of the cloud "queue"; see `with_queue`."""

    kind: ClassVar[str] = "queue"
    takes_nodes: ClassVar[bool] = True
    is_cluster: ClassVar[bool] = True
    stages: tuple[StageName, ...] = ("distill",)


@dataclass(frozen=True)
class Rented(_SubmitsNothing):
    """Servers of a cloud, which share no files with this machine."""

    kind: ClassVar[str] = "rented"
    shares_files: ClassVar[bool] = False
    stages: tuple[StageName, ...] = ("distill",)
    usd_per_gb: float | None = None

    def usd_per_gb_of(self, offer: Offer | None, listed: Callable[[str], float]) -> float:
        if self.usd_per_gb is not None:
            return self.usd_per_gb
        return 0.0 if offer is None else listed(offer.cloud)

    def egress_gb(self, spec: JobSpec) -> float:
        return spec.returns.end_gb + spec.returns.copy_gb


def with_queue(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the cloud "queue" be a cluster."""
    clouds = frozenset(("local", Queue.kind))
    monkeypatch.setattr("stratos.records.of_plan.own_clouds", lambda: clouds)
