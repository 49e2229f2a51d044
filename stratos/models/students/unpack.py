"""Convert a GGUF file to an ordinary Hugging Face folder."""

from __future__ import annotations

import io
import shutil
import tempfile
from contextlib import redirect_stderr, suppress
from pathlib import Path
from typing import Any

from stratos.models.pretrained import load_model, load_tokenizer
from stratos.teachers.weights import Weights


def unpack(weights: Weights, folder: Path) -> None:
    """Write a GGUF file as safetensors in bf16, with its tokenizer; the folder appears whole.

    Where another process unpacks the same at the same time, the first that is ready counts.

    Raises:
        OSError: the folder cannot be written.
    """
    import torch
    import transformers

    unpacked: dict[str, Any] = {}
    # Versions without this setting unpack the weights of every GGUF file.
    if hasattr(transformers, "GgufConfig"):
        unpacked["quantization_config"] = transformers.GgufConfig(dequantize=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    staged = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        with redirect_stderr(io.StringIO()):  # the GGUF loader draws its bar all the same
            tokenizer = load_tokenizer(weights.location, gguf_file=weights.gguf)
            model = load_model(
                weights.location, gguf_file=weights.gguf, dtype=torch.float32, **unpacked
            )
            model.to(torch.bfloat16).save_pretrained(staged)
            tokenizer.save_pretrained(staged)
        with suppress(OSError):
            staged.rename(folder)
        if not folder.is_dir():
            raise OSError(f"the folder {folder} cannot be made")
    finally:
        shutil.rmtree(staged, ignore_errors=True)
