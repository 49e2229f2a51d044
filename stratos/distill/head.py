"""Fused LM head and loss without materialised logits: chunked, gradients in the forward pass.

Only places that are learned reach the head. A chunk of them is multiplied with the head's weight;
the kernels turn the logits of a few rows at a time, in the caches, into their own gradient; two
more products give the gradients of hidden states and weight; then the chunk's buffer serves the
next one. Backward only scales what is there. Memory depends on the chunk, not on the number of
tokens, and nothing is computed twice.

Liger's fused kernel stands in on a GPU where it is equal and faster. Whether it is, is tried on the
first batch of each shape, not assumed: it depends on the GPU, the widths and the versions.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, NamedTuple

import torch
from torch import Tensor

from stratos.distill.distributed import whole
from stratos.distill.kernels import Scratch, block_rows
from stratos.distill.objectives import Dense, Hidden, LMHead, Objective, Signal, dense_side

PRODUCT_ROWS = 8192
"""Rows of the weight's gradient that are added at once where it is summed in float32."""


@dataclass
class Projection:
    """Hidden states of one side, and how their logits come into a chunk's buffer."""

    hidden_NH: Tensor
    rows_M: Tensor | None
    head: LMHead
    weight_VH: Tensor
    bias_V: Tensor | None

    @staticmethod
    def of(
        hidden: Tensor, rows_M: Tensor | None, head: LMHead, n_vocab: int, dtype: torch.dtype
    ) -> Projection:
        """Prepare the first `n_vocab` rows of a head in the type of the products."""
        bias_V = None if head.bias_V is None else whole(head.bias_V)[:n_vocab].to(dtype)
        weight_VH = whole(head.weight_VH).detach()[:n_vocab].to(dtype)
        return Projection(hidden.detach().flatten(0, -2), rows_M, head, weight_VH, bias_V)

    @property
    def n_rows(self) -> int:
        """Return the number of learned places."""
        return len(self.hidden_NH if self.rows_M is None else self.rows_M)

    def project(self, start: int, stop: int, out_RV: Tensor) -> Tensor:
        """Write the bare products of these rows to `out_RV`; return their hidden states."""
        if self.rows_M is None:
            hidden_RH = self.hidden_NH[start:stop]
        else:
            hidden_RH = self.hidden_NH.index_select(0, self.rows_M[start:stop])
        hidden_RH = hidden_RH.to(self.weight_VH.dtype)
        torch.mm(hidden_RH, self.weight_VH.T, out=out_RV)
        if self.bias_V is not None:
            out_RV.add_(self.bias_V)
        return hidden_RH

    def bend_(self, logits_RV: Tensor, slope_RV: Tensor | None = None) -> None:
        """Apply scale and soft cap to float32 products; their slope goes to `slope_RV`."""
        if self.head.scale != 1:
            logits_RV.mul_(self.head.scale)
        if (cap := self.head.softcap) is not None:
            logits_RV.div_(cap).tanh_()
            if slope_RV is not None:
                torch.mul(logits_RV, logits_RV, out=slope_RV).neg_().add_(1)
            logits_RV.mul_(cap)

    def unbend_(self, gradient_RV: Tensor, slope_RV: Tensor | None) -> None:
        """Take a gradient back through soft cap and scale."""
        if slope_RV is not None:
            gradient_RV.mul_(slope_RV)
        if self.head.scale != 1:
            gradient_RV.mul_(self.head.scale)


class WeightGradient:
    """The sum over chunks of gradient.T @ hidden; in float32 where it has several parts.

    A sum in bfloat16 would lose whatever is below a 256th of it: most of a long batch.
    """

    def __init__(self, weight_VH: Tensor, n_vocab: int, dtype: torch.dtype, n_chunks: int) -> None:
        """Make room for the sum, in the shape of the whole weight."""
        sum_in = torch.float32 if n_chunks > 1 else dtype
        self.total_VH = torch.empty(weight_VH.shape, dtype=sum_in, device=weight_VH.device)
        self.total_VH[n_vocab:].zero_()
        self._n_vocab, self._empty = n_vocab, True

    def add(self, gradient_RV: Tensor, hidden_RH: Tensor) -> None:
        """Add the product of a chunk."""
        total_VH = self.total_VH[: self._n_vocab]
        if total_VH.dtype == gradient_RV.dtype:
            total_VH.addmm_(gradient_RV.T, hidden_RH, beta=0 if self._empty else 1)
        else:
            for start in range(0, self._n_vocab, PRODUCT_ROWS):
                part = slice(start, start + PRODUCT_ROWS)
                product = gradient_RV[:, part].T @ hidden_RH
                if self._empty:
                    total_VH[part].copy_(product)
                else:
                    total_VH[part].add_(product)
        self._empty = False

    def result(self) -> Tensor:
        """Return the sum, 0 where there was no chunk."""
        return self.total_VH.zero_() if self._empty else self.total_VH


CHUNK = 2**26
"""Bytes of a chunk on a CPU, both sides together; on a GPU four times as many."""
LEAST_ROWS, MOST_ROWS = 128, 1024
"""Fewer rows slow the matrix products down, more make them no faster."""


class Loss(NamedTuple):
    """A loss to step on, and for the log its parts before they are weighed (T^2 is in)."""

    total: Tensor
    divergence: Tensor
    cross_entropy: Tensor


def chunk_rows(n_rows: int, n_vocab: int, device: torch.device, n_bytes: int = 8) -> int:
    """Return how many rows reach the head at once: equal parts of a size that products like.

    `n_bytes` are what a row and a token take, on both sides together.
    """
    elements = CHUNK // n_bytes * (1 if device.type == "cpu" else 4)
    most = min(MOST_ROWS, max(LEAST_ROWS, elements // n_vocab))
    n_chunks = max(1, -(-n_rows // most))
    return max(1, -(-n_rows // n_chunks))


def head_loss(
    hidden: Tensor,
    head: LMHead,
    signal: Signal | None,
    objective: Objective,
    n_tokens: float | Tensor,
    rows_M: Tensor | None = None,
    targets_M: Tensor | None = None,
    chunk: int | None = None,
    kernel: str = "auto",
) -> Loss:
    """Return the objective of a student's last hidden states.

    Args:
        hidden: (..., H), as the model's body returns them.
        head: the student's head; tied embeddings are just a weight that is used twice. A weight
            that requires no gradient costs none.
        signal: what the teacher says of the M places; None for plain cross-entropy.
        objective: what to compute.
        n_tokens: learned tokens of the whole accumulated batch; 0 gives a loss of 0.
        rows_M: (M,), distinct indices of the learned places in the flattened hidden states; None
            for all of them.
        targets_M: (M,), the text's next tokens, for cross-entropy.
        chunk: rows that reach the head at once; the result does not depend on it.
        kernel: "stratos", or "auto" for Liger's where it is there, equal and faster (GPUs only).

    Raises:
        ConfigError: the signal does not go with the objective.
    """
    objective.check_signal(signal)
    if (
        kernel == "auto"
        and isinstance(signal, Hidden)
        and liger_fits(hidden, head, signal, objective)
    ):
        given = signal

        def ours(states: Tensor, own: LMHead) -> Tensor:
            arguments = (given, objective, n_tokens, rows_M, targets_M, chunk, "stratos")
            return head_loss(states, own, *arguments).total

        def theirs(states: Tensor, own: LMHead) -> Tensor:
            return liger_loss(states, own, given, objective, n_tokens, rows_M)

        shapes = (tuple(head.weight_VH.shape), given.head.weight_VH.shape[1])
        key = (torch.cuda.get_device_name(hidden.device), *shapes, hidden.dtype, objective)
        if liger_is_better(key, hidden, head, ours, theirs):
            total = theirs(hidden, head)
            return Loss(total, total.detach(), torch.zeros_like(total))
    weight_VH = whole(head.weight_VH)
    kind = hidden.device.type
    dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else weight_VH.dtype
    job = _Job(head, signal, objective, n_tokens, rows_M, targets_M, chunk, dtype)
    bias_V = None if head.bias_V is None else whole(head.bias_V)
    return Loss(*_HeadLoss.apply(hidden, weight_VH, bias_V, job, torch.is_grad_enabled()))


@dataclass(frozen=True)
class _Job:
    head: LMHead
    signal: Signal | None
    objective: Objective
    n_tokens: float | Tensor
    rows_M: Tensor | None
    targets_M: Tensor | None
    chunk: int | None
    dtype: torch.dtype


def _run(
    job: _Job, hidden: Tensor, weight_VH: Tensor, wants: list[bool]
) -> tuple[Tensor, list[Tensor | None]]:
    """Return the sums of divergence and cross-entropy, (2,), and of the wanted gradients."""
    device, objective, given = hidden.device, job.objective, dense_side(job.signal)
    n_given = 0
    if isinstance(given, Hidden):
        n_given = given.head.weight_VH.shape[0]
    elif given is not None:
        n_given = given.logits_MV.shape[-1]
    n_vocab, n_given = objective.widths(weight_VH.shape[0], job.signal, n_given)
    student = Projection.of(hidden, job.rows_M, job.head, n_vocab, job.dtype)
    teacher = None
    if isinstance(given, Hidden):
        half = job.dtype if job.dtype != weight_VH.dtype else given.head.weight_VH.dtype
        teacher = Projection.of(given.hidden_NH, given.rows_M, given.head, n_given, half)
        assert teacher.n_rows == student.n_rows, "teacher and student differ in learned places"
    n_rows = student.n_rows
    widest = max(n_vocab, n_given)
    # In half precision a sum over chunks takes more than a chunk of one side alone.
    n_sides = 1 if teacher is None and job.dtype != torch.float32 else 2
    n_bytes = job.dtype.itemsize * n_sides
    step = min(job.chunk or chunk_rows(n_rows, widest, device, n_bytes), max(1, n_rows))
    if wants[1] and job.chunk is None and job.dtype != torch.float32:
        width = weight_VH.shape[1]
        # Bytes a token of the vocabulary: a sum in float32 and its copy take more than one chunk.
        if n_rows <= MOST_ROWS and n_rows * n_bytes <= max(step * n_bytes + 2 * width, 4 * width):
            step = max(1, n_rows)
    block = block_rows(widest, device)
    n_chunks = -(-n_rows // step)

    sums_2 = torch.zeros(2, dtype=torch.float32, device=device)
    d_hidden_NH = torch.zeros_like(student.hidden_NH) if wants[0] else None
    d_weight = WeightGradient(weight_VH, n_vocab, job.dtype, n_chunks) if wants[1] else None
    d_bias_V = torch.zeros(weight_VH.shape[0], device=device) if wants[2] else None
    student_buffer = torch.empty(step, n_vocab, dtype=student.weight_VH.dtype, device=device)
    teacher_buffer = None
    if teacher is not None:
        teacher_buffer = torch.empty(step, n_given, dtype=teacher.weight_VH.dtype, device=device)
    scratch = Scratch()
    for start in range(0, n_rows, step):
        stop = min(start + step, n_rows)
        logits = student_buffer[: stop - start]
        hidden_RH = student.project(start, stop, logits)
        if teacher is not None:
            assert teacher_buffer is not None
            teacher_logits = teacher_buffer[: stop - start]
            teacher.project(start, stop, teacher_logits)
        elif isinstance(given, Dense):
            teacher_logits = given.logits_MV.flatten(0, -2)[start:stop, :n_given]
        for low in range(start, stop, block):
            high = min(low + block, stop)
            inside = slice(low - start, high - start)
            student_RV = _float32(logits[inside], scratch, "student")
            slope_RV = None if job.head.softcap is None else scratch.like("slope", student_RV)
            student.bend_(student_RV, slope_RV)
            teacher_RU = None
            if given is not None:
                copied = teacher is None  # given logits are the caller's: kernels write over them
                teacher_RU = _float32(teacher_logits[inside], scratch, "teacher", copied)
                if teacher is not None:
                    teacher.bend_(teacher_RU)
            parts = objective.block_(
                student_RV,
                teacher_RU,
                job.signal,
                slice(low, high),
                None if job.targets_M is None else job.targets_M[low:high],
                scratch,
            )
            sums_2 += torch.stack([part_R.sum() for part_R in parts])
            if any(wants):
                student.unbend_(student_RV, slope_RV)
                if logits.dtype != torch.float32:
                    logits[inside] = student_RV
        if d_hidden_NH is not None:
            d_rows_RH = (logits @ student.weight_VH).to(d_hidden_NH.dtype)
            if job.rows_M is None:
                d_hidden_NH[start:stop] = d_rows_RH
            else:
                d_hidden_NH.index_copy_(0, job.rows_M[start:stop], d_rows_RH)
        if d_weight is not None:
            d_weight.add(logits, hidden_RH)
        if d_bias_V is not None:
            d_bias_V[:n_vocab] += logits.sum(0, dtype=torch.float32)
    return sums_2, [
        None if d_hidden_NH is None else d_hidden_NH.view(hidden.shape),
        None if d_weight is None else d_weight.result(),
        d_bias_V,
    ]


def _float32(block: Tensor, scratch: Scratch, name: str, copied: bool = False) -> Tensor:
    """Return the block itself where it is float32 and may be written over, else a copy."""
    if block.dtype == torch.float32 and not copied:
        return block
    return scratch.like(name, block).copy_(block)


class _HeadLoss(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight_VH: Tensor,
        bias_V: Tensor | None,
        job: _Job,
        with_gradients: bool,
    ) -> tuple[Tensor, Tensor, Tensor]:
        wants = [with_gradients and needed for needed in ctx.needs_input_grad[:3]]
        device = hidden.device
        with torch.autocast(device.type, enabled=False):
            sums_2, gradients = _run(job, hidden, weight_VH, wants)
        if isinstance(job.n_tokens, Tensor):
            count = job.n_tokens.to(device, torch.float32).clamp(min=1)
        else:
            count = torch.tensor(float(job.n_tokens or 1), device=device)
        ctx.gradients, ctx.count = gradients, count
        ctx.dtypes = hidden.dtype, weight_VH.dtype, None if bias_V is None else bias_V.dtype
        divergence, entropy = sums_2 / count
        total = job.objective.weigh(divergence, entropy)
        ctx.mark_non_differentiable(divergence, entropy)
        return total, divergence, entropy

    @staticmethod
    def backward(ctx: Any, grad: Tensor, *_: Any) -> tuple[Tensor | None, ...]:
        if ctx.gradients is None:
            raise RuntimeError("the gradients of head_loss are gone after one backward pass")
        gradients, ctx.gradients = ctx.gradients, None
        scale = grad / ctx.count
        scaled = [
            None if gradient is None else gradient.mul_(scale).to(dtype)
            for gradient, dtype in zip(gradients, ctx.dtypes, strict=True)
        ]
        return *scaled, None, None


_log = logging.getLogger(__name__)
_BETA = {"forward_kl": 0.0, "reverse_kl": 1.0}
_TRIALS: dict[tuple[object, ...], bool] = {}
RUNS = 3
"""Runs of each side in a trial: the first compiles, the fastest of the others counts."""

Run = Callable[[Tensor, LMHead], Tensor]


def liger_fits(hidden: Tensor, head: LMHead, signal: Signal | None, objective: Objective) -> bool:
    """Return whether Liger has a kernel for this: bare heads of one width, a member of the JSD."""
    if hidden.device.type != "cuda" or find_spec("liger_kernel") is None:
        return False
    if not isinstance(signal, Hidden) or objective.cross_entropy:
        return False
    bare = all(
        side.bias_V is None and side.scale == 1 and side.softcap is None
        for side in (head, signal.head)
    )
    tensors = (hidden, head.weight_VH, signal.hidden_NH, signal.head.weight_VH)
    return (
        bare
        and len({tensor.dtype for tensor in tensors}) == 1
        and not torch.is_autocast_enabled("cuda")
        and head.weight_VH.shape[0] == signal.head.weight_VH.shape[0]
        and (objective.divergence == "jsd" or objective.divergence in _BETA)
    )


def liger_loss(
    hidden: Tensor,
    head: LMHead,
    signal: Hidden,
    objective: Objective,
    n_tokens: float | Tensor,
    rows_M: Tensor | None,
) -> Tensor:
    """Return the same scalar as `head_loss` for what `liger_fits`."""
    from liger_kernel.transformers import LigerFusedLinearJSD

    def learned(states: Tensor, rows: Tensor | None) -> Tensor:
        flat = states.flatten(0, -2)
        return flat if rows is None else flat.index_select(0, rows)

    ours = learned(hidden, rows_M)
    if not len(ours):
        return hidden.sum() * 0 + head.weight_VH.sum() * 0
    beta = _BETA.get(objective.divergence, objective.beta)
    kernel = LigerFusedLinearJSD(jsd_beta=beta, temperature=objective.temperature)
    theirs = learned(signal.hidden_NH, signal.rows_M)
    mean = kernel(ours, head.weight_VH, theirs, signal.head.weight_VH, None)
    count = n_tokens.clamp(min=1) if isinstance(n_tokens, Tensor) else (n_tokens or 1)
    return mean * (len(ours) * objective.temperature**2 / count)


def liger_is_better(
    key: tuple[object, ...], hidden: Tensor, head: LMHead, ours: Run, theirs: Run
) -> bool:
    """Return whether `theirs` equals `ours` on this batch and is faster; tried once for a key."""
    if key not in _TRIALS:
        _TRIALS[key] = _trial(hidden, head, ours, theirs)
        _log.info("Liger's kernel %s for %s", "is taken" if _TRIALS[key] else "is left", key)
    return _TRIALS[key]


def _trial(hidden: Tensor, head: LMHead, ours: Run, theirs: Run) -> bool:
    medians = []
    for run in (ours, theirs):
        seconds = []
        for _ in range(RUNS):
            leaf = hidden.detach().clone().requires_grad_()
            weight = head.weight_VH.detach().clone().requires_grad_(head.weight_VH.requires_grad)
            _wait(hidden.device)
            start = time.perf_counter()
            loss = run(leaf, LMHead(weight))
            loss.backward()
            _wait(hidden.device)
            seconds.append(time.perf_counter() - start)
        values = (loss.detach(), leaf.grad, weight.grad)
        medians.append((min(seconds[1:]), [value for value in values if value is not None]))
    (our_seconds, our_values), (their_seconds, their_values) = medians
    tolerance = 1e-4 if hidden.dtype == torch.float32 else 3e-2
    equal = all(
        bool((a.float() - b.float()).norm() <= tolerance * a.float().norm())
        for a, b in zip(our_values, their_values, strict=True)
    )
    return equal and their_seconds < our_seconds


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
