"""A student in training: body, head and loss in one forward pass, Lightning's module, optimizer.

Muon trains the 2-D weights of the blocks, AdamW the rest. Lightning allows clipping, accumulation
and automatic optimization for one optimizer only, and Muon takes 2-D parameters only; so the two
are wrapped into one whose parameter groups they share. Muon: K. Jordan et al., 2024; the scale that
matches AdamW's updates: Moonlight, arXiv 2502.16982.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import lightning as L
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from typing_extensions import override

from stratos.config import TrainerConfig
from stratos.core.errors import StratosError
from stratos.distill import packed
from stratos.distill.data import Batch
from stratos.distill.distributed import blocks, gathered, whole
from stratos.distill.head import Loss, head_loss
from stratos.distill.objectives import Hidden, LMHead, Objective, Signal, dense_side
from stratos.distill.signal.local import SignalSource
from stratos.distill.speedups import GradientWorkers, Part, speedups
from stratos.distill.tokenizer import restore_4_bits
from stratos.distill.trainer import Rates, learning_rates, warmup_steps


def hidden_match(
    student_MH: Tensor, teacher_MD: Tensor, n_tokens: float | None = None, cosine: bool = False
) -> Tensor:
    """Return the distance of hidden states of the learned places, summed and divided by n_tokens.

    student_MH (M, D), already projected, and teacher_MD (M, D), which gets no gradient. Distances
    are reduced in float32: the squared error relative to the teacher's mean square at the place (a
    teacher's layers differ in scale by orders of magnitude), or 1 - cosine. Safe for M = 0.
    """
    ours, theirs = student_MH.float(), teacher_MD.detach().float()
    if cosine:
        distance_M = 1 - F.cosine_similarity(ours, theirs, dim=-1)
    else:
        scale_M = theirs.square().mean(-1).clamp(min=torch.finfo(torch.float32).eps)
        distance_M = (ours - theirs).square().mean(-1) / scale_M
    return distance_M.sum() / ((len(ours) if n_tokens is None else n_tokens) or 1)


def layer_pairs(n_student: int, n_teacher: int) -> list[tuple[int, int]]:
    """Return which teacher's layer each student's layer is matched with, counted from 1.

    Layers are spread evenly and the last goes with the last, as in the index of `hidden_states`
    that Hugging Face models return, where 0 is the embedding.
    """
    return [(i, round(i * n_teacher / n_student)) for i in range(1, n_student + 1)]


class HiddenMatch(nn.Module):
    """Learned projections from the student's width to the teacher's, one for each pair of layers.

    They are trained with the student (its optimizer needs their parameters) and dropped after.
    """

    def __init__(
        self,
        student_width: int,
        teacher_width: int,
        pairs: Sequence[tuple[int, int]],
        projects: bool = True,
    ) -> None:
        """Make a projection without bias for each pair of (student's, teacher's) layers.

        A student whose layers are some of the teacher's needs none: it does not `project`.
        """
        super().__init__()
        self.pairs = list(pairs)
        self.projections = nn.ModuleList(
            nn.Linear(student_width, teacher_width, bias=False) if projects else nn.Identity()
            for _ in self.pairs
        )

    def forward(
        self,
        student: Sequence[Tensor],
        teacher: Sequence[Tensor],
        rows_M: Tensor,
        n_tokens: float,
        cosine: bool = False,
        teacher_rows_M: Tensor | None = None,
    ) -> Tensor:
        """Return the mean over the pairs of `hidden_match`.

        student and teacher: hidden states by layer, each (..., width); rows_M: the learned places
        of the flattened states; teacher_rows_M: those of the teacher's, where it reads a prompt of
        its own or other tokens.
        """
        if teacher_rows_M is None:
            teacher_rows_M = rows_M
        total = torch.zeros((), device=rows_M.device)
        for (ours, theirs), projection in zip(self.pairs, self.projections, strict=True):
            student_MH = student[ours].flatten(0, -2)[rows_M]
            teacher_MD = teacher[theirs].flatten(0, -2)[teacher_rows_M]
            total = total + hidden_match(projection(student_MH), teacher_MD, n_tokens, cosine)
        return total / max(1, len(self.pairs))


TEXT = Objective(cross_entropy=1.0)
"""Learn the text, and nothing else."""


class Learner(nn.Module):
    """A causal language model whose forward pass ends in the loss, so that logits never exist.

    One module for all of it, because what gathers a sharded weight (FSDP2) does so around a
    module's forward pass, and the head's weight is needed by the loss.
    """

    def __init__(self, model: Any, compiled: bool = False) -> None:
        """Wrap a Hugging Face model; the body is compiled for the forward pass of a training."""
        super().__init__()
        self.model = model.train()  # what comes from a folder is in evaluation mode
        self._attention = model.config._attn_implementation
        self._compiled = compiled

        def body(layers: bool, **inputs: Any) -> tuple[Tensor, ...]:
            out = model.base_model(**inputs, use_cache=False, output_hidden_states=layers)
            return (*(out.hidden_states[:-1] if layers else ()), out.last_hidden_state)

        # A function is no submodule: generation and what is saved know nothing of it.
        self._body = torch.compile(body, dynamic=True) if compiled else body
        self.match: HiddenMatch | None = None
        self._match_weight = 0.0

    def match_layers(
        self, n_layers: int, width: int, weight: float, layer_indices: Sequence[int] = ()
    ) -> None:
        """Learn to say what each of a teacher's layers says, too, through learned projections.

        Args:
            n_layers: of the teacher.
            width: of its states.
            weight: beside the other losses.
            layer_indices: the teacher's layers that the student has, numbered from 0, where it has
                no other.
        """
        config = self.model.config
        pairs = layer_pairs(config.num_hidden_layers, n_layers)
        if layer_indices:  # the last ends in the logits, which are matched anyway
            pairs = [(own, whole + 1) for own, whole in enumerate(layer_indices[:-1], 1)]
        self.match = HiddenMatch(config.hidden_size, width, pairs, projects=not layer_indices)
        self._match_weight = weight

    def pack(self, on: bool) -> None:
        """Switch to packed attention for training, or back for generation and saving.

        What is compiled is fused by the compiler.
        """
        self.model.set_attn_implementation(packed.NAME if on else self._attention)
        speedups().fuse(self.model, on and not self._compiled)

    @contextmanager
    def unpacked(self) -> Iterator[None]:
        """Let the model generate in the midst of a training."""
        self.pack(False)
        try:
            yield
        finally:
            restore_4_bits(self.model)
            self.pack(True)

    def forward(
        self,
        batch: Batch,
        signal: Signal | None,
        objective: Objective,
        places: Tensor | None = None,
    ) -> Loss:
        """Return the loss of one packed row.

        Args:
            batch: the row.
            signal: what the teacher says of its learned places.
            objective: what to compute there.
            places: which of the M learned places the signal is of; the others learn the text. None
                for all of them.
        """
        given = dense_side(signal)
        layers = given.layers_LNH if isinstance(given, Hidden) and self.match else None
        tokens_1N, positions_1N, documents = packed.whole_row(
            batch.tokens_1N, batch.positions_1N, batch.documents
        )
        states_L1NH = self._body(
            layers is not None,
            input_ids=tokens_1N,
            position_ids=positions_1N,
            documents=documents,
        )
        rows_M, targets_M = batch.rows_M, batch.targets_M
        if places is not None:
            rows_M, targets_M = rows_M[places], targets_M[places]
        states, head, n_tokens = states_L1NH[-1], LMHead.of(self.model), batch.n_tokens
        loss = head_loss(states, head, signal, objective, n_tokens, rows_M, targets_M)
        if places is not None and len(places) < len(batch.rows_M):
            left_M = torch.ones(len(batch.rows_M), dtype=torch.bool, device=places.device)
            left_M[places] = False
            rest = batch.rows_M[left_M], batch.targets_M[left_M]
            text = head_loss(states, head, None, TEXT, n_tokens, *rest)
            entropy = loss.cross_entropy + text.cross_entropy
            loss = Loss(loss.total + text.total, loss.divergence, entropy)
        if layers is None:
            return loss
        assert self.match is not None and isinstance(given, Hidden)
        matched = self.match(states_L1NH, layers, rows_M, n_tokens, teacher_rows_M=given.rows_M)
        return loss._replace(total=loss.total + self._match_weight * matched)


def learning_rate_factor(step: int, n_steps: int, warmup_steps: int) -> float:
    """Return the factor of the peak rate: linear warm-up, then a cosine to 0 at `n_steps`."""
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    share = (step - warmup_steps) / max(1, n_steps - warmup_steps)
    return 0.5 * (1 + math.cos(math.pi * min(1.0, share)))


class NotFinite(StratosError):
    """A loss or a gradient that is not a number; no step was made with it."""

    def __init__(self, what: str, value: float, step: int, documents: np.ndarray) -> None:
        super().__init__(f"The {what} is {value} at step {step}")
        self.documents = documents


class StudentModule(L.LightningModule):
    """A causal language model that learns to write completions, from packed rows.

    Where there is a source, it is told how likely its teacher finds each token of a text: of the
    corpus's, or of its own (on-policy, see `OnPolicyLoader`).
    """

    def __init__(
        self,
        model: Any,
        trainer_config: TrainerConfig,
        n_steps: int,
        source: SignalSource | None = None,
        objective: Objective = TEXT,
        hidden_match: float = 0.0,
        rates: Rates | None = None,
        layer_indices: Sequence[int] = (),
    ) -> None:
        """Wrap a Hugging Face model.

        Args:
            model: the model.
            trainer_config: how it is trained.
            n_steps: where the cosine ends.
            source: of the teacher's signal; None where the text is all that is learned.
            objective: what is computed where there is a signal.
            hidden_match: weight of matching the teacher's layers.
            rates: learning rates; None takes those of random weights.
            layer_indices: the teacher's layers that the student has, where it has no other.
        """
        super().__init__()
        self.learner = Learner(model, trainer_config.compile)
        if hidden_match and source is not None and source.layers is not None:
            self.learner.match_layers(*source.layers, hidden_match, layer_indices)
        self._source, self._objective = source, objective
        # What the student wrote is no text to learn by heart.
        self._own_text = replace(objective, cross_entropy=0.0)
        self._config, self._n_steps = trainer_config, n_steps
        self._rates = rates or learning_rates(trainer_config, True, model.config.hidden_size)
        self._rows: list[tuple[Tensor, np.ndarray]] = []
        self.workers: GradientWorkers | None = None
        """Processes that train on parts of each row."""
        self.others: list[Part] = []
        """What they brought to the last step; empty between the rows that a step accumulates."""
        self.grad_norm: float | None = None
        self._frozen = any(not weight.requires_grad for weight in self.parameters())
        self.strict_loading = not self._frozen

    @property
    def divides(self) -> bool:
        """Return whether processes forked from this one can compute the loss of their parts."""
        is_here = self._source is None or self._source.is_forkable
        return is_here and not self._config.compile

    @property
    def model(self) -> Any:
        """Return the Hugging Face model."""
        return self.learner.model

    def configure_model(self) -> None:
        """Split the weights over the processes, where Lightning's strategy is FSDP2."""
        mesh = self.device_mesh
        if mesh is None or hasattr(self.learner, "unshard"):
            return
        from torch.distributed.fsdp import fully_shard

        data_mesh = mesh["data_parallel"]
        for block in blocks(self.model):
            fully_shard(block, mesh=data_mesh)
        fully_shard(self.learner, mesh=data_mesh)

    def on_fit_start(self) -> None:
        """Switch to packed attention."""
        self.learner.pack(True)

    def on_fit_end(self) -> None:
        """Switch back, so that the model generates and is saved as it came."""
        self.learner.pack(False)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep what is trained: frozen weights are where they came from."""
        if self._frozen and "state_dict" in checkpoint:
            trained = {name for name, weight in self.named_parameters() if weight.requires_grad}
            state = checkpoint["state_dict"]
            checkpoint["state_dict"] = {name: state[name] for name in state if name in trained}

    def trial_loss(self, batch: Batch) -> Tensor:
        """Return a loss that takes as long as `loss`; a server is not asked, and paid, for it."""
        is_paid = self._source is not None and self._source.is_served
        return self._text_loss(batch) if is_paid else self.loss(batch)

    def loss(self, batch: Batch) -> Tensor:
        """Return the loss of one packed row.

        Where the teacher says nothing (it has no token that begins there) the corpus's text is
        learned: places that nothing is learned from would be noise in the midst of what the student
        writes. What it has written itself is left out there.
        """
        if self._source is None or not batch.n_trained:  # no documents: there is nothing to ask
            return self._text_loss(batch)
        signal, places = self._source.signal(batch), self._source.places(batch)
        objective = self._own_text if batch.written else self._objective
        if places is not None and batch.written:
            n_learned = len(batch.rows_M)
            batch = replace(
                batch,
                rows_M=batch.rows_M[places],
                targets_M=batch.targets_M[places],
                n_tokens=batch.n_tokens * len(places) / max(1, n_learned),
            )
            places = None
        loss: Tensor = self.learner(batch, signal, objective, places).total
        return loss

    def _text_loss(self, batch: Batch) -> Tensor:
        loss: Tensor = self.learner(batch, None, TEXT).total
        return loss

    def training_step(self, batch: Batch, batch_idx: int) -> dict[str, Any]:
        """Return the loss that Lightning steps on, and how many tokens it is of."""
        self.others = []
        if self.workers is not None:
            self.workers.start(batch.row)
        loss = self.loss(batch)
        self._rows.append((loss.detach(), batch.document_ids_D))
        return {"loss": loss, "tokens": batch.n_trained}

    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip the norm of the gradient, which other processes may have parts of.

        Raises:
            NotFinite: loss or gradient is not a number; the weights are as they were.
        """
        self.join()
        trained = [weight for weight in self.parameters() if weight.grad is not None]
        norm = torch.nn.utils.clip_grad_norm_(trained, gradient_clip_val or math.inf)
        norm = whole(norm)
        rows, self._rows = self._rows, []
        rows += [(torch.tensor(part.loss), part.documents) for part in self.others]
        self.grad_norm = float(norm)
        if not math.isfinite(norm):
            mine = [(float(loss), documents) for loss, documents in rows]
            every = [row for rows in gathered(mine) for row in rows]
            bad = [row for row in every if not math.isfinite(row[0])]
            what, value = ("loss", bad[0][0]) if bad else ("gradient", float(norm))
            documents = np.concatenate([documents for _, documents in bad or every])
            raise NotFinite(what, value, self.trainer.global_step + 1, documents)

    def join(self) -> None:
        """Add the gradients of other processes' parts to those of this one's."""
        if self.workers is not None:
            self.others = self.workers.join()

    def transfer_batch_to_device(self, batch: Batch, device: torch.device, _: int) -> Batch:
        """Move a batch: Lightning does not look inside frozen dataclasses."""
        return batch.to(device)

    def split_parameters(self) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
        """Return what Muon trains, and what AdamW does: the projections are among the latter."""
        matrices, rest = split_parameters(self.model)
        if self.learner.match is not None:
            rest.extend(self.learner.match.parameters())
        return matrices, rest

    def optimizer(self, scale: float) -> MuonAdamW:
        """Return the optimizer, its peak learning rates times `scale`."""
        rates = self._rates
        return MuonAdamW(
            *self.split_parameters(),
            scale * rates.lr_muon,
            scale * rates.lr_adamw,
            self._config.weight_decay,
            rates.optimizer == "muon",
        )

    def configure_optimizers(self) -> Any:
        """Return the optimizer and a schedule by steps."""
        optimizer = self.optimizer(scale=1.0)
        n_warmup = warmup_steps(self._config, self._n_steps)
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: learning_rate_factor(step, self._n_steps, n_warmup)
        )
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": schedule, "interval": "step"},
        }


_SMALL = 2**18
"""Numbers of a matrix up to which it is stacked: the products of larger ones take all the time."""


class StackedMuon(torch.optim.Muon):
    """torch's Muon, with the scale that matches AdamW's updates (Moonlight, arXiv 2502.16982)."""

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Make one step; torch makes it where weights are split over processes."""
        weights = [weight for group in self.param_groups for weight in group["params"]]
        if any(type(weight.data) is not Tensor for weight in weights):
            return super().step(closure)
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            alike: dict[Any, list[Tensor]] = defaultdict(list)
            for index, weight in enumerate(group["params"]):
                if weight.grad is not None:
                    alone = None if weight.numel() <= _SMALL else index
                    alike[weight.shape, weight.device, weight.dtype, alone].append(weight)
            for some in alike.values():
                self._update(some, group)
        return loss

    def _update(self, weights: list[Tensor], group: dict[str, Any]) -> None:
        momentum, lr = group["momentum"], float(group["lr"])
        buffers = []
        for weight in weights:
            state = self.state[weight]
            if not state:
                state["momentum_buffer"] = torch.zeros_like(weight)
            buffers.append(state["momentum_buffer"])
        grads = [weight.grad for weight in weights if weight.grad is not None]
        torch._foreach_lerp_(buffers, grads, 1 - momentum)
        updates = torch._foreach_lerp(grads, buffers, momentum) if group["nesterov"] else buffers
        update_NAB = orthogonalized(
            torch.stack(list(updates)), group["ns_coefficients"], group["ns_steps"], group["eps"]
        )
        torch._foreach_mul_(weights, 1 - lr * group["weight_decay"])
        scale = 0.2 * max(weights[0].shape) ** 0.5
        for weight, update_AB in zip(weights, update_NAB, strict=True):
            weight.add_(update_AB, alpha=-lr * scale)


def orthogonalized(
    matrices_NAB: Tensor, coefficients: tuple[float, float, float], n_steps: int, eps: float
) -> Tensor:
    """Return about the nearest orthogonal matrix of each, in bfloat16, by Newton and Schulz."""
    a, b, c = coefficients
    x_NAB = matrices_NAB.bfloat16()
    is_tall = x_NAB.shape[1] > x_NAB.shape[2]
    if is_tall:
        x_NAB = x_NAB.mT
    norm_N11 = torch.linalg.vector_norm(x_NAB, dim=(1, 2), keepdim=True)
    x_NAB = x_NAB / norm_N11.clamp(min=eps)
    for _ in range(n_steps):
        gram_NAA = torch.bmm(x_NAB, x_NAB.mT)
        gram_NAA = torch.baddbmm(gram_NAA, gram_NAA, gram_NAA, beta=b, alpha=c)
        x_NAB = torch.baddbmm(x_NAB, gram_NAA, x_NAB, beta=a)
    return x_NAB.mT if is_tall else x_NAB


class MuonAdamW(torch.optim.Optimizer):
    """Muon and AdamW behind one `step`, one set of parameter groups and one state dict."""

    def __init__(
        self,
        matrices: Iterable[nn.Parameter],
        rest: Iterable[nn.Parameter],
        lr_muon: float,
        lr_adamw: float,
        weight_decay: float,
        with_muon: bool = True,
    ) -> None:
        """Share the parameters out; learning rates are peaks that a schedule scales.

        Args:
            matrices: whose weights decay; Muon trains them, or AdamW does.
            rest: trained by AdamW.
            lr_muon: of Muon.
            lr_adamw: of AdamW.
            weight_decay: of the matrices.
            with_muon: whether Muon trains them.
        """
        self._parts: list[torch.optim.Optimizer] = []
        matrices, rest = list(matrices), list(rest)
        by_adamw: list[dict[str, Any]] = [{"params": rest, "weight_decay": 0.0}]
        if not with_muon:
            by_adamw.append({"params": matrices, "weight_decay": weight_decay})
        by_adamw = [group for group in by_adamw if group["params"]]
        if matrices and with_muon:
            self._parts.append(
                StackedMuon(
                    matrices,
                    lr=lr_muon,
                    weight_decay=weight_decay,
                    adjust_lr_fn="match_rms_adamw",
                )
            )
        if by_adamw:
            fused = not with_muon and _may_be_fused([*rest, *matrices])
            self._parts.append(
                torch.optim.AdamW(by_adamw, lr=lr_adamw, betas=(0.9, 0.95), fused=fused)
            )
        super().__init__([group for part in self._parts for group in part.param_groups], {})
        self._share()

    def _share(self) -> None:
        """Let groups and states of the parts be the very objects of the whole."""
        start = 0
        for part in self._parts:
            stop = start + len(part.param_groups)
            part.param_groups, part.state = self.param_groups[start:stop], self.state
            start = stop

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take over what was loaded (called by `load_state_dict`)."""
        super().__setstate__(state)
        self._share()

    @torch.no_grad()
    @override
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for part in self._parts:
            part.step()
        return loss


def _may_be_fused(weights: Iterable[nn.Parameter]) -> bool:
    """Return whether one kernel may make AdamW's whole step: a sixth of the time on a CPU.

    Of a student of 135M parameters the step is a quarter of a training on small batches.
    """
    return all(
        weight.is_floating_point()
        and weight.device.type in ("cpu", "cuda")
        and type(weight.data) is torch.Tensor
        for weight in weights
    )


def split_parameters(model: nn.Module) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """Return the 2-D weights inside the blocks, and every other trainable parameter.

    The two factors of an adapter are no weight of their own, and belong to the others.
    """
    outside = {id(p) for part in _embeddings(model) for p in part.parameters()}
    matrices: list[nn.Parameter] = []
    rest: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            inside = parameter.ndim == 2 and id(parameter) not in outside and ".lora_" not in name
            (matrices if inside else rest).append(parameter)
    return matrices, rest


def _embeddings(model: nn.Module) -> list[nn.Module]:
    parts = []
    for name in ("get_input_embeddings", "get_output_embeddings"):
        part = getattr(model, name, lambda: None)()
        if part is not None:
            parts.append(part)
    return parts
