"""LoRA: small matrices beside frozen weights, merged into them at the end (arXiv 2106.09685)."""

from __future__ import annotations

from typing import Any

from stratos.config import TrainerConfig


def add_adapters(model: Any, config: TrainerConfig, seed: int) -> Any:
    """Return the model with trainable adapters at every linear layer of its blocks.

    The model stays an ordinary one of transformers; all else of it is frozen.
    """
    import torch
    from peft import LoraConfig, get_peft_model, prepare_model_for_kbit_training

    if config.adapter == "none":
        return model
    if config.adapter == "qlora":
        model = prepare_model_for_kbit_training(model, use_gradient_checkpointing=False)
    torch.manual_seed(seed)
    lora = LoraConfig(
        r=config.lora_rank,
        lora_alpha=config.lora_alpha,
        target_modules="all-linear",
        task_type="CAUSAL_LM",
    )
    return get_peft_model(model, lora).get_base_model()


def merge_adapters(model: Any) -> Any:
    """Add the adapters to the weights that they lie beside, and take them away."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    for name, module in list(model.named_modules()):
        if isinstance(module, BaseTunerLayer):
            module.merge()
            parent, _, child = name.rpartition(".")
            setattr(model.get_submodule(parent), child, module.get_base_layer())
    for parameter in model.parameters():
        parameter.requires_grad_(True)
    if hasattr(model, "peft_config"):
        del model.peft_config
    model._hf_peft_config_loaded = False
    return model
