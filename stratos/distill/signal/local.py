"""A local teacher: one forward pass gives its last hidden states."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from stratos.core.reasons import Reason
from stratos.distill import packed
from stratos.distill.data import Batch
from stratos.distill.objectives import Dense, Hidden, LMHead, Signal, head_is_linear
from stratos.distill.packed import Row
from stratos.distill.speedups import speedups


class SignalSource:
    """What a teacher says of the learned places of a batch."""

    kind: Literal["hidden", "dense", "topk", "sampled", "text"]
    """What it gives, known at construction: states with a head, logits, the likeliest tokens, drawn
    tokens, or nothing beside the text."""
    reason: Reason | None = None
    """Why it gives less than the strategy wants; None where it gives all."""
    layers: tuple[int, int] | None = None
    """Number and width of the layers whose states it gives, None where it gives none."""
    is_forkable = False
    """Whether forked processes can ask it, too: it is in this memory."""
    is_served = False
    """Whether a server is asked, and may be paid, for each batch."""

    def places(self, batch: Batch) -> Tensor | None:
        """Return which of the M learned places the signal is of, in order; None for all."""
        return None

    def signal(self, batch: Batch) -> Signal | None:
        """Return the signal of these places, on the batch's device, without gradient."""
        raise NotImplementedError

    def close(self) -> None:
        """Free weights and connections."""


@dataclass(frozen=True)
class Split:
    """The documents of a batch as arrays of token ids, in the row's order."""

    prompts: list[np.ndarray]
    completions: list[np.ndarray]

    @property
    def place_starts(self) -> np.ndarray:
        """First learned place of each document among the M of the batch, and M behind them."""
        return np.concatenate(
            [[0], np.cumsum([len(completion) for completion in self.completions])]
        )


def split(batch: Batch) -> Split:
    """Return prompts and completions of a row."""
    pairs = list(zip(batch.texts, batch.prompt_lengths, strict=True))
    return Split([text[:n] for text, n in pairs], [text[n:] for text, n in pairs])


@dataclass(frozen=True)
class TeacherRow:
    """What a teacher reads: the tokens of texts, and which places of completions it predicts."""

    texts: Sequence[np.ndarray]
    prompt_lengths: list[int]
    chosen: Tensor | None = None
    """Of all tokens of the completions; None for all."""

    @staticmethod
    def of(prompts: Sequence[np.ndarray], completions: Sequence[np.ndarray]) -> TeacherRow:
        """Return prompts with completions behind them; every token of a completion is predicted."""
        texts = [np.concatenate(pair) for pair in zip(prompts, completions, strict=True)]
        return TeacherRow(texts, [len(prompt) for prompt in prompts])

    def row(self, shares: bool = False) -> Row:
        """Return the texts in a row, and the places before what is predicted."""
        row = Row.of(self.texts, self.prompt_lengths, shares)
        return row if self.chosen is None else replace(row, rows_M=row.rows_M[self.chosen])


_PROBE_LENGTHS = (3, 5)


class Reader:
    """Runs a causal language model over rows of texts.

    Texts run packed where the model's attention can keep them apart, else padded; what leaves the
    body is taken where the model's head is a plain linear one, else its logits. Both are tried out
    on a few tokens, because neither can be told from a model's class.
    """

    def __init__(self, model: Any, n_ids: int, longest: int, keeps_layers: bool = False) -> None:
        """Try the model out.

        Args:
            model: in evaluation mode.
            n_ids: ids that mean something; logits beyond them are cut off.
            longest: tokens of the longest text to come.
            keeps_layers: give the states of every layer, too.
        """
        self.model = model
        self._keeps_layers = False
        head = LMHead.of(model)
        self.head = LMHead(
            head.weight_VH.detach()[:n_ids],
            None if head.bias_V is None else head.bias_V.detach()[:n_ids],
            head.scale,
            head.softcap,
        )
        self._attention = model.config._attn_implementation
        with torch.no_grad():
            self.gives_hidden = head_is_linear(model)
            self.packs = not _slides(model.config, longest) and self._try_packing()
            tolerance = 1e-4 if model.dtype == torch.float32 else 5e-2
            self.shares = self.packs and packed.packs(model, True, tolerance)
            self._keeps_layers = keeps_layers and self.gives_hidden
            self.layers = self._count_layers() if self._keeps_layers else None

    def __call__(self, texts: TeacherRow, device: torch.device) -> Hidden | Dense:
        """Return what the model says of the places of texts."""
        row = texts.row(self.shares)
        rows_M = row.rows_M.to(self.model.device)
        with torch.no_grad():
            if self.packs:
                layers_LNX = self._packed(row)
            else:
                layers_LNX, width = self._padded(texts.texts)
                text, position = _places(texts.texts, row)
                rows_M = (text * width + position).to(self.model.device)
        if not self.gives_hidden:
            return Dense(layers_LNX[-1][rows_M, : len(self.head.weight_VH)].to(device))
        layers_LNX = tuple(layer.to(device) for layer in layers_LNX)
        layers = layers_LNX if self._keeps_layers else None
        return Hidden(layers_LNX[-1], self._head_on(device), rows_M.to(device), layers)

    def _head_on(self, device: torch.device) -> LMHead:
        if self.head.weight_VH.device != device:
            bias_V = None if self.head.bias_V is None else self.head.bias_V.to(device)
            weight_VH = self.head.weight_VH.to(device)
            self.head = LMHead(weight_VH, bias_V, self.head.scale, self.head.softcap)
        return self.head

    def _states(self, **inputs: Any) -> tuple[Tensor, ...]:
        """Return (B, T, H) or, where the head is no plain one, logits (B, T, V).

        The last of them is what the head takes, or gives; before it are the other layers, if kept.
        """
        if not self.gives_hidden:
            return (self.model(**inputs, use_cache=False).logits,)
        all_layers = self._keeps_layers
        out = self.model.base_model(**inputs, use_cache=False, output_hidden_states=all_layers)
        return (*(out.hidden_states[:-1] if all_layers else ()), out.last_hidden_state)

    def _packed(self, row: Row) -> tuple[Tensor, ...]:
        device, n = self.model.device, len(row.tokens_N)
        tokens_1N, positions_1N, documents = packed.whole_row(
            row.tokens_N[None], row.positions_N[None], row.documents
        )
        # The model keeps its own attention between the rows: it may be asked to generate, too.
        self.model.set_attn_implementation(packed.NAME)
        speedups().fuse(self.model, on=True)
        try:
            layers = self._states(
                input_ids=tokens_1N.to(device),
                position_ids=positions_1N.to(device),
                documents=documents.to(device),
            )
            return tuple(layer[0, :n] for layer in layers)
        finally:
            self.model.set_attn_implementation(self._attention)
            speedups().fuse(self.model, on=False)

    def _padded(self, texts: Sequence[np.ndarray]) -> tuple[tuple[Tensor, ...], int]:
        rows = [torch.from_numpy(text.astype(np.int64)) for text in texts]
        tokens_BT = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
        width = tokens_BT.shape[1]
        mask_BT = torch.arange(width) < torch.tensor([len(text) for text in texts])[:, None]
        device = self.model.device
        layers = self._states(
            input_ids=tokens_BT.to(device), attention_mask=mask_BT.long().to(device)
        )
        return tuple(layer.flatten(0, 1) for layer in layers), width

    def _count_layers(self) -> tuple[int, int]:
        ids = torch.arange(1, device=self.model.device)[None]
        states = self._states(input_ids=ids)
        return len(states) - 1, states[-1].shape[-1]

    def _try_packing(self) -> bool:
        """Pack two texts: the second must not see the first, and both must be as they are alone."""
        first, second = (np.arange(n) for n in _PROBE_LENGTHS)
        (alone,), width = self._padded([first, second])
        try:
            (together,), (disturbed,) = (
                self._packed(Row.of(texts, _PROBE_LENGTHS))
                for texts in ([first, second], [first[::-1], second])
            )
        except (TypeError, ValueError, RuntimeError, NotImplementedError, AttributeError):
            return False
        if not torch.equal(together[len(first) :], disturbed[len(first) :]):
            return False
        expected = torch.cat([alone[: len(first)], alone[width : width + len(second)]]).float()
        tolerance = 1e-4 if together.dtype == torch.float32 else 5e-2
        return bool((together.float() - expected).abs().max() <= tolerance * expected.abs().max())


class LocalSource(SignalSource):
    """Scores a batch with a model of this process that has the student's tokenizer."""

    is_forkable = True

    def __init__(
        self,
        reader: Reader,
        prompts: Sequence[np.ndarray] | None = None,
        on_close: Callable[[], None] | None = None,
    ) -> None:
        """Take a model that was tried out.

        Args:
            reader: the model.
            prompts: the teacher's own prompt of each document; None for the student's.
            on_close: frees the weights.
        """
        self.reader, self.layers = reader, reader.layers
        self.kind = "hidden" if reader.gives_hidden else "dense"
        self._prompts, self._on_close = prompts, on_close

    def signal(self, batch: Batch) -> Signal:
        """Return the teacher's states, or logits, of the learned places."""
        documents = split(batch)
        prompts = documents.prompts
        if self._prompts is not None:
            prompts = [self._prompts[document] for document in batch.document_ids_D]
        return self.reader(TeacherRow.of(prompts, documents.completions), batch.tokens_1N.device)

    def close(self) -> None:
        """Free the weights."""
        if self._on_close is not None:
            self._on_close()


def _places(texts: Sequence[np.ndarray], row: Row) -> tuple[Tensor, Tensor]:
    """Return text and place within it of each scored place of an unshared row, (M,) each."""
    starts = torch.tensor([0, *map(len, texts[:-1])]).cumsum(0)
    text = torch.searchsorted(starts, row.rows_M, right=True) - 1
    return text, row.rows_M - starts[text]


def _slides(config: Any, longest: int) -> bool:
    """Return whether some layer looks back less far than the longest text."""
    window = getattr(config, "sliding_window", None)
    return bool(window and getattr(config, "use_sliding_window", True) and longest > window)
