"""LoRA adapters, merged into the weights at the end (arXiv 2106.09685)."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from stratos.config import TrainerConfig

if TYPE_CHECKING:
    from torch import Tensor


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
