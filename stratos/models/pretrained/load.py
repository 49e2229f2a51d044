"""Load tokenizers and models in one place: safetensors only, no remote code."""

from __future__ import annotations

import ctypes
import gc
import io
import os
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from pathlib import Path
from typing import Any

from stratos.core.errors import ForeignFileError
from stratos.core.foreign import reading


@contextmanager
def quiet_loading() -> Iterator[None]:
    """Hide the bars, tables and warnings that loaders write, whatever logging is set up as."""
    from transformers.utils import logging

    before = logging.get_verbosity()  # sets up the log handler, which has to keep the real stderr
    shown = logging.is_progress_bar_enabled()
    logging.set_verbosity(logging.CRITICAL)
    logging.disable_progress_bar()
    try:
        # The GGUF loader draws its bar whatever it was told.
        with redirect_stderr(io.StringIO()):
            yield
    finally:
        logging.set_verbosity(before)
        if shown:
            logging.enable_progress_bar()


_MOST_NAMED = 3


def load_tokenizer(path: str | Path, *, is_folder: bool = True, **more: Any) -> Any:
    """Return the tokenizer of a folder, or of a model of the hub.

    Args:
        path: of the folder, or name on the hub.
        is_folder: nothing is fetched for a folder of this machine.
        more: further arguments of `from_pretrained`.

    Raises:
        ForeignFileError: it cannot be loaded.
    """
    from transformers import AutoTokenizer

    with reading(f"The tokenizer in {path}"), quiet_loading():
        return AutoTokenizer.from_pretrained(
            path, local_files_only=is_folder, trust_remote_code=False, **more
        )


def load_model(path: str | Path, *, dtype: Any, is_folder: bool = True, **more: Any) -> Any:
    """Return the causal language model of a folder, or of the hub, with all of its weights.

    Args:
        path: of the folder, or name on the hub.
        dtype: type of the weights in memory, as transformers takes it.
        is_folder: nothing is fetched for a folder of this machine.
        more: further arguments of `from_pretrained`.

    Raises:
        ForeignFileError: it cannot be loaded, or lacks weights of its model.
    """
    from transformers import AutoModelForCausalLM

    with reading(f"The model in {path}"), quiet_loading():
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            path,
            dtype=dtype,
            use_safetensors=True,
            local_files_only=is_folder,
            trust_remote_code=False,
            output_loading_info=True,
            **more,
        )
    model, report = loaded
    if lacking := sorted(report["missing_keys"]):
        # The loader draws at random what a file lacks, and goes on.
        named = ", ".join(lacking[:_MOST_NAMED])
        raise ForeignFileError(
            f"The model in {path} cannot be read: its weights lack {named}"
            + (f" and {len(lacking) - _MOST_NAMED} more." if len(lacking) > _MOST_NAMED else ".")
        )
    return model


def free_memory() -> None:
    """Free models that only their own parts still refer to, and hand their memory back."""
    import torch

    gc.collect()
    # glibc keeps what lies below memory that is in use.
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if os.name == "posix" else None
    if trim is not None:
        trim(0)
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
