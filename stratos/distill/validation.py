"""Validation items: a few during training for model selection, more at the end."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from stratos.config import CallbacksConfig, EvaluateConfig
from stratos.core.context import unsaid
from stratos.core.errors import StratosError
from stratos.distill.data import Batch, Encoded, encode, pack
from stratos.distill.module import TEXT, Learner
from stratos.models.decode.batched import complete, evaluating
from stratos.models.decode.decoder import Decoder, Decoding
from stratos.models.decode.label_scores import LabelAnswers, fitted_temperature, score_labels
from stratos.tasks.base import Item, Task

_N_SAMPLES = 4
"""Answers of a measurement that are shown while the run works."""
_LEAST_SECONDS = 30.0
_SHARE_OF_TRAINING = 0.1
"""Longest time of the last measurement, as a part of the training's; never below the least."""


class _TimeIsUpError(Exception):
    """Answers take longer than they may."""


@dataclass(frozen=True)
class Validated:
    """What the kept weights reach on validation items."""

    exact: float
    n_items: int
    n_reused: int
    """How many of the items also chose the weights."""
    n_choosing: int
    """Items by which the weights were chosen."""
    temperature: float = 1.0
    """At which the probabilities of labels are calibrated on these items."""


@dataclass(frozen=True)
class Validator:
    """Asks a student about validation items."""

    task: Task
    callbacks: CallbacksConfig
    evaluate: EvaluateConfig
    tokenizer: Any
    labels: Sequence[str] = ()
    """Those that it answers with; none where it writes its answers."""

    def choosing_items(self) -> list[Item]:
        """Return the items by which the weights are chosen."""
        return self.task.items("validation", self.callbacks.n_validation_items)

    def final_items(self) -> tuple[list[Item], int]:
        """Return the items of the last measurement, and how many of them, at its end, are reused.

        Those that chose the weights come last, so that they are asked only where there are no
        others.
        """
        n_choosing = self.callbacks.n_validation_items
        rows = self.task.items("validation", self.callbacks.n_validation_read)
        items = [*rows[n_choosing:], *rows[:n_choosing]][: self.callbacks.n_final]
        return items, max(0, len(items) - len(rows[n_choosing:]))

    def right(
        self,
        model: Any,
        items: Sequence[Item],
        poll: Callable[[], None],
        max_new_tokens: int | None = None,
        choose_threads: bool = True,
        sample: Callable[..., None] = unsaid,
    ) -> tuple[list[float], np.ndarray | None]:
        """Return 1 or 0 for each item, and the scores of all labels, (N, L), where there are some.

        Args:
            model: of the student.
            items: that it is asked.
            poll: called behind every token.
            max_new_tokens: longest answer that it writes; None takes that of the evaluation.
            choose_threads: take the fastest number of threads.
            sample: shown some of the answers: question, gold answer, answer, whether it is right.
        """
        chats = [self.task.student_messages(item) for item in items]
        batch_size, logprobs_NL = self.evaluate.batch_size, None
        if self.labels:
            scores = score_labels(
                model, self.tokenizer, chats, self.labels, batch_size=batch_size, poll=poll
            )
            logprobs_NL = scores.logprobs_NL
            texts = [
                answer.text for answer in LabelAnswers(tuple(self.labels)).predictions(logprobs_NL)
            ]
        else:
            completions = complete(
                model,
                self.tokenizer,
                chats,
                max_new_tokens=max_new_tokens or self.evaluate.max_new_tokens,
                batch_size=batch_size,
                poll=poll,
                choose_threads=choose_threads,
                decoding=Decoding(Decoder(self.evaluate.decoder)),
            )
            texts = [completion.text for completion in completions]
        pairs = list(zip(texts, items, strict=True))
        right = [self.task.score(text, item).exact for text, item in pairs]
        for (text, item), exact in list(zip(pairs, right, strict=True))[:_N_SAMPLES]:
            sample(item.question, item.answer, text, exact == 1)
        return right, logprobs_NL

    def validate_kept(
        self,
        model: Any,
        training_seconds: float,
        tick: Callable[[int, int], None] = lambda done, total: None,
    ) -> Validated:
        """Measure the kept weights on as many items as the time allows, a batch at least.

        Args:
            model: with the weights that are kept.
            training_seconds: how long the training took.
            tick: called with (done, total).
        """
        model.to("cuda" if torch.cuda.is_available() else "cpu")
        items, n_reused = self.final_items()
        end = time.monotonic() + max(_LEAST_SECONDS, _SHARE_OF_TRAINING * training_seconds)
        right: list[float] = []
        logprobs: list[np.ndarray] = []

        def poll() -> None:
            if right and time.monotonic() > end:
                raise _TimeIsUpError

        for start in range(0, len(items), self.evaluate.batch_size):
            batch = items[start : start + self.evaluate.batch_size]
            try:
                scores, logprobs_NL = self.right(model, batch, poll)
            except _TimeIsUpError:
                break
            right += scores
            if logprobs_NL is not None:
                logprobs.append(logprobs_NL)
            tick(len(right), len(items))
        n_again = max(0, len(right) - (len(items) - n_reused))
        temperature = 1.0
        if logprobs:
            is_right = [score == 1 for score in right]
            temperature = fitted_temperature(np.concatenate(logprobs), is_right)
        n_choosing = len(self.choosing_items())
        return Validated(sum(right) / len(right), len(right), n_again, n_choosing, temperature)


_ROW_TOKENS = 4096
"""Tokens of a row that the loss is measured on at once."""
_LONGER = 2
"""Answers may be so many times as long as the longest that is learned: one that is longer does not
come to its end."""


_N_FORETOLD, _TOKENS_FORETOLD = 32, 4
"""Answers, and tokens of each, from which the time of all is foretold."""


@dataclass(frozen=True)
class Measured:
    """How good a student is on the validation items."""

    exact: float
    loss: float | None
    """Cross-entropy of the gold answers, in nats a token; None where none fits the context."""

    def is_no_worse_than(self, best: Measured | None) -> bool:
        """Return whether to keep this student's weights: more exact matches, or a lower loss."""
        if best is None or self.exact != best.exact:
            return best is None or self.exact > best.exact
        return self.loss is None or best.loss is None or self.loss <= best.loss


class Measuring:
    """Measures a student on the validation items of a run."""

    def __init__(
        self,
        validator: Validator,
        context: int,
        trained: Encoded,
        sample: Callable[..., None] = unsaid,
    ) -> None:
        """Take the items.

        Args:
            validator: asks about them.
            context: of the student, in tokens.
            trained: what is learned, whose answers say how long one may be.
            sample: as of `Validator.right`.
        """
        self._validator, self._items = validator, validator.choosing_items()
        self._sample = sample
        longest = int((trained.lengths - trained.prompt_lengths).max())
        self._mean_tokens = float((trained.lengths - trained.prompt_lengths).mean())
        self._max_new_tokens = min(validator.evaluate.max_new_tokens, _LONGER * longest)
        self._gold = self._encoded(context, trained.shares)

    def _encoded(self, context: int, shares: bool) -> Encoded | None:
        task, tokenizer = self._validator.task, self._validator.tokenizer
        chats = [task.student_messages(item) for item in self._items]
        golds = [task.completion(item) for item in self._items]
        try:
            return replace(encode(tokenizer, chats, golds, context)[0], shares=shares)
        except StratosError:  # none of them fits
            return None

    def __call__(self, model: Any, poll: Callable[[], None]) -> Measured:
        """Measure a model, as it is served; `poll` is called behind every token."""
        right = self._right(model, self._items, poll, self._max_new_tokens, self._sample)
        return Measured(sum(right) / len(right), self._loss(model, poll))

    def foretell_seconds(self, model: Any) -> float:
        """Return about what a measurement takes, from the first tokens of some answers."""
        items = self._items[:_N_FORETOLD]

        def seconds(items: Sequence[Item], n_tokens: int) -> float:
            started = time.perf_counter()
            self._right(model, items, lambda: None, n_tokens)
            return time.perf_counter() - started

        _ = seconds(items[:1], 1)  # the first call of all takes longer
        if self._validator.labels:
            return 2 * seconds(items, 1) * len(self._items) / len(items)
        first, some = seconds(items, 1), seconds(items, 1 + _TOKENS_FORETOLD)
        per_token = max(0.0, some - first) / _TOKENS_FORETOLD
        # Once for the answers, and once for the loss on the gold ones.
        return (2 * first + self._mean_tokens * per_token) * len(self._items) / len(items)

    def _right(
        self,
        model: Any,
        items: Sequence[Item],
        poll: Callable[[], None],
        n_tokens: int,
        sample: Callable[..., None] = unsaid,
    ) -> list[float]:
        # On the threads of the training, which goes on from what is found here.
        right, _ = self._validator.right(model, items, poll, n_tokens, False, sample)
        return right

    @torch.no_grad()
    def _loss(self, model: Any, poll: Callable[[], None]) -> float | None:
        if self._gold is None:
            return None
        learner, total, n_tokens = Learner(model), 0.0, 0
        learner.pack(True)
        try:
            with evaluating(model):  # as it is served: without dropout
                for batch in _rows(self._gold):
                    poll()
                    loss = learner(batch.to(model.device), None, TEXT).total
                    total += float(loss) * batch.n_tokens
                    n_tokens += int(batch.n_tokens)
        finally:
            learner.pack(False)
        return total / n_tokens


def _rows(data: Encoded) -> Iterator[Batch]:
    """Yield all documents in packed rows, those of like length together."""
    order = np.argsort(data.lengths, kind="stable")
    cuts = np.cumsum(data.lengths[order]) // _ROW_TOKENS
    for documents in np.split(order, np.flatnonzero(np.diff(cuts)) + 1):
        texts = [data.text(document) for document in documents]
        yield pack(texts, data.prompt_lengths[documents], documents, shares=data.shares)
