"""The student's tokenizer: trained, or of the task's own symbols; and tokens counted before.

Counting loads neither torch nor transformers: the plan counts, too.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from stratos.config import StudentConfig
from stratos.models.students import folder_of
from stratos.tasks.base import Message, Symbols

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

PAD, UNKNOWN, USER, ASSISTANT, END = "<pad>", "<unk>", "<user>", "<assistant>", "<end>"
SPECIAL = (PAD, UNKNOWN, USER, ASSISTANT, END)

# A student of random weights knows questions alone: a system message, which many clients send, is
# left out.
CHAT_TEMPLATE = (
    "{%- for message in messages -%}"
    "{%- if message['role'] == 'assistant' -%}"
    "<assistant>{% generation %}{{ message['content'] }}<end>{% endgeneration %}"
    "{%- elif message['role'] == 'user' -%}<user>{{ message['content'] }}{%- endif -%}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}<assistant>{%- endif -%}"
)


def symbol_tokenizer(symbols: Symbols) -> PreTrainedTokenizerFast:
    """Return a tokenizer that looks a task's own symbols up."""
    return _wrap(symbol_words(symbols))


def trained_tokenizer(texts: Iterable[str], vocab_size: int) -> PreTrainedTokenizerFast:
    """Return a byte-level BPE tokenizer trained on `texts`."""
    return _wrap(byte_pairs(texts, vocab_size))


def symbol_words(symbols: Symbols) -> Tokenizer:
    """Return what cuts a text into a task's own symbols."""
    from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

    vocabulary = {word: id_ for id_, word in enumerate((*SPECIAL, *symbols.vocabulary))}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=UNKNOWN))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Replace(Regex(pattern), text) for pattern, text in symbols.rewrites]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(symbols.pattern), behavior="isolated")
    tokenizer.decoder = decoders.Fuse()
    return tokenizer


def byte_pairs(texts: Iterable[str], vocab_size: int) -> Tokenizer:
    """Return what cuts a text into the byte pairs that are frequent in `texts`."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=list(SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def _wrap(tokenizer: Tokenizer) -> PreTrainedTokenizerFast:
    from transformers import PreTrainedTokenizerFast

    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        unk_token=UNKNOWN,
        eos_token=END,
        additional_special_tokens=[USER, ASSISTANT],
        chat_template=CHAT_TEMPLATE,
        clean_up_tokenization_spaces=False,
        padding_side="left",
    )


BYTES_PER_TOKEN = 4.0
"""Of a tokenizer that is not at hand."""
_TEMPLATE_TOKENS, _OWN_TEMPLATE_TOKENS = 20, 2
"""What a chat template puts around a question, where it cannot be rendered; and around that of a
student with a tokenizer of its own."""


class Tokens(NamedTuple):
    """Tokens of a row."""

    prompt: float
    """Of the chat, as its template writes it."""
    answer: float
    """Of the answer, its end included."""

    @property
    def total(self) -> float:
        """Tokens of both."""
        return self.prompt + self.answer


Count = Callable[[Sequence[Message], str], Tokens]
"""Takes a chat and the answer to it, and returns the tokens of both."""


def counter(
    student: StudentConfig,
    symbols: Symbols | None,
    rows: Sequence[tuple[Sequence[Message], str]],
    cache_dir: Path,
) -> Count:
    """Return what counts a student's tokens.

    Args:
        student: the student.
        symbols: of the task, if it has its own.
        rows: chats and answers as they will be trained on, or a sample of them.
        cache_dir: where what comes in packages is unpacked.
    """
    if student.path is not None:
        folder = folder_of(student, cache_dir)
        return _of_folder(folder / "tokenizer.json") if folder is not None else by_bytes
    if symbols is not None:
        words = symbol_words(symbols)
    else:
        words = byte_pairs((text for row in rows for text in _texts(*row)), student.vocab_size)

    length = _n_tokens(words)

    def count(chat: Sequence[Message], answer: str) -> Tokens:
        return Tokens(sum(map(length, _asked(chat))) + _OWN_TEMPLATE_TOKENS, length(answer) + 1)

    return count


def _texts(chat: Sequence[Message], answer: str) -> list[str]:
    return [*_asked(chat), answer]


def _asked(chat: Sequence[Message]) -> list[str]:
    return [message["content"] for message in chat]


def _n_tokens(tokenizer: Tokenizer) -> Callable[[str], int]:
    return lambda text: len(tokenizer.encode(text, add_special_tokens=False).ids)


def by_bytes(chat: Sequence[Message], answer: str) -> Tokens:
    """Count for a student whose tokenizer is not at hand."""
    n_asked = sum(len(text.encode()) for text in _asked(chat))
    return Tokens(
        n_asked / BYTES_PER_TOKEN + _TEMPLATE_TOKENS, len(answer.encode()) / BYTES_PER_TOKEN + 1
    )


def _of_folder(file: Path) -> Count:
    """Return what counts with the tokenizer and the chat template of a model's folder."""
    from tokenizers import Tokenizer

    try:
        length = _n_tokens(Tokenizer.from_file(str(file)))
    except Exception:  # the library has one class for all that may be wrong with a file
        return by_bytes
    render = _template(file.parent)

    def count(chat: Sequence[Message], answer: str) -> Tokens:
        prompt = render(chat)
        if prompt is None:
            n_prompt = sum(map(length, _asked(chat))) + _TEMPLATE_TOKENS
        else:
            n_prompt = length(prompt)
        return Tokens(n_prompt, length(answer) + 1)

    return count


def _template(folder: Path) -> Callable[[Sequence[Message]], str | None]:
    """Return what writes a chat as a prompt; it returns None where the template cannot be used."""
    from jinja2.exceptions import TemplateError
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    try:
        own = folder / "chat_template.jinja"
        config = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
        source = own.read_text(encoding="utf-8") if own.is_file() else config["chat_template"]
        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
        )
        # A mark of transformers' own, which writes nothing.
        source = re.sub(r"{%-?\s*(end)?generation\s*-?%}", "", source)
        template = environment.from_string(source)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, TemplateError):
        return lambda _: None

    def render(chat: Sequence[Message]) -> str | None:
        try:
            return template.render(
                messages=list(chat), add_generation_prompt=True, **_special(config)
            )
        except (TemplateError, TypeError, ValueError):
            return None

    return render


def _special(config: dict[str, object]) -> dict[str, object]:
    """Return the special tokens that templates name."""
    names = ("bos_token", "eos_token", "pad_token", "unk_token")
    return {name: config[name] for name in names if isinstance(config.get(name), str)}
