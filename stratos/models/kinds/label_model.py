"""A language model of labels as a predictor: a text in, the likeliest label out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

from stratos.models.decode.label_scores import LabelAnswers, score_labels
from stratos.models.kinds.base import Prediction, Predictor
from stratos.models.pretrained import load_model, load_tokenizer
from stratos.tasks.base import Message

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

    def predict(self, texts: Sequence[str]) -> list[Prediction]:
        """Return the likeliest label of each text, which is read as far as the context goes."""
        scores = score_labels(
            self._model,
            self._tokenizer,
            [_chat(self._within_context(text)) for text in texts],
            self._answers.labels,
            batch_size=_AT_ONCE,
            beginning=self._beginning,
        )
        return self._answers.predictions(scores.logprobs_NL)

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
