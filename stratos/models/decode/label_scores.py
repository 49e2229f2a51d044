"""Answers that are labels: each label is scored, and the likeliest is the answer.

The tokens of the labels, with the end behind each, are a trie. One pass behind the prompt computes
all of its nodes: a node sees the prompt and the nodes above it, so that labels that begin alike
share what they begin with. It gives log p(label | prompt) of each label, exactly; their softmax is
the probability of the answer.
"""

from __future__ import annotations

import inspect
import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from typing_extensions import override

from stratos.core.atomic_files import write_atomically
from stratos.core.foreign import reading
from stratos.models.decode.batched import evaluating, pad_left
from stratos.models.kinds.base import LABELS, Prediction, Predictor, log_softmax
from stratos.models.pretrained import load_model, load_tokenizer
from stratos.tasks.base import Message

if TYPE_CHECKING:
    import torch

    from stratos.models.decode.kv_cache import Beginning, Prefixes

N_OTHERS = 20
"""Labels that a prediction lists beside its answer."""
_MOST_LOGITS = 2**26
"""Logits of one pass: 256 MiB in float32."""
_SHORT = 64
"""Tokens of padding that take about as long as another pass over the weights."""
_TEMPERATURES = (0.05, 20.0)


@dataclass(frozen=True)
class LabelAnswers:
    """What a language model of labels answers with."""

    labels: tuple[str, ...]
    temperature: float = 1.0
    """What log-probabilities of labels are divided by, so that probabilities are calibrated."""

    @staticmethod
    def read(folder: Path) -> LabelAnswers | None:
        """Return what the model in a folder answers with; None where it writes any text.

        Raises:
            ForeignFileError: the file is damaged.
        """
        path = folder / LABELS
        if not path.is_file():
            return None
        with reading(f"{path}"):
            facts = json.loads(path.read_text(encoding="utf-8"))
            labels, temperature = tuple(facts["labels"]), float(facts["temperature"])
            if not labels or len(set(labels)) < len(labels):
                raise ValueError("it has no labels, or one of them twice")
            if not all(isinstance(label, str) for label in labels):
                raise ValueError("one of its labels is no text")
            if not 0 < temperature < math.inf:
                raise ValueError(f"its temperature is {temperature}, and has to be above 0")
            return LabelAnswers(labels, temperature)

    def write(self, folder: Path) -> None:
        """Write the file that `read` reads."""
        text = json.dumps(asdict(self), ensure_ascii=False, indent=1)
        write_atomically(folder / LABELS, text.encode())

    def predictions(self, logprobs_NL: np.ndarray) -> list[Prediction]:
        """Return the likeliest label of each prompt, with its probability and the next ones.

        Args:
            logprobs_NL: as of `LabelScores`.
        """
        shares_NL = np.exp(log_softmax(logprobs_NL / self.temperature))
        predictions = []
        for shares in shares_NL:
            ranked = np.argsort(-shares, kind="stable")[: 1 + N_OTHERS]
            pairs = [(self.labels[k], float(shares[k])) for k in ranked]
            predictions.append(Prediction(*pairs[0], tuple(pairs[1:])))
        return predictions


@dataclass(frozen=True)
class LabelScores:
    """How likely each label is behind each prompt."""

    logprobs_NL: np.ndarray
    """log p(label | prompt), its end included; not normalised over the labels."""
    prompt_tokens: tuple[int, ...]
    """Of each prompt."""
    label_tokens: tuple[int, ...]
    """Of each label, its end included."""


def fitted_temperature(logprobs_NL: np.ndarray, is_right: Sequence[bool]) -> float:
    """Return the temperature at which answers are as probable as they are right.

    It maximises the likelihood of right and wrong answers. The targets are Platt's (1999), so that
    a few rows that are all right make nothing certain.

    Args:
        logprobs_NL: of validation rows, as of `LabelScores`.
        is_right: whether the likeliest label of each is the gold one.
    """
    from scipy.optimize import minimize_scalar

    right = np.asarray(is_right, bool)
    if not len(right):
        return 1.0
    n_right, n_wrong = int(right.sum()), int((~right).sum())
    target = np.where(right, (n_right + 1) / (n_right + 2), 1 / (n_wrong + 2))

    def loss(log_temperature: float) -> float:
        top = log_softmax(logprobs_NL / np.exp(log_temperature)).max(-1)
        rest = np.log(np.maximum(-np.expm1(top), 1e-12))
        return float(-(target * top + (1 - target) * rest).mean())

    best = minimize_scalar(loss, bounds=tuple(np.log(_TEMPERATURES)), method="bounded")
    return float(np.exp(best.x))


@dataclass(frozen=True)
class Trie:
    """The tokens of all labels, each beginning once.

    State 0 is the end of the prompt, state n + 1 is behind node n. An edge is a token behind a
    state; the last edge of a label is its end, behind which nothing is computed.
    """

    nodes: tuple[int, ...]
    """Token of each node; a node comes behind the one above it."""
    parents: tuple[int, ...]
    """State above each node."""
    edges: tuple[tuple[int, int], ...]
    """State and token of each edge."""
    paths: tuple[tuple[int, ...], ...]
    """Edges of each label."""

    @staticmethod
    def of(tokenizer: Any, labels: Sequence[str]) -> Trie:
        """Return the trie of labels, in the tokens that a student learns to write.

        Args:
            tokenizer: of the model, with an end token.
            labels: the texts.
        """
        ended = [label + tokenizer.eos_token for label in labels]
        states: dict[tuple[int, int], int] = {}
        edges: dict[tuple[int, int], int] = {}
        paths = []
        for tokens in tokenizer(ended, add_special_tokens=False)["input_ids"]:
            state, path = 0, []
            for depth, token in enumerate(tokens, 1):
                path.append(edges.setdefault((state, token), len(edges)))
                if depth < len(tokens):
                    state = states.setdefault((state, token), len(states) + 1)
            paths.append(tuple(path))
        parents, nodes = zip(*states, strict=True) if states else ((), ())
        return Trie(nodes, parents, tuple(edges), tuple(paths))

    def depths(self) -> list[int]:
        """Return how many nodes are above each node."""
        depths: list[int] = []
        for parent in self.parents:
            depths.append(depths[parent - 1] + 1 if parent else 0)
        return depths

    def sees(self) -> np.ndarray:
        """Return which nodes each node sees, (N, N): itself and those above it."""
        sees_NN = np.eye(len(self.nodes), dtype=bool)
        for node, parent in enumerate(self.parents):
            if parent:
                sees_NN[node] |= sees_NN[parent - 1]
        return sees_NN

    def sums(self, edges_BE: np.ndarray) -> np.ndarray:
        """Return the sum over the edges of each label, (B, L)."""
        return np.stack([edges_BE[:, list(path)].sum(-1) for path in self.paths], -1)


def score_labels(
    model: Any,
    tokenizer: Any,
    chats: Sequence[list[Message]],
    labels: Sequence[str],
    *,
    batch_size: int,
    tick: Callable[[int, int], None] | None = None,
    poll: Callable[[], None] | None = None,
    beginning: Beginning | None = None,
) -> LabelScores:
    """Score each label behind each chat.

    What prompts begin with alike is computed once. A model whose layers do not see all that was
    before (sliding windows, recurrent states), or whose attention takes no mask, reads each label
    by itself behind the whole prompt.

    Args:
        model: causal language model of transformers, on any device.
        tokenizer: its tokenizer, with a chat template and an end token.
        chats: messages of each question.
        labels: texts.
        batch_size: chats scored at once, at most.
        tick: called with (done, total) as scores come in.
        poll: called behind every pass; what it raises ends the scoring.
        beginning: what prompts begin with alike, where it is computed already.
    """
    import torch

    from stratos.models.decode.kv_cache import Prefixes

    prompts: list[list[int]] = [
        tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_dict=True)[
            "input_ids"
        ]
        for chat in chats
    ]
    trie = Trie.of(tokenizer, labels)
    scores_NL = np.zeros((len(prompts), len(labels)))
    with evaluating(model), torch.inference_mode():
        prefixes = beginning.of(prompts) if beginning else Prefixes.of(model, prompts)
        n_left = [len(prompt) - n for prompt, n in zip(prompts, prefixes.lengths, strict=True)]
        order = sorted(range(len(prompts)), key=lambda row: -n_left[row])
        width = model.config.get_text_config().vocab_size
        n_rows = max(1, min(batch_size, _MOST_LOGITS // (width * (len(trie.nodes) + 1))))
        n_scored = 0
        for live in _batches(order, n_left, n_rows):
            longest = max(len(prompts[row]) for row in live) + len(trie.nodes)
            if _sees_all(model, longest):
                batch = _Batch(model, trie, prompts, prefixes, live)
                scores_NL[live] = trie.sums(batch.edges(_MOST_LOGITS // width))
            else:
                scores_NL[live] = [_alone(model, prompts[row], trie) for row in live]
            if poll is not None:
                poll()
            n_scored += len(live)
            if tick is not None:
                tick(n_scored, len(order))
    return LabelScores(scores_NL, tuple(map(len, prompts)), tuple(len(path) for path in trie.paths))


def _batches(order: Sequence[int], n_left: Sequence[int], most: int) -> Iterator[list[int]]:
    """Cut prompts, the longest first, into batches of at most `most`.

    A prompt is padded to twice what is left of it, or to `_SHORT` tokens, so that a long text does
    not have the others of its batch computed at its length.
    """
    batch: list[int] = []
    for row in order:
        if batch and (len(batch) == most or n_left[batch[0]] > max(2 * n_left[row], _SHORT)):
            yield batch
            batch = []
        batch.append(row)
    if batch:
        yield batch


def _sees_all(model: Any, n_tokens: int) -> bool:
    """Return whether each token of a text can see any set of tokens before it."""
    from transformers.cache_utils import DynamicSlidingWindowLayer

    from stratos.models.decode.kv_cache import RoomyLayer, roomy_cache

    config, parameters = model.config, inspect.signature(model.forward).parameters
    if config._attn_implementation not in ("sdpa", "eager"):
        return False
    # ALiBi, and the windows of GPT-Neo, count the places of tokens, not their positions.
    if "position_ids" not in parameters or getattr(config, "alibi", False):
        return False
    if "local" in getattr(config, "attention_layers", ()) and n_tokens > config.window_size:
        return False
    return all(
        isinstance(layer, RoomyLayer)
        or (isinstance(layer, DynamicSlidingWindowLayer) and n_tokens < layer.sliding_window)
        for layer in roomy_cache(config).layers
    )


class _Batch:
    """The pass of some prompts: what is not computed of them yet, and the trie behind it."""

    def __init__(
        self,
        model: Any,
        trie: Trie,
        prompts: Sequence[Sequence[int]],
        prefixes: Prefixes,
        rows: Sequence[int],
    ) -> None:
        import torch

        self._model, self._trie = model, trie
        self._cache, before_BW, rest = prefixes.start(model, prompts, rows)
        ids_BS, mask_BS = pad_left(rest, 0, model.device)
        self._n_known, n_new = before_BW.shape[1], ids_BS.shape[1]
        known_BT = torch.cat([before_BW, mask_BS], -1).bool()
        nodes_BN = torch.tensor(trie.nodes, dtype=torch.long, device=model.device)
        self._ids = torch.cat([ids_BS, nodes_BN.expand(len(ids_BS), -1)], -1)
        positions_BT = (known_BT.cumsum(-1) - 1).clamp(min=0)
        depths_N = torch.tensor(trie.depths(), dtype=torch.long, device=model.device)
        behind_BN = positions_BT[:, -1:] + 1 + depths_N
        positions_BR = torch.cat([positions_BT[:, self._n_known :], behind_BN], -1)
        # Behind the end of its context a model knows no position; a label is the answer there, too.
        context = getattr(model.config, "max_position_embeddings", math.inf)
        self._positions = positions_BR.clamp(max=context - 1)
        n_all = known_BT.shape[1] + len(trie.nodes)
        sees = torch.zeros((len(ids_BS), n_new + len(trie.nodes), n_all), dtype=torch.bool)
        sees = sees.to(model.device)
        sees[:, :, : known_BT.shape[1]] = known_BT[:, None]
        sees[:, :n_new] = sees[:, :n_new].tril(self._n_known)
        sees[:, n_new:, known_BT.shape[1] :] = torch.from_numpy(trie.sees()).to(model.device)
        # Padding sees itself: attention to nothing may be no number.
        sees[:, range(len(sees[0])), range(self._n_known, n_all)] = True
        self._sees, self._n_new = sees, n_new

    def edges(self, most: int) -> np.ndarray:
        """Return the log-probability of each edge, (B, E).

        Args:
            most: logits for all tokens of the vocabulary at once, for all prompts.
        """
        import torch

        n_rows, n_nodes = len(self._ids), len(self._trie.nodes)
        step = max(1, most // n_rows)
        states_E, tokens_E = torch.tensor(self._trie.edges, device=self._ids.device).T
        edges_BE = torch.zeros((n_rows, len(states_E)), device=self._ids.device)
        for first in range(0, n_nodes + 1, step):
            # States and their nodes are one apart: the first pass reads the prompt, too.
            until = min(n_nodes + 1, first + step)
            start = 0 if first == 0 else self._n_new + first - 1
            logits_BsV = self._logits(start, self._n_new + until - 1, until - first).float()
            total_Bs = logits_BsV.logsumexp(-1)
            here = (states_E >= first) & (states_E < until)
            states = states_E[here] - first
            edges_BE[:, here] = logits_BsV[:, states, tokens_E[here]] - total_Bs[:, states]
        return edges_BE.double().cpu().numpy()

    def _logits(self, start: int, end: int, n_last: int) -> torch.Tensor:
        """Read some tokens; return the logits behind the last of them."""
        import torch

        from stratos.models.decode.kv_cache import cache_argument

        sees = self._sees[:, None, start:end, : self._n_known + end]
        if self._model.config._attn_implementation == "eager":  # which adds the mask
            hidden = torch.zeros(sees.shape, dtype=self._model.dtype, device=sees.device)
            sees = hidden.masked_fill_(~sees, torch.finfo(hidden.dtype).min)
        logits: torch.Tensor = self._model(
            input_ids=self._ids[:, start:end],
            attention_mask=sees,
            position_ids=self._positions[:, start:end],
            use_cache=True,
            logits_to_keep=n_last,
            **{cache_argument(self._model): self._cache},
        ).logits
        return logits


def _alone(model: Any, prompt: Sequence[int], trie: Trie) -> np.ndarray:
    """Return the score of each label, (L,), each read by itself behind the whole prompt."""
    import torch

    scores = []
    for path in trie.paths:
        tokens = [trie.edges[edge][1] for edge in path]
        ids = torch.tensor([[*prompt, *tokens[:-1]]], device=model.device)
        logits_nV = model(input_ids=ids, use_cache=False, logits_to_keep=len(tokens)).logits[0]
        logprobs_nV = logits_nV.float().log_softmax(-1)
        target_n1 = torch.tensor(tokens, device=model.device)[:, None]
        scores.append(float(logprobs_nV.gather(-1, target_n1).double().sum()))
    return np.array(scores)


# A language model of labels as a predictor: a text in, the likeliest label out.

_AT_ONCE = 32


class LabelModel(Predictor):
    """A language model, its tokenizer, and the labels that it answers with."""

    format = "labels"

    def __init__(self, model: Any, tokenizer: Any, answers: LabelAnswers) -> None:
        """Compute what all of its prompts begin with.

        Args:
            model: causal language model of transformers.
            tokenizer: its tokenizer, with a chat template.
            answers: its labels.
        """
        from stratos.models.decode.kv_cache import Beginning

        self._model, self._tokenizer, self._answers = model.eval(), tokenizer, answers
        self._beginning = Beginning.shared_by(model, self._prompt("0"), self._prompt("Hello"))

    @override
    def _predict(self, texts: Sequence[str]) -> list[Prediction]:
        """Return the likeliest label of each text, which is read as far as the context goes."""
        scores = score_labels(
            self._model,
            self._tokenizer,
            [_chat(self._within_context(text)) for text in texts],
            self._answers.labels,
            batch_size=_AT_ONCE,
            beginning=self._beginning,
        )
        predictions = self._answers.predictions(scores.logprobs_NL)
        read = zip(predictions, scores.prompt_tokens, strict=True)
        return [replace(prediction, prompt_tokens=n) for prediction, n in read]

    def _within_context(self, text: str) -> str:
        most = getattr(self._model.config, "max_position_embeddings", None)
        while most and text and (n_tokens := len(self._prompt(text))) > most:
            text = text[: min(len(text) - 1, len(text) * most // n_tokens)]
        return text

    def _prompt(self, text: str) -> list[int]:
        ids: list[int] = self._tokenizer.apply_chat_template(
            _chat(text), add_generation_prompt=True, return_dict=True
        )["input_ids"]
        return ids

    def save(self, folder: Path) -> None:
        """Write it as an ordinary Hugging Face folder, with the labels beside it."""
        self._model.save_pretrained(folder)
        self._tokenizer.save_pretrained(folder)
        self._answers.write(folder)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Return the model in a folder, on the GPU if there is one."""
        import torch

        answers = LabelAnswers.read(folder)
        assert answers is not None
        device = "cuda" if torch.cuda.is_available() else "cpu"
        model = load_model(folder, dtype="auto").to(device)
        return cls(model, load_tokenizer(folder), answers)

    @property
    def n_params(self) -> int:
        """Parameters of the model."""
        return int(self._model.num_parameters())

    @property
    def uses_torch(self) -> bool:
        """Whether an answer needs PyTorch: it does."""
        return True


def _chat(text: str) -> list[Message]:
    return [{"role": "user", "content": text}]
