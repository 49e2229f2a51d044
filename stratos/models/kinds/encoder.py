"""A pretrained encoder of texts: its mean hidden states, or its upper third fine-tuned on the rows.

The layers below those that are tuned stay as they are. What they say of a text is computed once,
whatever the number of trainings, so that an epoch costs less than encoding the rows does. An answer
reads the lower layers once, too: the student keeps the upper layers as they were beside the tuned
ones, and each has its own head. PyTorch trains; a BERT answers without it.
"""

from __future__ import annotations

import copy
import functools
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from typing_extensions import override

from stratos.models.kinds.base import ENCODER
from stratos.models.kinds.features import Arrays, Features, Matrix, fit_head, of_length_1
from stratos.models.pretrained.bert import Bert, below, is_bert, passed
from stratos.models.pretrained.headers import read_config

if TYPE_CHECKING:
    import torch


_N_LAYERS = 2


@dataclass(frozen=True)
class Encoder(Features):
    """The mean hidden states of a pretrained encoder: those of its last layer, and of a lower one.

    The last layer tells what a text is about. Two thirds up, more is left of how it is written:
    of sarcasm, praise and authorship that layer knows more.
    """

    name: ClassVar[str] = "encoder"
    about: ClassVar[str] = "the mean of the last hidden states of a pretrained encoder"
    is_slow: ClassVar[bool] = True
    folder: Path
    longest: int = 128
    """Tokens of a text that are read."""

    @property
    @override
    def uses_torch(self) -> bool:
        return not is_bert(self.folder)

    @override
    def transform(self, texts: Sequence[str]) -> Matrix:
        # Few are requests, or timed. Those of PyTorch depend on the texts beside them in a batch.
        if len(texts) < _FEWEST_REMEMBERED or self.uses_torch:
            return self.computed(texts)
        remembered = _remembered(self.folder, self.longest)
        known = {text: remembered[text] for text in set(texts) & set(remembered)}
        new = [text for text in dict.fromkeys(texts) if text not in known]
        rows = dict(zip(new, self.computed(new), strict=True))
        if len(remembered) + len(rows) > _MOST_REMEMBERED:
            remembered.clear()
        remembered.update(rows)
        return np.stack([rows[text] if text in rows else known[text] for text in texts])

    def computed(self, texts: Sequence[str]) -> np.ndarray:
        """Return the features of texts, read anew: shape (texts, layers * width)."""
        rows = np.zeros((len(texts), _N_LAYERS * self.width), np.float32)
        for part, _, features in self._passes(texts):
            rows[part] = features
        return rows

    def with_states(self, texts: Sequence[str]) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """Return the states of each text in the lower layer, (tokens, width), and its features."""
        states, rows = [np.zeros(0)] * len(texts), [np.zeros(0)] * len(texts)
        for part, some, features in self._passes(texts):
            for k, state, row in zip(part, some, features, strict=True):
                states[k], rows[k] = state, row
        return states, rows

    def _passes(
        self, texts: Sequence[str]
    ) -> Iterator[tuple[list[int], list[np.ndarray], np.ndarray]]:
        """Yield the numbers of some texts, their states in the lower layer, and their features."""
        order = sorted(range(len(texts)), key=lambda k: len(texts[k]))
        parts = [order[start : start + _ENCODED] for start in range(0, len(order), _ENCODED)]
        several = _states(
            read_encoder(self.folder), [[texts[k] for k in part] for part in parts], self.longest
        )
        for part, (lower, last) in zip(parts, several, strict=True):
            yield part, lower, np.hstack([means_of(last), means_of(lower)])

    @override
    def views(self, features: Matrix) -> list[Matrix]:
        return [features[:, k : k + self.width] for k in range(0, features.shape[1], self.width)]

    @property
    def width(self) -> int:
        """Of a hidden state."""
        return read_encoder(self.folder).width

    @property
    @override
    def n_params(self) -> int:
        return read_encoder(self.folder).n_params

    @property
    @override
    def n_bytes(self) -> int:
        return 4 * self.n_params  # float32

    @override
    def state(self) -> tuple[dict[str, Any], Arrays]:
        return {"longest": self.longest}, {}

    @override
    def save(self, folder: Path) -> None:
        read_encoder(self.folder).save(folder / ENCODER)

    @classmethod
    @override
    def of_state(cls, settings: dict[str, Any], arrays: Arrays, folder: Path) -> Encoder:
        return cls(folder / ENCODER, settings["longest"])


class TorchEncoder:
    """An encoder of another architecture than BERT, which transformers loads.

    Args:
        folder: of its files.
    """

    def __init__(self, folder: Path) -> None:
        self._tokenizer, self._model = load_encoder(folder)
        self.width: int = self._model.config.hidden_size
        self.n_params = sum(weight.numel() for weight in self._model.parameters())

    def states(
        self, texts: Sequence[str], longest: int
    ) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """Return the states of each text in the lower layer and in the last, (tokens, width)."""
        import torch

        batch = self._tokenizer(
            list(texts), padding=True, truncation=True, max_length=longest, return_tensors="pt"
        )
        with torch.inference_mode():
            states = self._model(**batch, output_hidden_states=True).hidden_states
        mask = batch["attention_mask"] > 0
        lower, last = (
            [state[some].float().numpy() for state, some in zip(layer, mask, strict=True)]
            for layer in (states[lower_layer(len(states) - 1)], states[-1])
        )
        return lower, last

    def save(self, folder: Path) -> None:
        """Write it into a folder."""
        from stratos.models.pretrained.folder import quiet_loading

        with quiet_loading():
            self._tokenizer.save_pretrained(folder)
            self._model.save_pretrained(folder)


_FEWEST_REMEMBERED, _MOST_REMEMBERED = 64, 32_768
"""Texts of a call whose features are remembered, and texts in all: about 100 MB."""


@functools.cache
def _remembered(folder: Path, longest: int) -> dict[str, np.ndarray]:
    """Return the features of texts that were read together: stages read the same rows again."""
    return {}


@functools.cache
def read_encoder(folder: Path) -> Bert | TorchEncoder:
    """Return the encoder in a folder; it is read once."""
    return Bert.of_folder(folder) if is_bert(folder) else TorchEncoder(folder)


@functools.cache
def load_encoder(folder: Path) -> tuple[Any, Any]:
    """Return the tokenizer and the model in a folder as transformers has them."""
    from transformers import AutoModel, AutoTokenizer

    from stratos.core.foreign import reading
    from stratos.models.pretrained.folder import quiet_loading

    with reading(f"The encoder in {folder}"), quiet_loading():
        tokenizer = AutoTokenizer.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False
        )
        model = AutoModel.from_pretrained(
            folder, local_files_only=True, use_safetensors=True, trust_remote_code=False
        )
    return tokenizer, model.eval()


def _states(
    encoder: Bert | TorchEncoder, parts: Sequence[Sequence[str]], longest: int
) -> Iterator[tuple[list[np.ndarray], list[np.ndarray]]]:
    """Yield the states of each part's texts in the lower layer and in the last, (tokens, width)."""
    if isinstance(encoder, TorchEncoder):
        yield from (encoder.states(texts, longest) for texts in parts)
        return

    def states_of(tokens: list[np.ndarray]) -> tuple[list[np.ndarray], list[np.ndarray]]:
        ends = np.cumsum([len(each) for each in tokens])[:-1]
        states = encoder.states(tokens)
        return np.split(states[lower_layer(encoder.n_layers)], ends), np.split(states[-1], ends)

    # The tokenizer is one for all threads, and must not be set by two at once.
    yield from passed(states_of, [encoder.tokens(texts, longest) for texts in parts])


def lower_layer(n_layers: int) -> int:
    """Return the number of the layer two thirds up; of 6 layers it is the fourth."""
    return 2 * n_layers // 3


def means_of(states: Sequence[np.ndarray]) -> np.ndarray:
    """Return the means over tokens of states, of length 1: shape (texts, width)."""
    return of_length_1(np.stack([each.mean(axis=0) for each in states]))


_SEED, _EPOCHS, _BATCH, _ENCODED = 0, 4, 16, 32
"""The last two are rows of a step of training, and of a pass without."""
_RATE, _WARMING, _DECAY, _MOST_GRADIENT = 3e-4, 0.1, 0.01, 1.0
"""Learning rate of AdamW, the share of steps in which it grows, weight decay, and the norm to which
gradients are clipped."""
_EPOCH_COST = 0.8
"""CPU seconds of an epoch, where one pass of all layers over the rows without training is 1."""
_N_TIMED = 64
_FIRST_STRENGTH = 10.0
_TYPES = frozenset({"bert", "roberta", "xlm-roberta"})
"""Architectures of encoders whose layers take hidden states and a mask, and nothing else."""


@dataclass(frozen=True)
class TunedEncoder(Features):
    """The layers that `Encoder` gives, and the mean states of upper layers that rows have tuned."""

    name: ClassVar[str] = "tuned"
    about: ClassVar[str] = (
        "mean hidden states of a pretrained encoder, as it was and with upper layers tuned"
    )
    is_slow: ClassVar[bool] = True
    learns_labels: ClassVar[bool] = True
    encoder: Encoder
    tuned: Arrays | None = None
    """Weights of the upper layers; None before `fitted`, where they are as they came."""
    read: dict[str, tuple[np.ndarray, np.ndarray]] = field(default_factory=dict)
    """Of texts that were learnt: states below the upper layers, (tokens, width), and features of
    the encoder as it was; all that are fitted from here share them."""

    @property
    def can_tune(self) -> bool:
        """Whether it knows how to train this encoder."""
        return read_config(self.encoder.folder / "config.json").get("model_type") in _TYPES

    @property
    @override
    def uses_torch(self) -> bool:
        return self.encoder.uses_torch

    def cpu_seconds(self, texts: Sequence[str], n_trainings: float) -> float:
        """Return what so many trainings on `texts` will take here, as encoding some of them says.

        Args:
            texts: of all rows.
            n_trainings: each on all of them.
        """
        some = [texts[k] for k in np.linspace(0, len(texts) - 1, _N_TIMED).astype(int)]
        self.encoder.computed(some[:1])
        began = time.process_time()
        self.encoder.computed(some)
        a_pass = (time.process_time() - began) * len(texts) / len(some)
        return a_pass * (1 + _EPOCHS * _EPOCH_COST * n_trainings)

    @override
    def fitted(self, texts: Sequence[str], answers: Sequence[int] = ()) -> TunedEncoder:
        """Return the block whose upper layers have learnt the answers.

        Beside them learns a head, which begins as the logistic regression on the last layer
        (Kumar et al. 2022): the layers are not torn by one that knows nothing. The head goes
        with the training.
        """
        import torch

        read = self._below(texts)
        self.read.update(zip(texts, read, strict=True))
        states, rows = zip(*read, strict=True)
        last = self.encoder.views(np.stack(rows))[0]
        labels = np.unique(np.asarray(answers), return_inverse=True)[1]
        first = fit_head(last, labels, int(labels.max()) + 1, _FIRST_STRENGTH)
        random = np.random.default_rng(_SEED)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(_SEED)
            layers = copy.deepcopy(self._upper()).requires_grad_().train()
            head = torch.nn.Linear(*first.weights.shape)
            head.weight.data.copy_(torch.from_numpy(first.weights.T))
            head.bias.data.copy_(torch.from_numpy(first.bias))
            weights = [*layers.parameters(), *head.parameters()]
            optimizer = torch.optim.AdamW(weights, lr=_RATE, weight_decay=_DECAY)
            steps = [some for _ in range(_EPOCHS) for some in _batches(states, random)]
            for step, some in enumerate(steps):
                growth = min(1.0, (step + 1) / (_WARMING * len(steps)))
                optimizer.param_groups[0]["lr"] = _RATE * growth * (1 - step / len(steps))
                logits = head(_means(layers, [torch.from_numpy(states[k]) for k in some]))
                loss = torch.nn.functional.cross_entropy(logits, torch.from_numpy(labels[some]))
                optimizer.zero_grad()
                loss.backward()
                torch.nn.utils.clip_grad_norm_(weights, _MOST_GRADIENT)
                optimizer.step()
        weights_of = layers.requires_grad_(False).state_dict()
        return replace(self, tuned={name: w.numpy() for name, w in weights_of.items()})

    @override
    def transform(self, texts: Sequence[str]) -> Matrix:
        read = self._below(texts)
        order = sorted(range(len(read)), key=lambda k: len(read[k][0]))
        rows = np.zeros((len(texts), self.encoder.width), np.float32)
        parts = [order[start : start + _ENCODED] for start in range(0, len(order), _ENCODED)]
        states = [[read[k][0] for k in part] for part in parts]
        is_ours = isinstance(read_encoder(self.encoder.folder), Bert)
        several = (passed if is_ours else map)(self._means_above, states)
        for part, means in zip(parts, several, strict=True):
            rows[part] = means
        return np.hstack([np.stack([row for _, row in read]), rows])

    def _means_above(self, states: Sequence[np.ndarray]) -> np.ndarray:
        """Return what the upper layers make of states: shape (texts, width)."""
        encoder = read_encoder(self.encoder.folder)
        if isinstance(encoder, Bert):
            lengths = [len(state) for state in states]
            x = np.concatenate(states)
            for layer in self._layers:
                x = encoder.above(layer, x, lengths)
            return means_of(np.split(x, np.cumsum(lengths)[:-1]))
        import torch

        with torch.inference_mode():
            means: np.ndarray = _means(self._layers, [*map(torch.from_numpy, states)]).numpy()
        return means

    @cached_property
    def _layers(self) -> Any:
        """The upper layers: the weights of each for a BERT, else a module."""
        encoder = read_encoder(self.encoder.folder)
        if isinstance(encoder, Bert):
            upper = encoder.layers[lower_layer(encoder.n_layers) :]
            if self.tuned is None:
                return upper
            return [below(f"{k}.", self.tuned) for k in range(len(upper))]
        if self.tuned is None:
            return self._upper()
        import torch

        layers = copy.deepcopy(self._upper()).requires_grad_(False)
        layers.load_state_dict({name: torch.from_numpy(a) for name, a in self.tuned.items()})
        return layers.eval()

    @override
    def views(self, features: Matrix) -> list[Matrix]:
        width = self.encoder.width
        return [features[:, k : k + width] for k in range(0, features.shape[1], width)]

    @property
    @override
    def n_params(self) -> int:
        return self.encoder.n_params + sum(array.size for array in (self.tuned or {}).values())

    @property
    @override
    def n_bytes(self) -> int:
        return 4 * self.n_params

    @override
    def state(self) -> tuple[dict[str, Any], Arrays]:
        return self.encoder.state()[0], self.tuned or {}

    @override
    def save(self, folder: Path) -> None:
        self.encoder.save(folder)

    @classmethod
    @override
    def of_state(cls, settings: dict[str, Any], arrays: Arrays, folder: Path) -> TunedEncoder:
        return cls(Encoder(folder / ENCODER, settings["longest"]), arrays)

    def _upper(self) -> Any:
        """Return the layers above the one that `Encoder` calls the lower."""
        layers = load_encoder(self.encoder.folder)[1].encoder.layer
        return layers[lower_layer(len(layers)) :]

    def _below(self, texts: Sequence[str]) -> list[tuple[np.ndarray, np.ndarray]]:
        """Return the states below the upper layers, and the features of the encoder as it was."""
        new = list(dict.fromkeys(text for text in texts if text not in self.read))
        states, rows = self.encoder.with_states(new)
        fresh = dict(zip(new, zip(states, rows, strict=True), strict=True))
        return [self.read.get(text) or fresh[text] for text in texts]


def _batches(states: Sequence[np.ndarray], random: np.random.Generator) -> list[np.ndarray]:
    """Return the rows of each step of an epoch: drawn anew, with rows of alike lengths together."""
    order, some = random.permutation(len(states)), 8 * _BATCH
    steps: list[np.ndarray] = []
    for start in range(0, len(order), some):
        part = np.array(sorted(order[start : start + some], key=lambda k: len(states[k])))
        steps += [part[k : k + _BATCH] for k in range(0, len(part), _BATCH)]
    return [steps[k] for k in random.permutation(len(steps))]


def _means(layers: Any, states: Sequence[torch.Tensor]) -> torch.Tensor:
    """Return the means over tokens of what layers make of states, of length 1: (texts, width)."""
    import torch

    x = torch.nn.utils.rnn.pad_sequence(list(states), batch_first=True)
    lengths = torch.tensor([len(state) for state in states])
    mask = torch.arange(x.shape[1]) < lengths[:, None]
    hidden = torch.zeros(mask.shape).masked_fill(~mask, torch.finfo(x.dtype).min)[:, None, None]
    for layer in layers:
        out = layer(x, attention_mask=hidden)
        x = out[0] if isinstance(out, tuple) else out
    mean = (x * mask[:, :, None]).sum(1) / lengths[:, None].clamp(min=1)
    return torch.nn.functional.normalize(mean, dim=1)
