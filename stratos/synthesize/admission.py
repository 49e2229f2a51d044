"""Use the student to select data: skip what it knows, prefer answers it finds likely."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stratos.config import Config
from stratos.core.context import Context
from stratos.core.errors import ForeignFileError, StratosError
from stratos.core.foreign import cause
from stratos.core.names import find
from stratos.core.remote import location
from stratos.models.pretrained import load_model, load_tokenizer
from stratos.models.students import ready
from stratos.records import Plan
from stratos.tasks.base import Item, Message
from stratos.tasks.chat import instruct

if TYPE_CHECKING:
    import torch


_ASKED_AT_ONCE = 8


class _TimeIsUpError(Exception):
    """Answers take longer than they may."""


class PretrainedStudent:
    """The planned student before its training; one of random weights knows nothing.

    Args:
        path: its Hugging Face folder, or its name on the hub, from which it is fetched once.
        instruction: what it is told before every question, as it will be when it is trained.
    """

    def __init__(self, path: str, instruction: str = "") -> None:
        self.path, self._is_folder = location(path)
        self._instruction = instruction

    def knows(self, items: Sequence[Item], config: Config, context: Context) -> list[bool]:
        """Return which training questions the student answers exactly right already.

        Raises:
            StratosError: it cannot be loaded, or not be asked.
        """
        from stratos.models.decode.batched import complete

        with self._explained():
            tokenizer, model = self._loaded
            completions = complete(
                model,
                tokenizer,
                [config.task.student_messages(item) for item in items],
                max_new_tokens=config.evaluate.max_new_tokens,
                batch_size=config.evaluate.batch_size,
                tick=lambda done, total: context.tick(done, total, "asking the student first"),
            )
        pairs = zip(completions, items, strict=True)
        return [config.task.score(answer.text, item).exact == 1 for answer, item in pairs]

    def right_within(
        self,
        items: Sequence[Item],
        config: Config,
        seconds: float,
        tell: Callable[[int], None] = lambda n_done: None,
    ) -> list[bool]:
        """Return which of the first items the student answers exactly right, as time allows.

        Args:
            items: asked a few at once; those of a batch that is not through in time are left out.
            config: of the run.
            seconds: longest time, without loading.
            tell: told after each batch how many are answered.

        Raises:
            OSError: the weights cannot be loaded.
            ValueError: the folder is no causal language model, or has no chat template.
        """
        from stratos.models.decode.batched import write
        from stratos.models.decode.picks import likeliest

        tokenizer, model = self._loaded
        end = time.monotonic() + seconds

        def pick(logits_BV: torch.Tensor, prompts: Sequence[int]) -> torch.Tensor:
            if time.monotonic() > end:
                raise _TimeIsUpError
            return likeliest(logits_BV)

        right: list[bool] = []
        for start in range(0, len(items), _ASKED_AT_ONCE):
            batch = items[start : start + _ASKED_AT_ONCE]
            chats = [config.task.student_messages(item) for item in batch]
            prompts = [
                tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_dict=True)
                for chat in chats
            ]
            try:
                rows = write(
                    model,
                    tokenizer,
                    [prompt["input_ids"] for prompt in prompts],
                    max_new_tokens=config.evaluate.max_new_tokens,
                    batch_size=len(batch),
                    pick=pick,
                )
            except _TimeIsUpError:
                break
            texts = [tokenizer.decode(row, skip_special_tokens=True) for row in rows]
            right += [
                config.task.score(text, item).exact == 1
                for text, item in zip(texts, batch, strict=True)
            ]
            tell(len(right))
        return right

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
        instruct(tokenizer, self._instruction)
        model = load_model(self.path, dtype="auto", is_folder=self._is_folder)
        return tokenizer, model.to("cuda" if torch.cuda.is_available() else "cpu").eval()


def pretrained(config: Config, plan: Plan, cache_dir: Path) -> PretrainedStudent | None:
    """Return the planned student if it starts from a model, None if from random weights."""
    chosen = find(config.students, plan.student)
    if chosen is None or chosen.path is None:
        return None
    path = str(ready(chosen, cache_dir).path)
    return PretrainedStudent(path, config.task.system_prompt)
