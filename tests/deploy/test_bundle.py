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


def bundled(student: Path, bundle: Path) -> Path:
    make_bundle(student, bundle, card="card", max_new_tokens=77)
    return bundle


def test_the_generation_config_is_greedy_and_ends_where_the_evaluation_did(student, tmp_path):
    bundle = bundled(student, tmp_path / "bundle")
    generation = json.loads((bundle / "generation_config.json").read_text())
    assert generation["do_sample"] is False
    names = ("max_new_tokens", "eos_token_id", "pad_token_id")
    assert [generation[name] for name in names] == [77, 1, 0]


@pytest.mark.parametrize("is_there", [True, False])
def test_without_an_end_in_the_model_the_tokenizers_end_counts(student, tmp_path, is_there):
    config = json.loads((student / "config.json").read_text())
    (student / "config.json").write_text(json.dumps({**config, "eos_token_id": None}))
    (student / "generation_config.json").unlink()
    if is_there:
        (student / "generation_config.json").write_text("{}")
    bundle = bundled(student, tmp_path / "bundle")
    assert json.loads((bundle / "generation_config.json").read_text())["eos_token_id"] == 1


def test_pickles_code_and_strangers_are_left_out(student, tmp_path):
    strangers = {"pytorch_model.bin", "optimizer.pt", "modeling_own.py", ".env", "last.ckpt"}
    for name in strangers:
        (student / name).write_bytes(b"x")
    names = {file.name for file in bundled(student, tmp_path / "bundle").iterdir()}
    assert "model.safetensors" in names and names.isdisjoint(strangers)


@pytest.mark.parametrize("is_full", [False, True])
def test_an_earlier_bundle_is_replaced_whole_or_not_at_all(student, tmp_path, monkeypatch, is_full):
    bundle = tmp_path / "bundle"
    bundle.mkdir()
    (bundle / "old").write_text("old")

    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    if is_full:
        monkeypatch.setattr(shutil, "copyfile", full)
        with pytest.raises(OSError, match="No space left"):
            bundled(student, bundle)
    else:
        bundled(student, bundle)
        assert (bundle / "README.md").read_text() == "card"
    assert (bundle / "old").exists() == is_full
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
    with pytest.raises(StratosError, match=f"it has no {named}. Delete distill.json"):
        bundled(student, tmp_path / "bundle")
