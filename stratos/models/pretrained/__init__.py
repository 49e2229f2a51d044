"""Check model folders in Hugging Face and llama.cpp formats before loading.

Headers are read, never a tensor: what is wrong is said before anything is asked or paid.
"""

from stratos.models.pretrained.folder import (
    load_model,
    load_tokenizer,
    why_not_loadable,
    why_not_readable,
)
from stratos.models.pretrained.headers import Tensor, check_gguf, read_config, read_tensors

__all__ = [
    "Tensor",
    "check_gguf",
    "load_model",
    "load_tokenizer",
    "read_config",
    "read_tensors",
    "why_not_loadable",
    "why_not_readable",
]
