"""Which training items are admitted: none that is held out, and what a student learns most from.

Decontamination: no training item may match a held-out item, exactly or in part. What is held out is
chosen by a hash of each question's canonical form before anything is asked or generated. This is
the second line: each training item is compared with what was held out
(`stratos.tasks.dedup.copies`), and what is refused is counted.

A student that starts from a model selects data, too: what it knows is skipped, and answers that it
finds likely are preferred.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

from stratos.config import Config, EvaluateConfig, StudentConfig
from stratos.core.errors import ForeignFileError, StratosError
from stratos.core.foreign import cause
from stratos.core.remote import location
from stratos.core.values import find
from stratos.models.kinds.student_kinds import MOST_ROWS
from stratos.models.pretrained import load_model, load_tokenizer
from stratos.models.students import ready
from stratos.records import Plan
from stratos.tasks.base import Item, Message, Task
from stratos.tasks.chat import instruct
from stratos.tasks.dedup.copies import HeldOut, grams_of

_ASKED_AT_ONCE = 8


class _TimeIsUpError(Exception):
    """Answers take longer than they may."""


class PretrainedStudent:
    """The planned student before its training; one of random weights knows nothing.

    Args:
        path: its Hugging Face folder, or its name on the hub, from which it is fetched once.
        task: whose questions it is asked, with the instruction that it will be trained on.
        evaluate: how long its answers may be, and how many are asked for at once.
    """

    def __init__(self, path: str, task: Task, evaluate: EvaluateConfig) -> None:
        self.path, self._is_folder = location(path)
        self._task, self._evaluate = task, evaluate

    def knows(
        self, items: Sequence[Item], tick: Callable[[int, int], None] | None = None
    ) -> list[bool]:
        """Return which training questions the student answers exactly right already.

        Raises:
            StratosError: it cannot be loaded, or not be asked.
        """
        with self._explained():
            return self._right(items, tick=tick)

    def right_within(
        self,
        items: Sequence[Item],
        seconds: float,
        tell: Callable[[int], None] = lambda n_done: None,
    ) -> list[bool]:
        """Return which of the first items the student answers exactly right, as time allows.

        Args:
            items: asked a few at once; those of a batch that is not through in time are left out.
            seconds: longest time, without loading.
            tell: told after each batch how many are answered.

        Raises:
            OSError: the weights cannot be loaded.
            ValueError: the folder is no causal language model, or has no chat template.
        """
        _ = self._loaded
        end = time.monotonic() + seconds

        def poll() -> None:
            if time.monotonic() > end:
                raise _TimeIsUpError

        right: list[bool] = []
        for start in range(0, len(items), _ASKED_AT_ONCE):
            try:
                right += self._right(items[start : start + _ASKED_AT_ONCE], poll=poll)
            except _TimeIsUpError:
                break
            tell(len(right))
        return right

    def _right(self, items: Sequence[Item], **progress: Any) -> list[bool]:
        from stratos.models.decode.batched import complete

        tokenizer, model = self._loaded
        completions = complete(
            model,
            tokenizer,
            [self._task.student_messages(item) for item in items],
            max_new_tokens=self._evaluate.max_new_tokens,
            batch_size=self._evaluate.batch_size,
            **progress,
        )
        pairs = zip(completions, items, strict=True)
        return [self._task.score(answer.text, item).exact == 1 for answer, item in pairs]

    def likelihood(self, chat: list[Message], texts: Sequence[str]) -> list[float]:
        """Return the mean log-likelihood of a token of each text as the answer to a chat.

        Raises:
            StratosError: the student cannot be loaded, or not be asked.
        """
        import torch

        with self._explained():
            tokenizer, model = self._loaded
            encoded = tokenizer.apply_chat_template(
                chat, add_generation_prompt=True, return_dict=True
            )
        prompt: list[int] = encoded["input_ids"]
        end = [] if tokenizer.eos_token_id is None else [tokenizer.eos_token_id]
        scores = []
        for text in texts:
            answer = tokenizer(text, add_special_tokens=False)["input_ids"] + end
            tokens_T = torch.tensor(prompt + answer, device=model.device)
            with torch.inference_mode():
                logits_TV = model(tokens_T[None]).logits[0].float()
            places_A = torch.arange(len(prompt) - 1, len(tokens_T) - 1, device=model.device)
            scores_AV = logits_TV[places_A].log_softmax(-1)
            wanted_A = tokens_T[len(prompt) :, None]
            scores.append(float(scores_AV.gather(-1, wanted_A).mean()))
        return scores

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Turn what loaders and templates raise into one message."""
        try:
            yield
        except (ForeignFileError, OSError, ValueError) as error:
            raise StratosError(
                f"The student cannot be loaded from {self.path} to measure it before training: "
                f"{cause(error.__cause__ or error)}\nGive a Hugging Face folder with safetensors: "
                "student=local student.path=<folder>, or connect this machine to the hub once "
                "(without HF_HUB_OFFLINE)."
            ) from error

    @cached_property
    def _loaded(self) -> tuple[Any, Any]:
        import torch

        tokenizer = load_tokenizer(self.path, is_folder=self._is_folder)
        instruct(tokenizer, self._task.system_prompt)
        model = load_model(self.path, dtype="auto", is_folder=self._is_folder)
        return tokenizer, model.to("cuda" if torch.cuda.is_available() else "cpu").eval()


def pretrained(
    task: Task,
    students: Sequence[StudentConfig],
    evaluate: EvaluateConfig,
    plan: Plan,
    cache_dir: Path,
) -> PretrainedStudent | None:
    """Return the planned student if it starts from a model, None if from random weights."""
    chosen = find(students, plan.student)
    if chosen is None or chosen.path is None:
        return None
    path = str(ready(chosen, cache_dir).path)
    return PretrainedStudent(path, task, evaluate)


_N_FOR_PHRASES = 1000
"""Training questions that are read for phrases."""
NEAR = "near duplicate"
"""Why a training item is refused: another one says nearly the same."""


def held_out(config: Config) -> HeldOut:
    """Return what this run may not train on: every validation and test item, or all that it reads.

    A task that can list all of them does so with its method `held_out`; one that draws without end
    has its splits by hash, and those that are read are compared once more.
    """
    task = config.task
    if (listed := listed_by(task)) is not None:
        return listed
    probe = config.probe
    n_validation = max(probe.n_items, probe.max_items, config.callbacks.n_validation_read)
    validated = task.items("validation", n_validation)
    tested = task.items("test", config.evaluate.n_items, config.seed)
    return _held_out(task, validated + tested)


def listed_by(task: Task) -> HeldOut | None:
    """Return every validation and test item of a task; None where it cannot list them."""
    items = task.held_out()
    return None if items is None else _held_out(task, items)


def labelled_rows(task: Task) -> list[Item]:
    """Return training rows of the task's own file, at most `MOST_ROWS`; none where it has none.

    Of a task that can list what it holds out, a row that repeats some of it is left out, as it is
    for the student.
    """
    if not task.has_rows:
        return []
    rows, listed = task.items("train", MOST_ROWS), listed_by(task)
    if listed is None:
        return rows
    return [item for item in rows if listed.leak(item, task.completion(item)) is None]


def _held_out(task: Task, items: Sequence[Item]) -> HeldOut:
    if not task.compares_words:
        return HeldOut(items, (), lambda question: "")
    return HeldOut(items, _others(task, items), task.own_words)


def without_leaks(excluded: HeldOut, items: Iterable[Item], refused: Counter[str]) -> list[Item]:
    """Return the items whose question repeats no held-out one; the others are counted.

    Args:
        excluded: what may not be trained on.
        items: that somebody would be asked for.
        refused: reason to how many; added to.
    """
    clean = []
    for item in items:
        if (leak := excluded.leak(item)) is None:
            clean.append(item)
        else:
            refused[leak] += 1
    return clean


def _others(task: Task, items: Sequence[Item]) -> list[Item]:
    if not any(True for item in items for _ in grams_of(task.own_words(item.question))):
        return []
    return task.items("train", _N_FOR_PHRASES)
