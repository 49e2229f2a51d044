"""Check model folders in Hugging Face and llama.cpp formats before loading.

Headers are read, never a tensor: what is wrong is said before anything is asked or paid.
"""

from stratos.models.pretrained.folder import (
    load_model,
    load_tokenizer,
    why_no_gguf,
    why_not_loadable,
    why_not_readable,
)
from stratos.models.pretrained.headers import Tensor, read_config, read_gguf, read_tensors

__all__ = [
    "Tensor",
    "load_model",
    "load_tokenizer",
    "read_config",
    "read_gguf",
    "read_tensors",
    "why_no_gguf",
    "why_not_loadable",
    "why_not_readable",
]
