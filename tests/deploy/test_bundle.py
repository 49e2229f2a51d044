import json
import shutil
from pathlib import Path

import pytest
from tiny_student import tiny_model, tiny_tokenizer

from stratos.core.errors import StratosError
from stratos.deploy.stage import make_bundle


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    tiny_tokenizer().save_pretrained(folder)
    tiny_model().save_pretrained(folder)
    return folder


@pytest.fixture
def student(made, tmp_path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "student"))


def test_the_generation_config_is_greedy_and_ends_where_the_evaluation_did(student, tmp_path):
    make_bundle(student, tmp_path / "bundle", card="card", max_new_tokens=77)
    generation = json.loads((tmp_path / "bundle" / "generation_config.json").read_text())
    assert generation["do_sample"] is False
    assert generation["max_new_tokens"] == 77
    assert generation["eos_token_id"] == 1
    assert generation["pad_token_id"] == 0


@pytest.mark.parametrize("file", ["generation_config.json", None])
def test_without_an_end_in_the_model_the_tokenizers_end_counts(student, tmp_path, file):
    config = json.loads((student / "config.json").read_text())
    (student / "config.json").write_text(json.dumps({**config, "eos_token_id": None}))
    if file is None:
        (student / "generation_config.json").unlink()
    else:
        (student / file).write_text("{}")
    make_bundle(student, tmp_path / "bundle", card="card", max_new_tokens=77)
    generation = json.loads((tmp_path / "bundle" / "generation_config.json").read_text())
    assert generation["eos_token_id"] == 1


def test_pickles_code_and_strangers_are_left_out(student, tmp_path):
    for name in ("pytorch_model.bin", "optimizer.pt", "modeling_own.py", ".env", "last.ckpt"):
        (student / name).write_bytes(b"x")
    make_bundle(student, tmp_path / "bundle", card="card", max_new_tokens=77)
    names = {file.name for file in (tmp_path / "bundle").iterdir()}
    assert "model.safetensors" in names
    assert names.isdisjoint(
        {"pytorch_model.bin", "optimizer.pt", "modeling_own.py", ".env", "last.ckpt"}
    )


def test_an_earlier_bundle_is_replaced_whole(student, tmp_path):
    bundle = tmp_path / "bundle"
    bundle.mkdir()
    (bundle / "old").write_text("old")
    make_bundle(student, bundle, card="card", max_new_tokens=77)
    assert not (bundle / "old").exists()
    assert (bundle / "README.md").read_text() == "card"
    assert {path.name for path in tmp_path.iterdir()} == {"bundle", "student"}


def test_a_bundle_that_fails_leaves_the_earlier_one_and_no_rest(student, tmp_path, monkeypatch):
    bundle = tmp_path / "bundle"
    bundle.mkdir()
    (bundle / "old").write_text("old")

    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shutil, "copyfile", full)
    with pytest.raises(OSError, match="No space left"):
        make_bundle(student, bundle, card="card", max_new_tokens=77)
    assert (bundle / "old").read_text() == "old"
    assert {path.name for path in tmp_path.iterdir()} == {"bundle", "student"}


@pytest.mark.parametrize(
    ("gone", "named"),
    [
        (["model.safetensors"], "weights as safetensors"),
        (["chat_template.jinja"], "chat template"),
        (["tokenizer.json", "config.json"], "config.json and no tokenizer"),
    ],
)
def test_what_a_student_lacks_is_named(student, tmp_path, gone, named):
    for name in gone:
        (student / name).unlink()
    with pytest.raises(StratosError) as caught:
        make_bundle(student, tmp_path / "bundle", card="card", max_new_tokens=77)
    assert f"it has no {named}. Delete distill.json" in str(caught.value)
