"""Why a local model cannot be read, loaded, trained or decoded."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from stratos.core.formats import counted
from stratos.core.reasons import Reason

_MOST_NAMED = 3


class InFile(Reason):
    """Something is wrong with one file of a model."""

    name: str
    why: Reason

    says = "{name}: {why}"


class Lacks(Reason, Enum):
    """A model lacks what every one has."""

    TOKENIZER = "it has no tokenizer (tokenizer.json or tokenizer.model)"
    TENSORS = "it holds no tensors"
    OBJECT = "it is not a JSON object"
    TEMPLATE = "it has no chat template. Choose an instruction-tuned model"


class Endless(Reason):
    """The chat template or the tokenizer of a model does not end on a short chat."""

    limit: str

    says = (
        "its chat template or its tokenizer does not end on a short chat: {limit}. Use a model "
        "that you trust"
    )


# --- config.json ----------------------------------------------------------------------------------


class NoSize(Reason):
    """A config does not give a size that every model has."""

    what: str
    key: str

    says = "it does not give its {what} ({key})"


class NotWhole(Reason):
    """A size is no whole number."""

    key: str
    value: str

    says = "its {key} is {value}, not a whole number"


class OutOfBounds(Reason):
    """A size is one that no model has."""

    key: str
    value: int
    most: int

    says = "its {key} is {value}, not between 1 and {most:,}"


class NoMultiple(Reason):
    """A size does not divide another one."""

    key: str
    value: int
    of_key: str
    of_value: int

    says = "its {key} {value} is not a multiple of its {of_key} {of_value}"


class UnknownPacking(Reason):
    """A config names a quantization that transformers does not have."""

    method: str

    says = "transformers does not know the quant_method {method} of its quantization_config"


class NoToken(Reason):
    """A setting of generation names no token."""

    key: str
    value: str

    says = "its {key} is {value}, not the number of a token"


# --- weights --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class OtherShape:
    """A tensor whose shape is not that of the config."""

    name: str
    shape: tuple[int, ...]
    by_config: tuple[int, ...]

    def __str__(self) -> str:
        return f"{self.name} is {_times(self.shape)} and {_times(self.by_config)} by the config"


class OtherShapes(Reason):
    """Tensors have other shapes than the config says."""

    tensors: tuple[OtherShape, ...]

    def __str__(self) -> str:
        return f"its weights do not fit its config.json: {_listed([*map(str, self.tensors)])}"


class OtherKind(Reason):
    """The weights are of another architecture."""

    says = "its weights are of another kind of model than its config.json says"


class LacksWeights(Reason):
    """Tensors of the model are in no file."""

    names: tuple[str, ...]

    def __str__(self) -> str:
        return f"its weights lack {_listed([*self.names])}"


# --- chats ----------------------------------------------------------------------------------------


class WrongChat(Reason, Enum):
    """A chat template, or the tokenizer behind it, does not write a chat."""

    USER = "its chat template leaves out the user's message"
    TOKENS = "its tokenizer makes no tokens of a chat"


class TokenBeyond(Reason):
    """The tokenizer makes a token that the model does not have."""

    token: int
    vocab_size: int

    says = (
        "its tokenizer makes token {token:,} of a chat, and its config.json has a "
        "vocab_size of {vocab_size:,}"
    )


class Unloadable(Reason):
    """A loader fails on a part of a model."""

    part: str
    cause: str

    says = "{part} cannot be read ({cause})"


# --- students -------------------------------------------------------------------------------------


class NotHere(Reason):
    """The weights of a student are not on this machine."""

    commands: tuple[str, ...]
    """What brings them."""

    def __str__(self) -> str:
        return f"its weights are not on this machine. Type: {' or '.join(self.commands)}"


class ShortContext(Reason):
    """A student reads too few tokens."""

    n_tokens: int
    least: int

    says = "it reads {n_tokens} tokens at most, and a student has to read {least}"


class Unusable(Reason):
    """The model in a folder cannot be a student."""

    folder: str
    why: Reason

    says = "the model in {folder} cannot be used: {why}"


# --- decoding -------------------------------------------------------------------------------------


class OtherLogits(Reason):
    """Why transformers decoded batches in place of a fast decoder."""

    n_batches: int

    def __str__(self) -> str:
        return (
            "Direct decoding gave other logits than transformers, which decoded "
            f"{counted(self.n_batches, 'batch', 'batches', spec=',')} in its place. The answers "
            "are right, and took longer. evaluate.decoder=transformers asks for no other."
        )


def _times(shape: tuple[int, ...]) -> str:
    return " × ".join(map(str, shape)) or "one number"


def _listed(names: list[str]) -> str:
    more = len(names) - _MOST_NAMED
    return ", ".join(names[:_MOST_NAMED]) + (f" and {more} more" if more > 0 else "")
