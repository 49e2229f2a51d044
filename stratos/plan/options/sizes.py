"""The bytes that a student may be served in, by engine, format and answers at once.

`limits.model_mb` and `limits.server_memory_gb` bound what a server loads and what its process
holds. Where one is set, each size that a student may be served in is a serving work with a
candidate of its own, whose servers need no more than that: so the frontier compares sizes, and
what a larger limit buys is found as that of any other limit. Where none is set there is one work
of all of them, and nothing is counted.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from stratos.config import LimitsConfig
from stratos.deploy.engines.base import engine_named
from stratos.deploy.engines.cost import OWN_WEIGHTS, WeightFormat
from stratos.estimate import constants as k
from stratos.estimate.answering import USUAL, EngineChoice
from stratos.estimate.hours import loaded_bytes, process_gib
from stratos.records import KindProbe, ModelCard

_TENSORS_A_LAYER, _TENSORS_BESIDE = 9, 3
_HEADER_BYTES, _GGUF_HEADER_BYTES = 112, 64
"""Of each tensor, in a file of safetensors and in one of GGUF."""
_TOKEN_BYTES = 36
"""Of each token of the vocabulary in a file of GGUF, with its type and its merge; as measured of
SmolLM2-135M. No file may be larger than planned: what is planned is typed as a limit."""
GB_A_GIB = 2**30 / 1e9


@dataclass(frozen=True, order=True)
class Size:
    """What a server needs at most, by the limits that are set; 0 of the others."""

    model_mb: float = 0.0
    memory_gb: float = 0.0

    @property
    def suffix(self) -> str:
        """What tells works of several sizes apart; "" where no limit asks."""
        mb = f" in {self.model_mb:.6g} MB" if self.model_mb else ""
        return f"{mb} in {self.memory_gb:.6g} GB of memory" if self.memory_gb else mb

    def holds(self, size: Size) -> bool:
        """Return whether nothing of another size is larger."""
        return size.model_mb <= self.model_mb and size.memory_gb <= self.memory_gb

    def counted(self, limits: LimitsConfig) -> Size:
        """Return it without what no limit asks for."""
        return Size(
            0.0 if limits.model_mb is None else self.model_mb,
            0.0 if limits.server_memory_gb is None else self.memory_gb,
        )


@dataclass(frozen=True)
class Sized:
    """A serving work, and what its servers need at most."""

    key: str
    size: Size


def weights_mb(card: ModelCard, form: WeightFormat = OWN_WEIGHTS) -> float:
    """Return the megabytes of the file of a student's weights in a format.

    A format quantises all matrices, the embedding among them, and its file has the tokenizer; a
    bundle of its own weights is in float32, as it was trained.
    """
    n_tensors = _TENSORS_A_LAYER * card.n_layers + _TENSORS_BESIDE
    if not form.name:
        return (k.BYTES_PER_PARAM_BUNDLE * card.n_params + _HEADER_BYTES * n_tensors) / 1e6
    norms = (2 * card.n_layers + 1) * card.hidden_size  # which stay in float32
    more = (k.FLOAT_BYTES - form.weight_bytes) * norms + _TOKEN_BYTES * card.vocab_size
    return (form.weight_bytes * card.n_params + more + _GGUF_HEADER_BYTES * n_tensors) / 1e6


def sizes_of(
    card: ModelCard,
    context: float,
    choices: Sequence[EngineChoice] | None,
    limits: LimitsConfig,
    *,
    one_at_a_time: bool,
) -> Iterator[tuple[Size, Sequence[EngineChoice] | None]]:
    """Yield each size that a student may be served in, with the engines that need no more.

    Args:
        card: the student.
        context: tokens of its longest requests with their answers.
        choices: engines of the plan; None for the usual ones.
        limits: of the run.
        one_at_a_time: requests come so, and no engine answers several.
    """
    if Size(1, 1).counted(limits) == Size():
        yield Size(), choices
        return
    choices_by_size: list[tuple[Size, EngineChoice]] = []
    for choice in USUAL if choices is None else choices:
        cost = choice.engine.cost
        slots = choice.slots or cost.slots
        for form in choice.engine.weight_formats:
            if not form.holds(card) or (choice.formats and form not in choice.formats):
                continue
            for n in slots[:1] if one_at_a_time else slots:
                gb = GB_A_GIB * process_gib(card, context, cost, form, n)
                size = Size(weights_mb(card, form), gb).counted(limits)
                choices_by_size.append((size, replace(choice, formats=(form,), slots=(n,))))
    sizes = {size for size, _ in choices_by_size}
    # Servers of a mix may differ in size: then it needs the larger of each.
    for part in (sizes, {size for size in sizes if _within(size, limits)}):
        if part:
            largest = Size(max(s.model_mb for s in part), max(s.memory_gb for s in part))
            sizes = sizes | {largest}
    for size in sorted(sizes):
        yield size, [choice for own, choice in choices_by_size if size.holds(own)]


def _within(size: Size, limits: LimitsConfig) -> bool:
    most = Size(
        size.model_mb if limits.model_mb is None else limits.model_mb,
        size.memory_gb if limits.server_memory_gb is None else limits.server_memory_gb,
    )
    return most.holds(size)


def kind_mb(kind: KindProbe) -> float:
    """Return the megabytes of a student that is no language model."""
    return (kind.n_bytes or k.FLOAT_BYTES * kind.n_params) / 1e6


def size_of_kind(kind: KindProbe, limits: LimitsConfig, *, has_encoder: bool) -> Size:
    """Return the size of a student that is no language model, which one process serves."""
    cost = engine_named("predictor-encoder" if has_encoder else "predictor").cost
    mb = kind_mb(kind)
    loaded_gb = loaded_bytes(1e6 * mb, kind.n_params) / 1e9
    return Size(mb, loaded_gb + GB_A_GIB * cost.process_gib).counted(limits)
