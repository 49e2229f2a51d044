"""The student: made before its training, with adapters where these are trained, saved behind it."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stratos.config import TrainerConfig
from stratos.core.atomic_files import replacing, room_for
from stratos.core.errors import ForeignFileError, StratosError
from stratos.core.remote import location
from stratos.distill.tokenizer import symbol_tokenizer, trained_tokenizer
from stratos.models.pretrained import load_model, load_tokenizer
from stratos.tasks.chat import instruct

if TYPE_CHECKING:
    from torch import Tensor

    from stratos.config import StudentConfig
    from stratos.tasks.base import Symbols


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
