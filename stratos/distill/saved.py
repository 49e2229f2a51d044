"""Save the trained student as an ordinary Hugging Face folder."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from stratos.distill.prepare import Ready
from stratos.models.pretrained import load_model


def save(ready: Ready, weights: dict[str, Any], folder: Path) -> tuple[Any, int, str]:
    """Write the student with its best weights; return it, its size and its weights' digest."""
    from stratos.distill.adapter import merged_weights
    from stratos.distill.student_model import save_student

    model = ready.model
    adapted = hasattr(model, "peft_config")
    if adapted:
        model.load_state_dict(weights, strict=False)
        weights = merged_weights(model)
    if adapted or any(hasattr(weight, "full_tensor") for weight in model.parameters()):
        model = load_model(folder / "untouched", dtype="float32")
    model.load_state_dict(weights, strict=False)
    save_student(model.float().eval(), ready.tokenizer, folder / "student")
    n_params = sum(parameter.numel() for parameter in model.parameters())
    return model, n_params, _digest(folder / "student")


def _digest(folder: Path) -> str:
    """Return the digest of the weights in a folder."""
    digest = hashlib.sha256()
    for path in sorted(folder.glob("*.safetensors")):
        with path.open("rb") as file:
            while block := file.read(2**24):
                digest.update(block)
    return digest.hexdigest()
