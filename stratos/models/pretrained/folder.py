"""Model folders: check for everything that would break a loader later, and load them."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import io
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stderr
from pathlib import Path
from typing import Any

from stratos.core.errors import ForeignFileError
from stratos.core.foreign import cause, reading, why_unreadable
from stratos.core.reasons import Because, Reason
from stratos.models.pretrained.headers import (
    INDEX,
    read_config,
    read_gguf,
    read_json,
    read_tensors,
    vocabulary_of,
    weight_files,
    wrong_size,
)
from stratos.models.pretrained.sample_chat import why_endless, why_endless_template
from stratos.models.words import (
    InFile,
    Lacks,
    LacksWeights,
    NoToken,
    OtherKind,
    OtherShape,
    OtherShapes,
    TokenBeyond,
    UnknownPacking,
    Unloadable,
    WrongChat,
)

_JSON = ("tokenizer_config.json", "generation_config.json", "special_tokens_map.json")
_LOADED = (*_JSON, "config.json", "tokenizer.json", "tokenizer.model", "chat_template.jinja")
_SAMPLE = "Say 7, please."
_OWN_CODE_ONLY: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
"""Left open, transformers asks on the terminal whether to run the code of a model's authors."""
_LAYERS = re.compile(r"(?<![^.])(layers|h|blocks?|layer)\.\d+\.")
_TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt")


def why_not_readable(folder: Path, is_whole: bool = True) -> Reason | None:
    """Return why a folder holds no model that can be read, by its small files; None if it does.

    Config, headers of weights, a sample chat: without torch, in less than a second.

    Args:
        folder: of the model.
        is_whole: refuse one without weights or tokenizer.
    """
    for name in _LOADED:
        path = folder / name
        if (path.exists() or path.is_symlink()) and (reason := why_unreadable(path)):
            return InFile(name, reason)
    if is_whole and not any((folder / name).exists() for name in _TOKENIZERS):
        return Lacks.TOKENIZER
    checks: dict[str, Callable[[Path], Reason | None]] = {
        "config.json": lambda path: wrong_size(read_config(path)),
        **dict.fromkeys(_JSON, _no_object),
        "generation_config.json": _wrong_ends,
    }
    for name, wrong in checks.items():
        if name != "config.json" and not (folder / name).exists():
            continue
        try:
            problem = wrong(folder / name)
        except (OSError, ValueError) as error:
            problem = Because(cause(error))
        if problem is not None:
            return InFile(name, problem)
    return _why_no_header(folder, is_whole) or why_endless(folder)


def why_no_gguf(path: Path) -> Reason | None:
    """Return why a GGUF file cannot be read, by its header and its chat template; None if it can.

    Without torch, in seconds, however large it says it is.
    """
    try:
        reason: Reason | None = why_endless_template(read_gguf(path).template)
    except (OSError, ValueError) as error:
        reason = Because(cause(error))
    return None if reason is None else InFile(path.name, reason)


def _why_no_header(folder: Path, is_whole: bool) -> Reason | None:
    try:
        is_named = is_whole or os.path.lexists(folder / INDEX)
        files = weight_files(folder) if is_named else sorted(folder.glob("*.safetensors"))
    except (OSError, ValueError) as error:
        return Because(cause(error))
    n_tensors = 0
    for path in files:
        try:
            n_tensors += sum(1 for _ in read_tensors(path))
        except (OSError, ValueError) as error:
            return InFile(path.name, Because(cause(error)))
    return InFile(files[0].name, Lacks.TENSORS) if files and not n_tensors else None


def _no_object(path: Path) -> Reason | None:
    return None if isinstance(read_json(path), dict) else Lacks.OBJECT


def _wrong_ends(path: Path) -> Reason | None:
    config = read_json(path)
    if not isinstance(config, dict):
        return Lacks.OBJECT
    for name in ("eos_token_id", "pad_token_id", "bos_token_id"):
        value = config.get(name)
        ids = value if isinstance(value, list) else [] if value is None else [value]
        if not all(isinstance(id_, int) and id_ >= 0 for id_ in ids):
            return NoToken(name, json.dumps(value)[:40])
    return None


def why_not_loadable(folder: Path) -> Reason | None:
    """Return why the model of a folder cannot be loaded, trained and asked; None if it can be.

    Nothing of its weights is read but their names and shapes: the model is made without memory.
    """
    return why_not_readable(folder) or _why_no_weights(folder) or _why_no_chat(folder)


def _why_no_weights(folder: Path) -> Reason | None:
    """Compare the tensors there are with those that the model of the config has."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    with _trouble_of("config.json") as trouble:
        config = AutoConfig.from_pretrained(folder, **_OWN_CODE_ONLY)
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(config)
    if trouble:
        return trouble[0]
    packing = getattr(config, "quantization_config", None)
    if packing is not None:
        return _wrong_packing(packing)  # in shapes of their own
    has = {
        tensor.name: tensor.shape for path in weight_files(folder) for tensor in read_tensors(path)
    }
    expected = {name: tuple(weight.shape) for name, weight in model.state_dict().items()}
    tied = set(getattr(model, "all_tied_weights_keys", None) or ())
    return _differences(has, expected, tied)


def _wrong_packing(packing: Any) -> Reason | None:
    """Return that transformers does not know how weights are quantized."""
    from transformers.quantizers.auto import AUTO_QUANTIZATION_CONFIG_MAPPING

    settings = packing if isinstance(packing, Mapping) else vars(packing)
    method = settings.get("quant_method")
    # A config of bitsandbytes may name its bits alone.
    is_of_bits = settings.get("load_in_8bit") or settings.get("load_in_4bit")
    known = {*AUTO_QUANTIZATION_CONFIG_MAPPING, "bitsandbytes"}
    if (method is None and is_of_bits) or (isinstance(method, str) and str(method) in known):
        return None
    return InFile("config.json", UnknownPacking(json.dumps(method, default=str)[:40]))


def _differences(
    has: Mapping[str, tuple[int, ...]], expected: Mapping[str, tuple[int, ...]], tied: set[str]
) -> Reason | None:
    """Return what of the weights does not fit; names that a loader translates are not judged."""
    own = {_tail(name): shape for name, shape in has.items()}
    differing = [
        OtherShape(name, own[_tail(name)], shape)
        for name, shape in expected.items()
        if own.get(_tail(name), shape) != shape
    ]
    if differing:
        return OtherShapes(tuple(differing))
    known = own.keys() & {_tail(name) for name in expected}
    if not known:
        return OtherKind()
    lacking = [name for name in expected if _tail(name) not in own and name not in tied]
    # Where most are called otherwise, the loader knows them by other names.
    if lacking and len(known) > len(own) / 2:
        return LacksWeights(tuple(lacking))
    return None


def _tail(name: str) -> str:
    """Return a tensor's name without what only tells how deep its model lies in another."""
    start = _LAYERS.search(name)
    return name[start.start() :] if start else name.rpartition("model.")[2]


def _why_no_chat(folder: Path) -> Reason | None:
    """Write a question and its answer as the student's chats are."""
    from transformers import AutoTokenizer

    with _trouble_of("its tokenizer") as trouble:
        tokenizer = AutoTokenizer.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False
        )
    if trouble:
        return trouble[0]
    if not tokenizer.chat_template:
        return Lacks.TEMPLATE
    chat = [{"role": "user", "content": _SAMPLE}]
    with _trouble_of("its chat template") as trouble:
        prompt = tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
        answered = [*chat, {"role": "assistant", "content": "7"}]
        tokenizer.apply_chat_template(answered, tokenize=False)
        ids = tokenizer(prompt, add_special_tokens=False)["input_ids"]
    if trouble:
        return trouble[0]
    if _SAMPLE.split()[0] not in prompt:
        return WrongChat.USER
    if not ids:
        return WrongChat.TOKENS
    # What no chat uses may lie beyond: a tokenizer that other models share has tokens for images.
    used = {
        *ids,
        *(special for special in (tokenizer.eos_token_id, tokenizer.pad_token_id) if special),
    }
    n_known = vocabulary_of(read_config(folder / "config.json"))
    return TokenBeyond(max(used), n_known) if max(used) >= n_known else None


@contextlib.contextmanager
def _trouble_of(part: str) -> Iterator[list[Reason]]:
    """Give a list that takes what a loader raises; keep it quiet."""
    trouble: list[Reason] = []
    try:
        with quiet_loading():
            yield trouble
    except BaseException as error:
        # A panic of a Rust library is no Exception.
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        trouble.append(Unloadable(part, cause(error)))


# Load tokenizers and models in one place: safetensors only, no remote code.


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
        if is_folder:
            gguf = more.get("gguf_file")
            reason = why_no_gguf(Path(path) / gguf) if gguf else why_endless(Path(path))
            if reason is not None:
                raise ValueError(str(reason))
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
