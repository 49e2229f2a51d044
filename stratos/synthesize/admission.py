"""What the student brings with it: what it can do already, and which words come easily to it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from stratos.config import Config
from stratos.context import Context
from stratos.records import Plan
from stratos.tasks.base import Item, Message


class PretrainedStudent:
    """The planned student before its training; one of random weights knows nothing.

    Args:
        path: its Hugging Face folder.
    """

    def __init__(self, path: str) -> None:
        """Load nothing yet."""
        self.path = path

    def knows(self, items: Sequence[Item], config: Config, context: Context) -> list[bool]:
        """Return which training questions the student answers exactly right already."""
        from stratos.evaluate.answers import ask_folder

        answers = ask_folder(
            config.task,
            Path(self.path),
            items,
            max_new_tokens=config.evaluate.max_new_tokens,
            batch_size=config.evaluate.batch_size,
            tick=lambda done, total: context.tick(done, total, "asking the student first"),
        )
        return [score.exact == 1 for score in answers.scores]

    def likelihood(self, chat: list[Message], texts: Sequence[str]) -> list[float]:
        """Return the mean log-likelihood of a token of each text as the answer to a chat."""
        import torch

        tokenizer, model = self._loaded
        asked = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_dict=True)
        prompt: list[int] = asked["input_ids"]
        end = [] if tokenizer.eos_token_id is None else [tokenizer.eos_token_id]
        found = []
        for text in texts:
            answer = tokenizer(text, add_special_tokens=False)["input_ids"] + end
            tokens_T = torch.tensor(prompt + answer, device=model.device)
            with torch.inference_mode():
                logits_TV = model(tokens_T[None]).logits[0].float()
            places_A = torch.arange(len(prompt) - 1, len(tokens_T) - 1, device=model.device)
            scores_AV = logits_TV[places_A].log_softmax(-1)
            wanted_A = tokens_T[len(prompt) :, None]
            found.append(float(scores_AV.gather(-1, wanted_A).mean()))
        return found

    @cached_property
    def _loaded(self) -> tuple[Any, Any]:
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer

        tokenizer = AutoTokenizer.from_pretrained(self.path, local_files_only=True)
        model: Any = AutoModelForCausalLM.from_pretrained(
            self.path, dtype="auto", use_safetensors=True, local_files_only=True
        )
        return tokenizer, model.to("cuda" if torch.cuda.is_available() else "cpu").eval()


def pretrained(config: Config, plan: Plan) -> PretrainedStudent | None:
    """Return the planned student if it starts from a model, None if from random weights."""
    chosen = next((one for one in config.students if one.name == plan.student), None)
    return PretrainedStudent(chosen.path) if chosen is not None and chosen.path else None
