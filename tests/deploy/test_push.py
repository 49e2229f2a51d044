"""A bundle that is published and checked where it was put: a folder, an S3 on this machine."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest
from in_process import stratos
from one_s3 import BUCKET, S3, whats_lacking
from required import lacking

from stratos.core.errors import StratosError
from stratos.deploy import manifest as module
from stratos.deploy.manifest import (
    MANIFEST,
    check_target,
    fetched,
    push,
    repository_of,
    write_manifest,
)


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    folder = tmp_path / "bundle"
    (folder / "exports").mkdir(parents=True)
    for name, text in {
        "config.json": "{}",
        "model.safetensors": "w",
        "exports/q8_0.gguf": "g",
    }.items():
        (folder / name).write_text(text)
    write_manifest(folder)
    return folder


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3]:
    if (why := whats_lacking()) is not None:
        lacking("s3", why)
    one = S3(tmp_path_factory.mktemp("s3") / "log")
    one.up()
    yield one
    one.down()


def test_it_is_put_somewhere_whole_and_once(bundle: Path, tmp_path: Path) -> None:
    there = tmp_path / "shelf" / "one"
    check_target(str(there))
    assert not list(there.iterdir())
    seen: list[tuple[int, int]] = []
    assert push(bundle, str(there), lambda *at: seen.append(at)).n_files == 3
    assert seen == [(0, 3), (1, 3), (2, 3)]
    copied = fetched(f"file://{there}", tmp_path / "copy")
    assert (copied / "exports" / "q8_0.gguf").read_text() == "g"
    assert push(bundle, str(there)).was_there
    (there / "model.safetensors").write_text("cut")  # of another length
    assert not push(bundle, str(there)).was_there
    assert (there / "model.safetensors").read_text() == "w"


def test_what_an_earlier_bundle_had_goes_and_nothing_else(bundle: Path, tmp_path: Path) -> None:
    there = tmp_path / "shelf"
    there.mkdir()
    (there / "mine.txt").write_text("not of a bundle")
    push(bundle, str(there))
    (there / "model.safetensors").write_text("x")  # damage of the same size
    assert not push(bundle, str(there)).was_there
    assert (there / "model.safetensors").read_text() == "w"
    (bundle / "exports" / "q8_0.gguf").unlink()
    write_manifest(bundle)
    push(bundle, str(there))
    assert not (there / "exports" / "q8_0.gguf").exists()
    assert (there / "mine.txt").exists()


def test_a_push_beside_another_leaves_its_manifest_out(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there, put = tmp_path / "shelf", module._put

    def beside(system: Any, path: Path, place: str) -> None:
        put(system, path, place)
        (there / MANIFEST).write_text("of another")

    monkeypatch.setattr(module, "_put", beside)
    with pytest.raises(StratosError, match="another bundle was put there meanwhile"):
        push(bundle, str(there))


def test_a_push_that_is_cut_short_leaves_nothing_that_looks_whole(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = tmp_path / "shelf"
    push(bundle, str(there))
    (bundle / "model.safetensors").write_text("another")
    write_manifest(bundle)
    put = module._put

    def cut(system: Any, path: Path, place: str) -> None:
        if path.name == "model.safetensors":
            raise OSError("the cable was pulled")
        put(system, path, place)

    monkeypatch.setattr(module, "_put", cut)
    with pytest.raises(StratosError, match=r"shelf cannot be used .*the cable was pulled"):
        push(bundle, str(there))
    assert not (there / MANIFEST).exists()
    with pytest.raises(StratosError, match="holds no bundle: there is no manifest"):
        fetched(f"file://{there}", tmp_path / "copy")


def test_what_has_changed_is_not_published(bundle: Path, tmp_path: Path) -> None:
    (bundle / "config.json").write_text("[]")
    with pytest.raises(StratosError, match=r"config\.json has changed"):
        push(bundle, str(tmp_path / "shelf"))


@pytest.mark.parametrize("url", ["hf://me", "hf://", "hf://a/b/c"])
def test_a_repository_has_an_owner(url: str) -> None:
    with pytest.raises(StratosError, match="expected hf://OWNER/NAME"):
        check_target(url)
    assert repository_of("hf://me/mahjong/") == "me/mahjong"


def test_what_cannot_be_written_is_said_before(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StratosError, match="cannot be used"):
        check_target(str(tmp_path / "file"))
    with pytest.raises(StratosError, match="there is no file system nowhere"):
        check_target("nowhere://bucket/bundle")
    with pytest.raises(StratosError, match=r"type file:///tmp/user/x\."):
        check_target("file://tmp/user/x")


@pytest.mark.slow
def test_s3_takes_it_and_verify_reads_it_from_there(
    bundle: Path, s3: S3, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in s3.env.items():
        monkeypatch.setenv(name, value)
    # fsspec gives a file system again that an earlier test may have opened without these keys
    fsspec.get_filesystem_class("s3").clear_instance_cache()
    url = f"s3://{BUCKET}/students/one"
    check_target(url)
    assert not push(bundle, url).was_there
    assert push(bundle, url).was_there
    assert [name for name in s3.names() if name.startswith("students/")] == sorted(
        f"students/one/{name}"
        for name in ("config.json", "exports/q8_0.gguf", MANIFEST, "model.safetensors")
    )
    done = stratos("verify", url, env={"HF_HUB_OFFLINE": "1"})
    assert "3 files, all as they were made." in done.stdout, done.stderr
    with pytest.raises(StratosError, match="cannot be used"):
        check_target("s3://another-bucket/students")
