"""Use the student to select data: skip what it knows, prefer answers it finds likely."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

from stratos.config import Config, EvaluateConfig
from stratos.core.errors import ForeignFileError, StratosError
from stratos.core.foreign import cause
from stratos.core.names import find
from stratos.core.remote import location
from stratos.models.pretrained import load_model, load_tokenizer
from stratos.models.students import ready
from stratos.records import Plan
from stratos.tasks.base import Item, Message, Task
from stratos.tasks.chat import instruct

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


def pretrained(config: Config, plan: Plan, cache_dir: Path) -> PretrainedStudent | None:
    """Return the planned student if it starts from a model, None if from random weights."""
    chosen = find(config.students, plan.student)
    if chosen is None or chosen.path is None:
        return None
    path = str(ready(chosen, cache_dir).path)
    return PretrainedStudent(path, config.task, config.evaluate)
