"""Order the layers of a trained model by how well its task does without them.

Layers go one after the other. Each time, that one goes without which the most validation rows are
answered right (greedily, as in TALE). It ends where what is left is surely worse than the whole
model, as McNemar's test on the same rows says. What is left has not learnt to do without them yet:
whether it can is measured once it has. A model that is right of no more rows than their most
frequent answer shows nothing that could be lost: of such a model all layers stay.

A layer is tried where the last trials say that it matters least. So a step tries few layers again,
not all that are left: without others a layer matters rather more than before. Where it matters
less, as two that stand in for each other may, more layers stay than if all were tried again.

Nothing is removed before a training: what a model answers then does not tell what it could learn.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import ceil
from typing import Any

import numpy as np

from stratos.config import FitConfig
from stratos.core.errors import StratosError
from stratos.core.pairs import mcnemar_exact
from stratos.tasks.base import Message, Task

N_ROWS = 200
"""Validation rows that are answered in each trial."""
_BATCH = 16
_ROUNDING = 1e-9
_SURE = 0.05
"""p-value of a test below which a difference is no chance."""


Answer = Callable[[Sequence[int]], np.ndarray]
"""Takes numbers of rows, and returns whether each is answered right, shape (rows,)."""


@dataclass(frozen=True)
class Depth:
    """The layers of a model that go, and what the trials said."""

    removed: tuple[int, ...]
    """Their numbers in the whole model, in the order in which they went."""
    n_before: int
    """Layers of the whole model."""
    rights: tuple[int, ...]
    """Rows right with all layers, and after each that went."""
    n_rows: int
    """Validation rows that were answered."""
    n_by_chance: int
    """Rows that the most frequent answer has."""
    n_safe: int
    """Of those that went, the first so many cost no more rows than are allowed."""

    @property
    def layers(self) -> tuple[int, ...]:
        """Numbers of the layers that stay, ascending."""
        return tuple(index for index in range(self.n_before) if index not in self.removed)

    @property
    def n_right(self) -> int:
        """Rows right with the layers that stay."""
        return self.rights[len(self.removed)]

    @property
    def is_known(self) -> bool:
        """Whether the whole model is right of enough rows to tell what a layer is for."""
        return exceeds_chance(self.rights[0], self.n_rows, self.n_by_chance)

    @property
    def curve(self) -> tuple[tuple[int, int, int], ...]:
        """Layers left, rows right and their number; empty where none went."""
        points = enumerate(self.rights) if len(self.rights) > 1 else ()
        return tuple((self.n_before - n, right, self.n_rows) for n, right in points)

    @property
    def attempts(self) -> tuple[Depth, ...]:
        """With all that went, and with those alone that cost no more than is allowed."""
        counts = sorted({len(self.removed), self.n_safe} - {0}, reverse=True)
        return tuple(replace(self, removed=self.removed[:n]) for n in counts)


@dataclass(frozen=True)
class TrialRows:
    """Validation rows that a model answers with some of its layers."""

    chats: Sequence[list[Message]]
    answers: Sequence[str]
    labels: Sequence[str]
    """That it is to answer with; none where it writes any text."""

    @staticmethod
    def of(task: Task, labels: Sequence[str]) -> TrialRows:
        """Return those of a task."""
        items = task.items("validation", N_ROWS)
        chats, answers = [*map(task.student_messages, items)], [*map(task.completion, items)]
        return TrialRows(chats, answers, labels)

    @property
    def n_by_chance(self) -> int:
        """Rows that the most frequent answer has."""
        return max(Counter(self.answers).values(), default=0)

    def right(self, model: Any, tokenizer: Any, numbers: Sequence[int] | None = None) -> np.ndarray:
        """Return whether a model answers each row right, or each of some rows, shape (rows,)."""
        numbers = range(len(self.answers)) if numbers is None else numbers
        chats, answers = [self.chats[n] for n in numbers], [self.answers[n] for n in numbers]
        return right_answers(model, tokenizer, chats, answers, self.labels)


def fit_depth(
    rows: TrialRows,
    model: Any,
    tokenizer: Any,
    fit: FitConfig,
    tick: Callable[[int, int], None],
) -> Depth:
    """Return which layers of a model go that validation rows miss least.

    Args:
        rows: that are answered in each trial.
        model: of transformers.
        tokenizer: of the model.
        fit: how many layers may go, and how many points that may cost in the end.
        tick: as `task_depth` takes it.
    """
    return task_depth(
        model,
        lambda numbers: rows.right(model, tokenizer, numbers),
        len(rows.answers),
        rows.n_by_chance,
        share=float(fit.depth),
        max_loss=fit.max_loss_points / 100,
        tick=tick,
    )


def task_depth(
    model: Any,
    answer: Answer,
    n_rows: int,
    n_by_chance: int,
    *,
    share: float,
    max_loss: float,
    tick: Callable[[int, int], None] = lambda done, total: None,
) -> Depth:
    """Return which layers of a model of transformers go, which is left whole.

    Args:
        model: that `check_layers` does not refuse.
        answer: takes numbers of validation rows and tells of each whether it is answered right.
        n_rows: validation rows.
        n_by_chance: rows that the most frequent answer has.
        share: of the layers that may go at most.
        max_loss: share of the rows that may be answered worse in the end.
        tick: called with (trials, about how many there will be) before each trial.
    """
    stack = _Stack(model)
    n, layers = stack.n_layers, list(range(stack.n_layers))
    most = _most(share, n)
    about = 1 + n + 2 * most
    trials = _Trials(answer, n_rows, lambda done: tick(min(done, about), about))
    whole = trials.right()[0]
    assert whole is not None
    scores: dict[int, int] = {}
    removed: list[int] = []
    rights, n_safe = [int(whole.sum())], 0
    if not exceeds_chance(rights[0], n_rows, n_by_chance):
        most = 0
    while len(removed) < most:
        index, right = _least(stack, layers, trials, scores, n_rows)
        if is_worse(whole, right):
            break
        layers.remove(index)
        removed.append(index)
        rights.append(int(right.sum()))
        if not is_worse(whole, right, max_loss):
            n_safe = len(removed)
    stack.keep(range(n))
    return Depth(tuple(removed), n, tuple(rights), n_rows, n_by_chance, n_safe)


def _most(share: float, n_layers: int) -> int:
    """Return how many layers may go: one stays in any case."""
    return min(n_layers - 1, int(share * n_layers + _ROUNDING))


class _Trials:
    """Answers rows with some layers of a model, those first that were wrong most often.

    A trial ends once it is surely worse than the best so far.
    """

    def __init__(self, answer: Answer, n_rows: int, tick: Callable[[int], None]) -> None:
        self._answer, self._tick, self._n_done = answer, tick, 0
        self._n_wrong = np.zeros(n_rows, np.int64)
        """Trials in which each row was wrong."""

    def right(self, most_wrong: int | None = None) -> tuple[np.ndarray | None, int]:
        """Return which rows are right, None where more than so many are wrong; and how many were.

        Args:
            most_wrong: rows that may be wrong; None answers all.
        """
        self._tick(self._n_done)
        self._n_done += 1
        n_rows = len(self._n_wrong)
        right, order = np.zeros(n_rows, bool), np.argsort(-self._n_wrong, kind="stable")
        n_wrong = 0
        for start in range(0, n_rows, _BATCH):
            rows = order[start : start + _BATCH]
            right[rows] = self._answer(rows.tolist())
            self._n_wrong[rows] += ~right[rows]
            n_wrong += int((~right[rows]).sum())
            if most_wrong is not None and n_wrong > most_wrong:
                return None, n_wrong
        return right, n_wrong


def _least(
    stack: _Stack, layers: Sequence[int], trials: _Trials, scores: dict[int, int], n_rows: int
) -> tuple[int, np.ndarray]:
    """Return the layer that matters least by now, and which rows are right without it.

    Without further layers a layer matters rather more than before, so that the best that is tried
    anew, and is no worse than what all others once were, is the best.
    """
    fresh: dict[int, np.ndarray] = {}
    best: tuple[int, int] | None = None
    while True:
        # Of equals the upper one goes: what it does comes last.
        index = max(layers, key=lambda index: (scores.get(index, n_rows + 1), index))
        if index in fresh:
            return index, fresh[index]
        stack.keep([layer for layer in layers if layer != index])
        right, n_wrong = trials.right(
            None if best is None else n_rows - best[0] - (index < best[1])
        )
        scores[index] = n_rows - n_wrong  # at most, where the trial was ended
        if right is not None:
            fresh[index] = right
            best = max(best or (-1, -1), (scores[index], index))


def exceeds_chance(n_right: int, n_rows: int, n_by_chance: int) -> bool:
    """Return whether more rows are right than the most frequent answer has, and surely so."""
    from scipy.stats import binomtest

    if not n_rows:
        return False
    share = min(1.0, max(n_by_chance, 1) / n_rows)
    return bool(binomtest(n_right, n_rows, share, "greater").pvalue < _SURE)


def is_worse(before: np.ndarray, after: np.ndarray, max_loss: float = 1.0) -> bool:
    """Return whether fewer rows are right than may be, or surely fewer (McNemar's exact test).

    Args:
        before: which rows the whole model is right of, shape (rows,).
        after: the same of what is left of it.
        max_loss: share of the rows that may be lost; by default the test alone decides.
    """
    lost, won = int((before & ~after).sum()), int((after & ~before).sum())
    if lost - won > max_loss * len(before) + _ROUNDING:
        return True
    return lost > won and mcnemar_exact(lost, won) < _SURE


def check_layers(name: str, model: Any, share: float) -> None:
    """Refuse a student of which no layer can go, before it is trained.

    Some models build a layer by its number, as one with experts, or as one that shares keys and
    values with an earlier one. Without other layers it would have another number, and the file of
    what is left would be read as a model of other layers. No config says so of all of them. So what
    is left is compared with the model that its config builds.

    Args:
        name: of the student.
        model: of transformers, which is left as it was.
        share: of the layers that may go at most.

    Raises:
        StratosError: it is such a model, its layers are no list, or the share is less than one.
    """
    import torch

    stack = _Stack(model)
    if (n := stack.n_layers) and _most(share, n) < 1:
        raise StratosError(
            f"student.fit.depth={share:g} lets none of the {n} layers of {name} go. Type at least "
            f"student.fit.depth={ceil(1000 / n) / 1000:g}, or student.fit.depth=false."
        )
    are_same = stack.n_layers > 0
    for layers in stack.trials:
        stack.keep(layers)
        try:
            with torch.device("meta"):
                built = _Stack(type(model)(copy.deepcopy(model.config)))
            are_same = are_same and built.described == stack.described
            with torch.inference_mode():
                model(torch.zeros((1, 4), dtype=torch.long, device=model.device))
        except Exception:  # whatever a model, or its cache, says of layers that it does not have
            are_same = False
    stack.keep(range(stack.n_layers))
    if not are_same:
        raise StratosError(
            f"The student {name} cannot lose layers: {type(model).__name__} builds each by its "
            "place, or needs some of each kind, so that what is left would not be read back as it "
            "was. Train the whole one: student.fit.depth=false"
        )


def keep_layers(model: Any, layers: Sequence[int]) -> None:
    """Leave a model of transformers some of its layers, in place."""
    _Stack(model).keep(layers)


class _Stack:
    """The layers of a model of transformers, of which some can be taken."""

    def __init__(self, model: Any) -> None:
        import torch

        self._part = model.get_decoder()
        text = model.config.get_text_config()
        self._configs = (text, self._part.config)
        lists: dict[str, list[Any]] = {
            name: list(child)
            for name, child in self._part.named_children()
            if isinstance(child, torch.nn.ModuleList) and len(child) == text.num_hidden_layers
        }
        if len(lists) != 1:
            lists = {"": []}
        [(self._name, self._blocks)] = lists.items()
        self._of_layers = {
            name: value
            for name, value in self._part.config.to_dict().items()
            if "layer" in name and isinstance(value, list) and len(value) == len(self._blocks)
        }
        """Settings that have a value for each layer."""

    @property
    def n_layers(self) -> int:
        """Layers of the whole model; 0 where they are no list of their own."""
        return len(self._blocks)

    @property
    def trials(self) -> list[list[int]]:
        """Layers that are left in a few cases which tell whether they depend on their places."""
        n = self.n_layers
        parts = [[*range(1, n)], [*range(n - 1)], [*range(0, n, 2)], [*range(1, n, 2)]]
        for kinds in self._of_layers.values():
            parts += [[k for k in range(n) if kinds[k] == kind] for kind in kinds]
        return [part for number, part in enumerate(parts) if part and part not in parts[:number]]

    @property
    def described(self) -> dict[str, tuple[Any, ...]]:
        """Each module of the layers that are left: its class, its settings and its shapes."""
        modules = getattr(self._part, self._name).named_modules()
        return {name: _described(module) for name, module in modules}

    def keep(self, layers: Sequence[int]) -> None:
        """Give the model some of its layers, numbered anew: a cache has room for each."""
        import torch

        if not self._blocks:
            return
        blocks = torch.nn.ModuleList(self._blocks[index] for index in layers)
        setattr(self._part, self._name, blocks)
        for number, block in enumerate(blocks):
            for module in block.modules():
                if isinstance(getattr(module, "layer_idx", None), int):
                    setattr(module, "layer_idx", number)  # noqa: B010  # of any class
        for config in self._configs:
            config.num_hidden_layers = len(layers)
            for name, values in self._of_layers.items():
                setattr(config, name, [values[index] for index in layers])


def _described(module: Any) -> tuple[Any, ...]:
    """Return the class of a module, its plain public settings, and the shapes of its weights."""
    plain = (bool, int, float, str, tuple, list, type(None))
    settings = {
        name: value
        for name, value in vars(module).items()
        if isinstance(value, plain) and not name.startswith("_") and name != "training"
    }
    shapes = {name: tuple(w.shape) for name, w in module.named_parameters(recurse=False)}
    return type(module), settings, shapes


def right_answers(
    model: Any,
    tokenizer: Any,
    chats: Sequence[list[Message]],
    answers: Sequence[str],
    labels: Sequence[str],
) -> np.ndarray:
    """Return whether a model answers each chat right, shape (chats,).

    Of labels the likeliest is its answer. Any other answer is right if each of its tokens is the
    likeliest behind those before it.
    """
    import torch

    from stratos.models.decode.batched import evaluating
    from stratos.models.decode.label_scores import score_labels

    if labels:
        scores = score_labels(model, tokenizer, chats, labels, batch_size=_BATCH)
        best = scores.logprobs_NL.argmax(axis=1)
        return np.array([labels[k] == own for k, own in zip(best, answers, strict=True)], bool)
    right = []
    with evaluating(model), torch.inference_mode():
        for chat, own in zip(chats, answers, strict=True):
            text = tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
            start = len(tokenizer(text, add_special_tokens=False)["input_ids"])
            ids = tokenizer(text + own, add_special_tokens=False)["input_ids"]
            ids_T = torch.tensor(ids, device=model.device)
            likeliest_T = model(input_ids=ids_T[None]).logits[0].argmax(-1)
            right.append(bool((likeliest_T[start - 1 : -1] == ids_T[start:]).all()))
    return np.array(right, bool)
