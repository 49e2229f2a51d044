"""Train a small tokenizer for a student, as a Hugging Face tokenizer with a chat template."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from stratos.tasks.base import Symbols

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

    vocabulary = {word: place for place, word in enumerate((*SPECIAL, *symbols.vocabulary))}
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
