"""Aliases: the names of our keys in Lightning, transformers and TRL."""

from __future__ import annotations

from collections.abc import Collection

_LENGTH = (
    "Tokens and epochs set the length of a training: type trainer.max_tokens=… or "
    "trainer.max_epochs=…"
)
_STEP = "The batch size is in tokens, over all devices: type trainer.batch_tokens=…"
_ACCUMULATE = (
    "Type trainer.accumulate=…, which divides the tokens of a gradient step (trainer.batch_tokens) "
    "and does not multiply them."
)
_RATES = (
    "Type trainer.lr_muon=… for the 2-D weights of the blocks, and trainer.lr_adamw=… for "
    "everything else."
)
_SCHEDULE = "There is one schedule: a linear warm-up (trainer.warmup_steps), then a cosine to 0."
_WEIGHTS = "an objective of your own has weights."
_CONTEXT = "Type student.context_length=…"
_FOLDER = "Type hydra.run.dir=<folder>"
_VALIDATE = "Type callbacks.validate_every_steps=…"

NAMES: dict[str, dict[str, str]] = {
    "trainer": {
        "accumulate_grad_batches": _ACCUMULATE,
        "activation_checkpointing": "checkpointing",
        "batch_size": _STEP,
        "bf16": "Type trainer.precision=bf16",
        "default_root_dir": _FOLDER,
        "ema_decay": "ema",
        "epochs": "max_epochs",
        "eval_steps": _VALIDATE,
        "fp16": "The choices are auto, bf16 and fp32: type trainer.precision=bf16",
        "gpus": "devices",
        "grad_clip": "clip_norm",
        "gradient_accumulation_steps": _ACCUMULATE,
        "gradient_checkpointing": "checkpointing",
        "gradient_clip_val": "clip_norm",
        "learning_rate": _RATES,
        "load_in_4bit": "Type trainer=qlora",
        "lora_r": "lora_rank",
        "lr": _RATES,
        "lr_scheduler": _SCHEDULE,
        "lr_scheduler_type": _SCHEDULE,
        "max_grad_norm": "clip_norm",
        "max_length": _CONTEXT,
        "max_seq_length": _CONTEXT,
        "max_steps": _LENGTH,
        "nnodes": "num_nodes",
        "num_epochs": "max_epochs",
        "num_train_epochs": "max_epochs",
        "num_warmup_steps": "warmup_steps",
        "optim": "optimizer",
        "output_dir": _FOLDER,
        "packing": "Rows are always packed: leave it out.",
        "per_device_eval_batch_size": "Type evaluate.batch_size=…",
        "per_device_train_batch_size": _STEP,
        "report_to": "Type logger=<name>, several as logger=[wandb,csv], or logger=none",
        "save_steps": "Type callbacks.checkpoint_every_steps=…",
        "seed": "Type seed=…",
        "torch_compile": "compile",
        "train_batch_size": _STEP,
        "use_peft": "Type trainer=lora",
        "val_check_interval": _VALIDATE,
        "warmup_ratio": "The warm-up is counted in steps: type trainer.warmup_steps=…",
    },
    "objective": {
        "weight_accuracy": f"Type objective.usd_per_accuracy_point=<dollars>; {_WEIGHTS}",
        "weight_cost": f"The net cost is in dollars already: leave it out; {_WEIGHTS}",
        "weight_latency": f"Type objective.usd_per_100ms=<dollars>; {_WEIGHTS}",
        "weight_time": f"Type objective.usd_per_hour_of_waiting=<dollars>; {_WEIGHTS}",
    },
    "cloud": {
        "allow_marketplaces": "marketplaces",
        "marketplace": "marketplaces",
        "clouds": "providers",
        "use_spot": "spot",
    },
    "strategy": {
        "divergence": "objective",
        "lambda": "lmbda",
        "loss": "objective",
        "loss_type": "objective",
        "num_generations": "n_samples",
        "num_return_sequences": "n_samples",
    },
    "student": {
        "max_length": "context_length",
        "max_position_embeddings": "context_length",
        "max_seq_length": "context_length",
        "model_name_or_path": "path",
        "num_attention_heads": "n_heads",
        "num_hidden_layers": "n_layers",
        "num_layers": "n_layers",
    },
}
"""Group to the names of other tools, each with our key, or with a sentence where none is alike."""


def our_name(group: str, name: str) -> str:
    """Return our key for a name of another tool; the name itself where we have none."""
    ours = NAMES.get(group, {}).get(name, name)
    return name if " " in ours else ours


def hint(where: str, name: str, value: str, known: Collection[str]) -> str:
    """Return what to type in place of another tool's name, or an empty string.

    Args:
        where: the node that has no such key, as it is typed.
        name: the key that was asked for.
        value: what it was to be.
        known: the keys that the node has.
    """
    ours = NAMES.get(where.partition(".")[0], {}).get(name, "")
    if " " in ours:
        return f" {ours}"
    return f" Here it is {ours}: type {where}.{ours}={value}" if ours in known else ""
