"""Read a GGUF file once for config, tokenizer and weights.

Parsing takes seconds (the `gguf` package makes an object of every word of the vocabulary), and the
table of tensor names is built once for every submodule of the model.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from functools import cache
from typing import Any
from unittest.mock import patch


@contextmanager
def parsed_once() -> Iterator[None]:
    """Parse each GGUF file once within this block, however often it is loaded from."""
    try:
        import gguf
        from transformers import modeling_gguf_pytorch_utils as loader
    except ImportError:  # transformers says what is missing
        yield
        return
    load = loader.load_gguf_checkpoint
    header = cache(load)

    def load_once(path: Any, *args: Any, **kwargs: Any) -> Any:
        wants_tensors = args or kwargs.get("return_tensors")
        return load(path, *args, **kwargs) if wants_tensors else deepcopy(header(path))

    with (
        patch.object(gguf, "GGUFReader", cache(gguf.GGUFReader)),
        patch.object(gguf, "get_tensor_name_map", cache(gguf.get_tensor_name_map)),
        patch.object(loader, "load_gguf_checkpoint", load_once),
    ):
        yield
