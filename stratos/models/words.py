"""Why a local model cannot be read, loaded, trained or decoded."""

from __future__ import annotations

from dataclasses import dataclass

from stratos.core.counted import counted
from stratos.core.reasons import Phrase, Reason, Sentence

_MOST_NAMED = 3


class InFile(Sentence):
    """Something is wrong with one file of a model."""

    name: str
    why: Reason

    template = "{self.name}: {self.why}"


class Lacks(Phrase):
    """A model lacks what every one has."""

    TOKENIZER = "it has no tokenizer (tokenizer.json or tokenizer.model)"
    TENSORS = "it holds no tensors"
    OBJECT = "it is not a JSON object"
    TEMPLATE = "it has no chat template. Choose an instruction-tuned model"


# --- config.json ----------------------------------------------------------------------------------


class NoSize(Sentence):
    """A config does not give a size that every model has."""

    what: str
    key: str

    template = "it does not give its {self.what} ({self.key})"


class NotWhole(Sentence):
    """A size is no whole number."""

    key: str
    value: str

    template = "its {self.key} is {self.value}, not a whole number"


class OutOfBounds(Sentence):
    """A size is one that no model has."""

    key: str
    value: int
    most: int

    template = "its {self.key} is {self.value}, not between 1 and {self.most:,}"


class NoMultiple(Sentence):
    """A size does not divide another one."""

    key: str
    value: int
    of_key: str
    of_value: int

    template = "its {self.key} {self.value} is not a multiple of its {self.of_key} {self.of_value}"


class NoToken(Sentence):
    """A setting of generation names no token."""

    key: str
    value: str

    template = "its {self.key} is {self.value}, not the number of a token"


# --- weights --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class OtherShape:
    """A tensor whose shape is not that of the config."""

    name: str
    shape: tuple[int, ...]
    by_config: tuple[int, ...]

    def __str__(self) -> str:
        return f"{self.name} is {_times(self.shape)} and {_times(self.by_config)} by the config"


class OtherShapes(Sentence):
    """Tensors have other shapes than the config says."""

    tensors: tuple[OtherShape, ...]

    def __str__(self) -> str:
        return f"its weights do not fit its config.json: {_listed([*map(str, self.tensors)])}"


class OtherKind(Sentence):
    """The weights are of another architecture."""

    template = "its weights are of another kind of model than its config.json says"


class LacksWeights(Sentence):
    """Tensors of the model are in no file."""

    names: tuple[str, ...]

    def __str__(self) -> str:
        return f"its weights lack {_listed([*self.names])}"


# --- chats ----------------------------------------------------------------------------------------


class WrongChat(Phrase):
    """A chat template, or the tokenizer behind it, does not write a chat."""

    USER = "its chat template leaves out the user's message"
    TOKENS = "its tokenizer makes no tokens of a chat"


class TokenBeyond(Sentence):
    """The tokenizer makes a token that the model does not have."""

    token: int
    vocab_size: int

    template = (
        "its tokenizer makes token {self.token:,} of a chat, and its config.json has a "
        "vocab_size of {self.vocab_size:,}"
    )


class Unloadable(Sentence):
    """A loader fails on a part of a model."""

    part: str
    cause: str

    template = "{self.part} cannot be read ({self.cause})"


# --- students -------------------------------------------------------------------------------------


class NotHere(Sentence):
    """The weights of a student are not on this machine."""

    commands: tuple[str, ...]
    """What brings them."""

    def __str__(self) -> str:
        return f"its weights are not on this machine. Type: {' or '.join(self.commands)}"


class ShortContext(Sentence):
    """A student reads too few tokens."""

    n_tokens: int
    least: int

    template = "it reads {self.n_tokens} tokens at most, and a student has to read {self.least}"


class Unusable(Sentence):
    """The model in a folder cannot be a student."""

    folder: str
    why: Reason

    template = "the model in {self.folder} cannot be used: {self.why}"


# --- decoding -------------------------------------------------------------------------------------


class OtherLogits(Sentence):
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
