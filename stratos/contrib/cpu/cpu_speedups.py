"""Training on a CPU: fast attention and blocks, and a small student on all cores of one machine.

Threads that share every operator meet at hundreds of barriers a step, and wait there for the one
whose core other work has taken. Here each process makes the passes over its part of a step on one
thread, and gradients are summed once a step. Weights and gradients lie in memory that all share, so
that nothing is sent but the numbers of rows.

The processes are forked when the training begins: model, rows and the teacher's signal are there.
A part is always of the same documents, and parts are added in their order: the weights depend on
the number of parts alone. A process that is killed costs time and no bit, because its part is
computed in the first one from then on.
"""

from __future__ import annotations

import copy
import ctypes
import gc
import mmap
import os
import signal
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import replace
from enum import Enum
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from stratos.contrib.cpu.attention import attend, attend_behind, fits, pays
from stratos.core.machine import n_cores
from stratos.core.reasons import Reason
from stratos.distill.speedups import GradientWorkers, Part, Speedups


class Undivided(Reason, Enum):
    """Why parts of a row cannot be trained on in forked processes."""

    SYSTEM = "processes are forked safely on Linux alone"
    GPU = "this machine has a GPU"
    COMPILED_OR_SERVED = "a compiled student, and one that learns from a server, trains in one"
    ON_POLICY = "the student writes its own texts, in one process"
    DROPOUT = "it has dropout, which each process would draw for itself"


class TooLarge(Reason):
    """Why a student is not divided: its operators are large enough for threads."""

    most_params: int

    says = "it has more than {most_params:,} parameters"


class NoMoreProcesses(Reason):
    """Why the first process trains on the part of another one from the beginning."""

    cause: str
    """By the operating system."""

    says = "No more process can be started ({cause}): the first trains for it."


class ProcessLost(Reason):
    """Why the first process trains on the part of another one from now on."""

    pid: int
    part: int
    n_parts: int
    silent_s: float | None
    """Seconds for which it has not answered; None if it has ended."""

    def __str__(self) -> str:
        silent = self.silent_s
        how = "ended" if silent is None else f"not answered for {silent:.0f} seconds"
        return (
            f"Process {self.pid}, which trained on part {self.part} of {self.n_parts}, has {how}. "
            "The training goes on without it, with the same weights."
        )


if TYPE_CHECKING:
    from stratos.distill.data import PackedLoader
    from stratos.distill.module import StudentModule

MOST_PARAMS = 50_000_000
"""Parameters of a student up to which it is divided: above, operators are large enough for threads,
and every process would hold weights and gradients that are narrowed to bfloat16."""
_END_S = 2.0
"""How long a process may take to end."""
_PATIENCE_S, _PATIENCE_TIMES = 60.0, 20.0
"""How long its answer is waited for, at least and in times of what the first one's part took."""
_MOST_PENDING = 32
"""Rows that a process may have before it: requests and answers must fit the pipe."""
_PR_SET_PDEATHSIG = 1
_LINE_BYTES = 64
"""Every tensor begins at a multiple of so many bytes, as torch's own do."""


def why_not(module: StudentModule, loader: PackedLoader) -> Reason | None:
    """Return why parts of a row cannot be trained on in forked processes; None where they can.

    What draws random numbers would draw others in each of them.
    """
    from stratos.distill.data import PackedLoader  # which asks for these speedups as it loads

    n_params = sum(weight.numel() for weight in module.parameters())
    drops = getattr(module.model.config, "attention_dropout", 0.0) or any(
        isinstance(layer, nn.Dropout) and layer.p for layer in module.modules()
    )
    reasons: dict[Reason, bool] = {
        Undivided.SYSTEM: not sys.platform.startswith("linux"),
        # There torch refuses to differentiate in a fork, too.
        Undivided.GPU: torch.cuda.is_available() or module.device.type != "cpu",
        Undivided.COMPILED_OR_SERVED: not module.divides,
        Undivided.ON_POLICY: type(loader) is not PackedLoader,
        TooLarge(MOST_PARAMS): n_params > MOST_PARAMS,
        Undivided.DROPOUT: bool(drops),
    }
    return next((reason for reason, is_so in reasons.items() if is_so), None)


class ForkedWorkers(GradientWorkers):
    """Processes that are forked from this one; see `GradientWorkers`."""

    def __init__(
        self,
        module: StudentModule,
        loader: PackedLoader,
        n: int,
        forward_context: Callable[[], AbstractContextManager[Any]],
        n_passes: int,
        warn: Callable[[str], None],
    ) -> None:
        """Fork `n` - 1 processes.

        Args:
            module: what is trained; its weights move to memory that all processes share.
            loader: its rows.
            n: parts of each row; one is trained on here.
            forward_context: of a forward pass (autocast).
            n_passes: rows that a gradient step accumulates.
            warn: is told of a process that has ended.
        """
        self.n = n
        self.n_cores = min(n, n_cores())
        self._module, self._loader = module, loader
        self._context, self._n_passes, self._warn = forward_context, n_passes, warn
        self._weights = [weight for weight in module.parameters() if weight.requires_grad]
        self._rows: list[int] = []
        self._started = 0.0
        for weight, shared in zip(self._weights, _shared(self._weights), strict=True):
            with torch.no_grad():
                shared.copy_(weight)
            weight.data = shared
        # Equal ones: none can go on before the first has made the step with all gradients.
        own, *of_others = [(k / n, (k + 1) / n) for k in range(n)]
        loader.divide(own)
        self._workers: list[_Worker] = []
        for share in of_others:
            part = copy.copy(loader)
            part.divide(share)
            gradients = _shared(self._weights)
            ours, theirs = Pipe()
            pipes = [ours, *(worker.pipe for worker in self._workers)]
            worker = _Worker(0, ours, part, gradients)
            try:
                worker.pid = self._fork(part, gradients, theirs, pipes)
            except OSError as error:  # no process or no memory is left
                worker.is_alive = False
                warn(str(NoMoreProcesses(error.strerror or str(error))))
            theirs.close()
            self._workers.append(worker)

    def _fork(
        self,
        part: PackedLoader,
        gradients: list[Tensor],
        pipe: Connection,
        pipes: Sequence[Connection],
    ) -> int:
        first = os.getpid()
        with warnings.catch_warnings():
            # Of other threads in this process: a worker computes, and takes no lock of theirs.
            warnings.simplefilter("ignore", DeprecationWarning)
            pid = os.fork()
        if pid:
            return pid
        try:
            self._work(first, part, gradients, pipe, pipes)
        finally:
            os._exit(0)  # what is to be done at the end is the first process's

    def _work(
        self,
        first: int,
        part: PackedLoader,
        gradients: list[Tensor],
        pipe: Connection,
        pipes: Sequence[Connection],
    ) -> None:
        """Compute what the first process asks for, until it or this process is ended.

        Locks of the run are this process's, too: it must not outlive the first one.
        """
        _end_with(first)
        gc.freeze()  # what was made before the fork is not this process's to finalize
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)  # the first process ends its step, and then this
        for unused in pipes:  # else their ends would never be noticed
            unused.close()
        torch.set_num_threads(1)
        for weight, gradient in zip(self._weights, gradients, strict=True):
            weight.grad = gradient
        with suppress(EOFError, OSError):
            while (request := pipe.recv()) is not None:
                row, is_first = request
                if is_first:
                    for gradient in gradients:
                        gradient.zero_()
                pipe.send(self._pass(part, row))

    def _pass(self, part: PackedLoader, row: int) -> Part:
        """Add the gradient of a part of a row to what the weights have."""
        started = time.process_time()
        batch = part.row(row)
        with self._context():
            loss = self._module.loss(batch) / self._n_passes
        loss.backward()
        return Part(
            float(loss.detach()),
            batch.n_trained,
            batch.document_ids_D,
            time.process_time() - started,
        )

    def start(self, row: int) -> None:
        """Let all others begin with their parts of a row, which is one of those of a step."""
        if not self._rows:
            self._started = time.monotonic()
        for worker in self._workers:
            worker.ask(row, not self._rows, self._patience_s())
        self._rows.append(row)

    def join(self) -> list[Part]:
        """Add the gradients of all others to those of this process; return what they brought."""
        rows, self._rows = self._rows, []
        patience_s = self._patience_s()
        brought: list[Part] = []
        for number, worker in enumerate(self._workers, 2):
            parts = worker.answers(len(rows), patience_s)
            if parts is None:
                if worker.is_lost:
                    lost = ProcessLost(worker.pid, number, self.n, worker.silent_s)
                    self._warn(str(lost))
                    worker.is_lost = False
                parts = self._instead(worker, rows)
            with torch.no_grad():
                for weight, gradient in zip(self._weights, worker.gradients, strict=True):
                    if weight.grad is not None:
                        weight.grad.add_(gradient)
                    elif gradient.any():
                        weight.grad = gradient.clone()
            brought += parts
        return brought

    def _patience_s(self) -> float:
        return max(_PATIENCE_S, _PATIENCE_TIMES * (time.monotonic() - self._started))

    def _instead(self, worker: _Worker, rows: Sequence[int]) -> list[Part]:
        """Compute here what a process that has ended was to."""
        own = [weight.grad for weight in self._weights]
        for weight, gradient in zip(self._weights, worker.gradients, strict=True):
            weight.grad = gradient.zero_()
        try:
            # This process's own seconds count already.
            return [replace(self._pass(worker.part, row), cpu_seconds=0.0) for row in rows]
        finally:
            for weight, before in zip(self._weights, own, strict=True):
                weight.grad = before

    def close(self) -> None:
        """End all others; the loader yields whole rows again, and weights are this process's."""
        for worker in self._workers:
            worker.close()
        self._workers = []
        for weight in self._weights:
            weight.data = weight.data.clone()
        self._loader.divide(None)


class _Worker:
    """The first process's side of another one."""

    def __init__(
        self, pid: int, pipe: Connection, part: PackedLoader, gradients: list[Tensor]
    ) -> None:
        self.pid, self.pipe, self.part, self.gradients = pid, pipe, part, gradients
        self.is_alive, self.is_lost = True, False
        self.silent_s: float | None = None
        self._n_rows = 0
        self._parts: list[Part] = []

    def ask(self, row: int, is_first: bool, patience_s: float) -> None:
        """Let it begin with a row; answers that are there are read, so that no side waits."""
        if is_first:
            self._n_rows, self._parts = 0, []
        while self.is_alive and self.pipe.poll(0):
            self._receive(0.0)
        while self.is_alive and self._n_rows - len(self._parts) >= _MOST_PENDING:
            self._receive(patience_s)
        if self.is_alive:
            self._n_rows += 1
            with suppress(OSError):
                self.pipe.send((row, is_first))

    def answers(self, n: int, patience_s: float) -> list[Part] | None:
        """Wait for the answers to `n` rows, so long for each; None where it has ended."""
        while self.is_alive and len(self._parts) < n:
            self._receive(patience_s)
        return self._parts if self.is_alive else None

    def _receive(self, patience_s: float) -> None:
        try:
            if self.pipe.poll(patience_s):
                self._parts.append(self.pipe.recv())
                return
            self.silent_s = patience_s
        except (EOFError, OSError):
            self.silent_s = None
        self.is_lost = True
        self.close()

    def close(self) -> None:
        """Have it end, and wait for that."""
        if not self.is_alive:
            return
        self.is_alive = False
        self.pipe.close()
        deadline = time.monotonic() + _END_S
        with suppress(ChildProcessError):
            while os.waitpid(self.pid, os.WNOHANG)[0] == 0:
                if time.monotonic() > deadline:
                    os.kill(self.pid, signal.SIGKILL)
                    os.waitpid(self.pid, 0)
                    return
                time.sleep(0.005)


def _end_with(parent: int) -> None:
    """Have this process killed when its parent ends, where the kernel offers that (Linux)."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL))
    if os.getppid() != parent:  # it has ended meanwhile
        os._exit(0)


def _shared(like: Sequence[Tensor]) -> list[Tensor]:
    """Return tensors of zeros like these, in memory that this process shares with its forks."""
    starts, end = [], 0
    for tensor in like:
        starts.append(end)
        end += -(-tensor.numel() * tensor.element_size() // _LINE_BYTES) * _LINE_BYTES
    memory = mmap.mmap(-1, max(1, end))
    return [
        torch.frombuffer(memory, dtype=tensor.dtype, count=tensor.numel(), offset=start).view(
            tensor.shape
        )
        for tensor, start in zip(like, starts, strict=True)
    ]


_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
"""Parameters of mallopt(3)."""
_ALL = 2**31 - 1
_DEFAULTS = {_MMAP_THRESHOLD: 2**25, _TRIM_THRESHOLD: 2**26}
"""Bytes that glibc's own thresholds grow to at the most."""
_SETTINGS = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES")


@contextmanager
def reused_heap() -> Iterator[None]:
    """Keep what is freed for what is allocated next, and hand it back to the system at the end."""
    keep()
    try:
        yield
    finally:
        hand_back()


def keep() -> None:
    """Keep what is freed from now on.

    Nothing is done without glibc, nor where variables of the environment say what it shall do.
    """
    _set({_MMAP_THRESHOLD: _ALL, _TRIM_THRESHOLD: _ALL})


def hand_back() -> None:
    """Hand back what is free, and do so again from now on."""
    libc = _set(_DEFAULTS)
    if libc is not None:
        libc.malloc_trim(0)


def _set(thresholds: dict[int, int]) -> ctypes.CDLL | None:
    if any(os.environ.get(name) for name in _SETTINGS):
        return None
    libc = ctypes.CDLL(None) if os.name == "posix" else None
    if not (hasattr(libc, "mallopt") and hasattr(libc, "malloc_trim")):
        return None
    assert libc is not None
    for parameter, n_bytes in thresholds.items():
        libc.mallopt(parameter, n_bytes)
    return libc


class CpuSpeedups(Speedups):
    """Blocked attention, fused blocks, a heap that keeps freed memory, and gradient workers."""

    def attention(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        scale: float | None,
        dropout: float,
        before: tuple[Tensor, Tensor] | None = None,
    ) -> Tensor:
        """Attend by blocks where that is faster than what torch does, and to a beginning once."""
        if before is not None and not dropout and fits(query):
            return attend_behind(query, key, value, before, scale)
        if before is None and not dropout and pays(query):
            return attend(query, key, value, scale)
        return super().attention(query, key, value, scale, dropout, before)

    def fuse(self, model: Any, on: bool) -> None:
        """Run plain blocks of a Llama or Qwen2 fused."""
        from stratos.contrib.cpu.fused_layer import fuse  # which knows the packed rows

        fuse(model, on)

    def allocator(self) -> AbstractContextManager[None]:
        """Keep freed memory until the training has ended."""
        return reused_heap()

    def gradient_workers(
        self,
        module: StudentModule,
        loader: PackedLoader,
        n: int,
        forward_context: Callable[[], AbstractContextManager[Any]],
        n_passes: int,
        warn: Callable[[str], None],
    ) -> GradientWorkers | Reason:
        """Fork processes for the parts of a row of a small student."""
        return why_not(module, loader) or ForkedWorkers(
            module, loader, n, forward_context, n_passes, warn
        )
