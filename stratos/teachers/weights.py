"""Locate a local teacher's weights, and read model facts from its files.

Nothing here loads a weight: folders are listed, config.json and file headers are read.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from stratos.core.foreign import cause
from stratos.core.reasons import Because, Reason
from stratos.core.remote import is_hub_name, missing_on_hub
from stratos.models.pretrained import check_gguf, read_config, read_tensors, why_not_readable
from stratos.models.words import InFile
from stratos.teachers.words import (
    NoDownload,
    NoModelIn,
    NoPackage,
    NoPlace,
    NoWeights,
    UnreadableWeights,
)

_WEIGHT_SUFFIXES = (".safetensors", ".gguf", ".json", ".jinja", ".model")
"""Files of a folder that decide what its model answers."""
_READ_WHOLE, _N_BLOCKS, _BLOCK = 2**28, 1024, 2**16
"""Bytes up to which a file is hashed whole; of a larger one so many blocks of so many bytes are."""

_CONFIG_NAMES = {
    "n_layers": ("num_hidden_layers", "n_layer", "num_layers"),
    "hidden_size": ("hidden_size", "n_embd", "d_model"),
    "n_heads": ("num_attention_heads", "n_head"),
    "n_kv_heads": ("num_key_value_heads", "num_attention_heads", "n_head"),
    "intermediate_size": ("intermediate_size", "n_inner", "ffn_dim"),
    "vocab_size": ("vocab_size",),
    "context_length": ("max_position_embeddings", "n_positions", "n_ctx"),
}
_GGUF_NAMES = {
    "n_layers": "block_count",
    "hidden_size": "embedding_length",
    "n_heads": "attention.head_count",
    "n_kv_heads": "attention.head_count_kv",
    "intermediate_size": "feed_forward_length",
    "vocab_size": "vocab_size",
    "context_length": "context_length",
}


@dataclass(frozen=True)
class Weights:
    """A place that a model can be loaded from."""

    location: str
    """Folder, or the name of a model on the Hugging Face hub."""
    gguf: str | None
    """Name of the GGUF file in the folder; None for safetensors."""
    is_folder: bool
    stated: str = ""
    """What tells this state of the weights from another, where a name does."""
    files: tuple[Path, ...] = ()
    """Else the files whose content does."""

    @cached_property
    def version(self) -> str:
        """What tells this state of the weights from another; a copy elsewhere has the same."""
        if self.stated:
            return self.stated
        return json.dumps([[file.stat().st_size, _content(file)] for file in self.files])


def find_weights(
    path: str | None, package: str | None, gguf: str | None, revision: str | None
) -> Weights | Reason:
    """Find the weights of a model: a folder, a package that ships them, or the hub, in that order.

    A package is located without being imported. The hub is asked for a file's headers at most.

    Returns:
        The place, or the reason why there is none.
    """
    tried: list[Reason] = []
    if path is not None:
        expanded = Path(path).expanduser()
        # Those of pathlib raise where a name is too long.
        if os.path.isdir(expanded):
            return _in_folder(expanded, gguf, f"the folder {path}")
        if expanded.suffix == ".gguf" and os.path.exists(expanded):
            return _folder(expanded.parent, expanded.name)
    if package is not None:
        spec = importlib.util.find_spec(package)
        for folder in (spec.submodule_search_locations or ()) if spec else ():
            return _in_package(package, Path(folder), gguf)
        tried.append(NoPackage(package))
    if path is not None:
        if not is_hub_name(path):
            tried.append(NoPlace(path))
        else:
            reason = missing_on_hub(path, revision)
            if reason is None:
                return Weights(path, None, False, f"{path}@{revision or 'main'}")
            tried.append(NoDownload(path, reason))
    return NoWeights(tuple(tried))


def _in_folder(folder: Path, gguf: str | None, source: str) -> Weights | Reason:
    if gguf is not None and os.path.lexists(folder / gguf):
        return _folder(folder, gguf)
    if os.path.lexists(folder / "config.json"):
        return _folder(folder, None)
    files = sorted(file.name for file in folder.glob("*.gguf"))
    if gguf is None and len(files) == 1:
        return _folder(folder, files[0])
    return NoModelIn(source, gguf, tuple(files))


def _in_package(package: str, folder: Path, gguf: str | None) -> Weights | Reason:
    """Locate weights in an installed package; its version stands for their content."""
    weights = _in_folder(folder, gguf, f"the package {package}")
    if isinstance(weights, Reason):
        return weights
    try:
        version = importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return weights
    size = weights.files[0].stat().st_size if weights.gguf else 0
    return Weights(weights.location, weights.gguf, True, f"{package}=={version}/{gguf}:{size}")


def _folder(folder: Path, gguf: str | None) -> Weights | Reason:
    reason = _wrong_gguf(folder / gguf) if gguf else why_not_readable(folder, is_whole=False)
    if reason is not None:
        return UnreadableWeights(str(folder), reason)
    files = [folder / gguf] if gguf else sorted(folder.iterdir())
    deciding = tuple(file for file in files if file.suffix in _WEIGHT_SUFFIXES)
    return Weights(str(folder), gguf, True, files=deciding)


def _wrong_gguf(path: Path) -> Reason | None:
    try:
        check_gguf(path)
    except (OSError, ValueError) as error:
        return InFile(path.name, Because(cause(error)))
    return None


def _content(path: Path) -> str:
    """Return a digest of a file: of all of it, or of many blocks from end to end of a large one."""
    digest, size = hashlib.sha256(), path.stat().st_size
    with path.open("rb") as file:
        if size <= _READ_WHOLE:
            return hashlib.file_digest(file, "sha256").hexdigest()
        for block in range(_N_BLOCKS):
            file.seek(block * (size - _BLOCK) // (_N_BLOCKS - 1))
            digest.update(file.read(_BLOCK))
    return digest.hexdigest()


def read_facts(weights: Weights, revision: str | None = None) -> dict[str, Any]:
    """Return the facts of a model by the names of `ModelCard`, as far as its files tell them."""
    if weights.gguf is not None:
        return _gguf_facts(Path(weights.location) / weights.gguf)
    if weights.is_folder:
        config = Path(weights.location) / "config.json"
    else:
        import huggingface_hub

        config = Path(
            huggingface_hub.hf_hub_download(weights.location, "config.json", revision=revision)
        )
    facts = config_facts(read_config(config))
    if weights.is_folder:
        n_params = sum(
            tensor.n_elements
            for file in config.parent.glob("*.safetensors")
            for tensor in read_tensors(file)
        )
        facts["n_params"] = n_params or facts["n_params"]
    return facts


def config_facts(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the facts that a Hugging Face config tells; parameters are counted from the shape.

    The count is that of a Llama block (gated MLP, no biases), with tied embeddings counted once.
    """
    config = {**config, **config.get("text_config", {})}
    facts: dict[str, Any] = {}
    for fact, names in _CONFIG_NAMES.items():
        value = next((config[name] for name in names if config.get(name) is not None), 0)
        facts[fact] = int(value)
    hidden, heads = facts["hidden_size"], max(facts["n_heads"], 1)
    facts["intermediate_size"] = facts["intermediate_size"] or 4 * hidden
    head_size = int(config.get("head_dim") or hidden // heads)
    attention = 2 * hidden * head_size * (facts["n_heads"] + facts["n_kv_heads"])
    block = attention + 3 * hidden * facts["intermediate_size"] + 2 * hidden
    embeddings = facts["vocab_size"] * hidden * (1 if config.get("tie_word_embeddings") else 2)
    facts["n_params"] = facts["n_layers"] * block + embeddings + hidden
    return facts


def _gguf_facts(path: Path) -> dict[str, Any]:
    from gguf import GGUFReader

    reader = GGUFReader(path)

    def value(key: str) -> Any:
        field = reader.get_field(key)
        return None if field is None else field.contents()

    architecture = value("general.architecture")
    facts: dict[str, Any] = {
        fact: int(value(f"{architecture}.{name}") or 0) for fact, name in _GGUF_NAMES.items()
    }
    facts["n_kv_heads"] = facts["n_kv_heads"] or facts["n_heads"]
    tokens = reader.get_field("tokenizer.ggml.tokens")
    if not facts["vocab_size"] and tokens is not None:
        facts["vocab_size"] = len(tokens.data)
    facts["n_params"] = sum(int(tensor.n_elements) for tensor in reader.tensors)
    if license_name := value("general.license"):
        facts["license"] = str(license_name)
    return facts
