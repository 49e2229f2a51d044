"""The student and its tokenizer: made before its training, with adapters, and saved behind it.

A tokenizer is trained, or of the task's own symbols. Counting tokens loads neither torch nor
transformers: the plan counts, too.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from stratos.config import StudentConfig, TrainerConfig
from stratos.core.atomic_files import replacing, room_for
from stratos.core.errors import ForeignFileError, StratosError
from stratos.core.remote import location
from stratos.models.pretrained import load_model, load_tokenizer
from stratos.models.pretrained.sample_chat import chat_writer
from stratos.models.students import folder_of
from stratos.tasks.base import Message, Symbols
from stratos.tasks.chat import instruct

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from torch import Tensor
    from transformers import PreTrainedTokenizerFast

    from stratos.config import StudentConfig
    from stratos.tasks.base import Symbols


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
    template = CHAT_TEMPLATE
    if symbols.macro:
        content = "message['content']"
        template = symbols.macro + template.replace(content, f"symbols({content})")
    return _wrap(symbol_words(symbols), template)


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


def _wrap(tokenizer: Tokenizer, template: str = CHAT_TEMPLATE) -> PreTrainedTokenizerFast:
    from transformers import PreTrainedTokenizerFast

    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        unk_token=UNKNOWN,
        eos_token=END,
        additional_special_tokens=[USER, ASSISTANT],
        chat_template=template,
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
    write = chat_writer(file.parent)

    def count(chat: Sequence[Message], answer: str) -> Tokens:
        prompt = write(chat, True)
        if prompt is None:
            n_prompt = sum(map(length, _asked(chat))) + _TEMPLATE_TOKENS
        else:
            n_prompt = length(prompt)
        return Tokens(n_prompt, length(answer) + 1)

    return count


def make_student(
    student: StudentConfig,
    symbols: Symbols | None,
    texts: Iterable[str],
    seed: int,
    in_4_bits: bool = False,
    tokenizer: Any | None = None,
    instruction: str = "",
) -> tuple[Any, Any]:
    """Return model and tokenizer of a student.

    Args:
        student: its config; `path` names existing weights, else they are random, from `seed`.
        symbols: the task's own symbols, None to train a tokenizer on `texts`.
        texts: the corpus, read only where a tokenizer has to be trained.
        seed: seed of the random weights.
        in_4_bits: load existing weights in 4 bits, to train adapters beside them.
        tokenizer: what random weights read in, in place of symbols and of one that is trained.
        instruction: what existing weights are told before every question, by the chat template.

    Raises:
        StratosError: the weights at `path` cannot be loaded.
    """
    import torch
    from transformers import (
        GenerationConfig,
        LlamaConfig,
        LlamaForCausalLM,
    )

    if student.path is not None:
        where, is_folder = location(student.path)
        four_bits = {"quantization_config": _four_bits()} if in_4_bits else {}
        try:
            tokenizer = load_tokenizer(where, is_folder=is_folder)
            model = load_model(where, dtype=torch.float32, is_folder=is_folder, **four_bits)
        except ForeignFileError as error:
            raise StratosError(
                f"The student {student.name} cannot be loaded. {error}\n"
                "Give a Hugging Face folder with safetensors: student=local student.path=<folder>"
            ) from error
        instruct(tokenizer, instruction)
        return model, tokenizer
    if tokenizer is None and symbols is not None:
        tokenizer = symbol_tokenizer(symbols)
    elif tokenizer is None:
        tokenizer = trained_tokenizer(texts, student.vocab_size)
    torch.manual_seed(seed)
    fresh = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=student.hidden_size,
            intermediate_size=student.intermediate_size,
            num_hidden_layers=student.n_layers,
            num_attention_heads=student.n_heads,
            num_key_value_heads=student.n_heads,
            max_position_embeddings=student.context_length,
            tie_word_embeddings=True,
            bos_token_id=None,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )
    fresh.generation_config = GenerationConfig(
        do_sample=False,
        max_new_tokens=min(768, student.context_length - 64),
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return fresh, tokenizer


def _four_bits() -> Any:
    """Return NF4, as QLoRA has it (arXiv 2305.14314)."""
    import torch
    from transformers import BitsAndBytesConfig

    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
    )


def save_student(model: Any, tokenizer: Any, folder: str | Path) -> None:
    """Write model and tokenizer as an ordinary Hugging Face folder, safetensors only, whole.

    Raises:
        DiskFull: there is no room for it.
    """
    from transformers.utils import logging

    logging.disable_progress_bar()  # a model of this size is written before a bar is drawn
    folder = Path(folder)
    n_bytes = sum(weight.numel() * weight.element_size() for weight in model.parameters())
    with replacing(folder) as new, room_for(n_bytes, new, f"the {folder.name} model"):
        model.save_pretrained(new)
        tokenizer.save_pretrained(new)


def add_adapters(model: Any, config: TrainerConfig, seed: int) -> Any:
    """Return the model with trainable adapters at every linear layer of its blocks.

    The model stays an ordinary one of transformers; all else of it is frozen.
    """
    if config.adapter == "none":
        return model
    if config.adapter != "qlora":
        # peft imports bitsandbytes where it is there, which warns of 4-bit kernels it has not.
        logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    import torch
    from peft import LoraConfig, get_peft_model, prepare_model_for_kbit_training

    if config.adapter == "qlora":
        model = prepare_model_for_kbit_training(model, use_gradient_checkpointing=False)
    torch.manual_seed(seed)
    lora = LoraConfig(
        r=config.lora_rank,
        lora_alpha=config.lora_alpha,
        target_modules="all-linear",
        task_type="CAUSAL_LM",
    )
    with warnings.catch_warnings():
        # peft reads a property that transformers has renamed, which is nothing to the user.
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing`", FutureWarning)
        return get_peft_model(model, lora).get_base_model()


def checkpoint_blocks(model: Any, is_on: bool) -> None:
    """Let a training keep the inputs of a model's blocks alone, or all of their values again."""
    # Transformers renamed both in the course of version 5.
    name = "activation" if hasattr(model, "activation_checkpointing_enable") else "gradient"
    if is_on:
        getattr(model, f"{name}_checkpointing_enable")({"use_reentrant": False})
    else:
        getattr(model, f"{name}_checkpointing_disable")()


def restore_4_bits(model: Any) -> None:
    """Undo what bitsandbytes makes of 4-bit weights in evaluation mode on some CPUs.

    It lays them out for fast inference, through which no gradient flows; its `state_dict` undoes
    that in place.
    """
    for module in _in_4_bits(model):
        module.state_dict()


def has_4_bits(model: Any) -> bool:
    """Return whether weights are in 4 bits."""
    return any(True for _ in _in_4_bits(model))


def _in_4_bits(model: Any) -> Iterator[Any]:
    for module in model.modules():
        if hasattr(getattr(module, "weight", None), "quant_state"):
            yield module


def merged_weights(model: Any) -> dict[str, Tensor]:
    """Return the adapted weights in float32, by the names that they have without adapters.

    Weights in 4 bits are unpacked first, because these are what the adapters were trained beside:
    added to the original ones, they would make another model than the one that was measured.
    """
    from peft.tuners.lora import LoraLayer
    from peft.utils.integrations import dequantize_module_weight

    restore_4_bits(model)
    layers: dict[str, Any] = {
        name: layer for name, layer in model.named_modules() if isinstance(layer, LoraLayer)
    }
    return {
        f"{name}.weight": dequantize_module_weight(layer.get_base_layer()).detach().float()
        + layer.get_delta_weight("default").detach().float()
        for name, layer in layers.items()
    }
