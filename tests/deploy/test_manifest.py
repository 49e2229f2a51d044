"""Nothing lies in a bundle that its manifest does not name."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from stratos.core.errors import StratosError
from stratos.deploy.manifest import MANIFEST, check_manifest, write_manifest


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    folder = tmp_path / "bundle"
    (folder / "exports").mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    (folder / "exports" / "q8_0.gguf").write_text("g")
    write_manifest(folder)
    assert check_manifest(folder) == 2
    return folder


def outside(bundle: Path) -> None:
    path = bundle / "config.json"
    path.rename(bundle.parent / "same bytes")
    path.symlink_to(bundle.parent / "same bytes")


ADDED: dict[str, tuple[Callable[[Path], object], str]] = {
    "file": (lambda at: (at / "x.py").write_text(""), "x.py is not of it"),
    "nested manifest": (
        lambda at: (at / "exports" / MANIFEST).write_text("{}"),
        "exports/manifest.json is not of it",
    ),
    "link to a folder": (lambda at: (at / "x").symlink_to("/etc"), "x is a symbolic link"),
    "broken link": (lambda at: (at / "x").symlink_to("/none"), "x is a symbolic link"),
    "link in its place": (outside, "config.json is a symbolic link"),
    "pipe": (lambda at: os.mkfifo(at / "x"), "x is neither a file nor a folder"),
    "pipe in its place": (
        lambda at: ((at / "config.json").unlink(), os.mkfifo(at / "config.json")),
        "config.json is neither a file nor a folder",
    ),
    "empty folder": (lambda at: (at / "x" / "y").mkdir(parents=True), "x/y is an empty folder"),
}


@pytest.mark.parametrize("what", ADDED)
def test_what_is_added_is_refused_by_name(bundle: Path, what: str) -> None:
    add, told = ADDED[what]
    add(bundle)
    with pytest.raises(StratosError) as refused:
        check_manifest(bundle)
    assert str(refused.value).startswith(f"{bundle} is not what was made: {told}. ")


@pytest.mark.parametrize("text", ["[" * 200_000, '{"sha256":' * 200_000, "[]", "{}", "1", "é"])
def test_a_manifest_that_is_none_is_said(bundle: Path, text: str) -> None:
    (bundle / MANIFEST).write_text(text, encoding="latin-1")
    with pytest.raises(StratosError, match=r"manifest\.json cannot be read \("):
        check_manifest(bundle)


def test_a_manifest_is_a_file_and_no_link_or_pipe(bundle: Path) -> None:
    path = bundle / MANIFEST
    path.rename(bundle.parent / MANIFEST)
    path.symlink_to(bundle.parent / MANIFEST)
    with pytest.raises(StratosError, match=r"manifest\.json cannot be read \("):
        check_manifest(bundle)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(StratosError, match=r"manifest\.json cannot be read \("):
        check_manifest(bundle)


def test_a_bundle_is_made_of_files_alone(bundle: Path) -> None:
    (bundle / "left" / "over").mkdir(parents=True)
    write_manifest(bundle)
    assert check_manifest(bundle) == 2
    (bundle / "x").symlink_to("/etc")
    with pytest.raises(StratosError, match=r"cannot be a bundle: x is a symbolic link\. Delete"):
        write_manifest(bundle)
