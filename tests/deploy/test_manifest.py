"""A bundle holds what its manifest names, and is checked where it was put: a folder, an S3."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import fsspec
import pytest
from in_process import stratos
from required import lacking

from stratos.core.errors import StratosError
from stratos.deploy import manifest as module
from stratos.deploy.manifest import (
    MANIFEST,
    SIGNATURE,
    check_manifest,
    check_target,
    fetched,
    made_by,
    push,
    repository_of,
    write_manifest,
)
from stratos.deploy.signature import check_signature
from tests.s3_server import BUCKET, S3, whats_lacking


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    folder = tmp_path / "bundle"
    (folder / "exports").mkdir(parents=True)
    for name in ("config.json", "model.safetensors", "exports/q8_0.gguf"):
        (folder / name).write_text(name[0])
    write_manifest(folder)
    return folder


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3]:
    if (why := whats_lacking()) is not None:
        lacking("s3", why)
    server = S3(tmp_path_factory.mktemp("s3") / "log")
    server.up()
    yield server
    server.down()


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
def test_what_is_added_is_refused_by_name(bundle, what):
    add, told = ADDED[what]
    add(bundle)
    with pytest.raises(StratosError) as refused:
        check_manifest(bundle)
    assert str(refused.value).startswith(f"{bundle} is not what was made: {told}. ")


@pytest.mark.parametrize("text", ["[" * 200_000, '{"sha256":' * 200_000, "[]", "{}", "1", "é"])
def test_a_manifest_that_is_none_is_said(bundle, text):
    (bundle / MANIFEST).write_text(text, encoding="latin-1")
    with pytest.raises(StratosError, match=r"manifest\.json cannot be read \("):
        check_manifest(bundle)


def test_a_manifest_is_a_file_and_no_link_or_pipe(bundle):
    path = bundle / MANIFEST
    path.rename(bundle.parent / MANIFEST)
    path.symlink_to(bundle.parent / MANIFEST)
    with pytest.raises(StratosError, match=r"manifest\.json cannot be read \("):
        check_manifest(bundle)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(StratosError, match=r"manifest\.json cannot be read \("):
        check_manifest(bundle)


def test_a_bundle_is_made_of_files_alone(bundle):
    (bundle / "left" / "over").mkdir(parents=True)
    write_manifest(bundle)
    assert check_manifest(bundle) == 3
    (bundle / "x").symlink_to("/etc")
    with pytest.raises(StratosError, match=r"cannot be a bundle: x is a symbolic link\. Delete"):
        write_manifest(bundle)


def test_the_manifest_says_who_made_it_and_when(bundle, monkeypatch):
    write_manifest(bundle, "Ada")
    facts = json.loads((bundle / MANIFEST).read_bytes())
    assert facts["author"] == "Ada" and facts["date"].endswith("+00:00")
    assert made_by(bundle) == f"Made by Ada, {facts['date']}"
    monkeypatch.setenv("GIT_CONFIG_COUNT", "1")
    monkeypatch.setenv("GIT_CONFIG_KEY_0", "user.name")
    monkeypatch.setenv("GIT_CONFIG_VALUE_0", "Grace")
    write_manifest(bundle)
    assert made_by(bundle).startswith("Made by Grace, ")
    monkeypatch.setenv("PATH", "")
    monkeypatch.setenv("LOGNAME", "login")
    write_manifest(bundle)
    assert made_by(bundle).startswith("Made by login, ")


# minisign's own: of its author's key, for the text "test".
PUBLIC = "RWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3"
SIGNED = """untrusted comment: signature from minisign secret key
RUQf6LRCGA9i559r3g7V1qNyJDApGip8MfqcadIgT9CuhV3EMhHoN1mGTkUidF/z7SrlQgXdy8ofjb7bNJJylDOocrCo8KLzZwo=
trusted comment: timestamp:1633700835\tfile:test\tprehashed
wLMDjy9FLAuxZ3q4NlEvkgtyhrr0gtTu6KC4KBJdITbbOeAi1zBIYo0v4iTgt8jJpIidRJnp94ABQkJAgAooBQ==
"""


def test_a_signature_of_minisign_is_checked(tmp_path):
    path, key = tmp_path / MANIFEST, tmp_path / "minisign.pub"
    path.write_text("test")
    (tmp_path / SIGNATURE).write_text(SIGNED)
    key.write_text(f"untrusted comment: minisign public key E7620F1842B4E81F\n{PUBLIC}\n")
    for given in (PUBLIC, str(key)):
        assert check_signature(path, given) == "timestamp:1633700835\tfile:test\tprehashed"


def other_key() -> str:
    import base64

    data = bytearray(base64.b64decode(PUBLIC))
    data[5] += 1
    return base64.b64encode(data).decode()


def test_a_signature_without_its_file_or_with_an_empty_line(tmp_path):
    path = tmp_path / MANIFEST
    (tmp_path / "key").write_text(f"untrusted comment: \x0b\n{PUBLIC}\n\n")
    path.with_name(f"{MANIFEST}.minisig").write_text(f"{SIGNED.rstrip()}\n\n")
    with pytest.raises(StratosError, match="is missing, or no file"):
        check_signature(path, str(tmp_path / "key"))
    path.write_text("test")
    assert check_signature(path, str(tmp_path / "key"))
    with pytest.raises(StratosError, match="No such file"):
        check_signature(path, "minisign.pub")


@pytest.mark.parametrize(
    ("text", "signed", "key", "why"),
    [
        ("tess", SIGNED, PUBLIC, "one of them was changed"),
        ("test", SIGNED.replace("file:test", "file:best"), PUBLIC, "one of them was changed"),
        ("test", "", PUBLIC, "is no signature"),
        ("test", SIGNED.replace("RUQf", "RUQ"), PUBLIC, "is no signature"),
        ("test", None, PUBLIC, "is missing: the bundle is not signed"),
        ("test", SIGNED, other_key(), "is by the key E7620F1842B4E81F, and --key is"),
        ("test", SIGNED, "RWQf", "Give the file minisign.pub, or its second line."),
        ("test", SIGNED, "", "Give the file minisign.pub, or its second line."),
    ],
)
def test_what_the_key_has_not_signed_is_refused(tmp_path, text, signed, key, why):
    (tmp_path / MANIFEST).write_text(text)
    if signed is not None:
        (tmp_path / SIGNATURE).write_text(signed)
    with pytest.raises(StratosError) as refused:
        check_signature(tmp_path / MANIFEST, key)
    assert why in str(refused.value) and "\n" not in str(refused.value)


def test_a_signature_goes_with_its_bundle_and_not_with_the_next(bundle, tmp_path):
    there = tmp_path / "shelf"
    push(bundle, str(there))
    (bundle / SIGNATURE).write_text(SIGNED)  # after it was pushed
    assert check_manifest(bundle) == 3
    before = (there / MANIFEST).stat().st_ino
    assert push(bundle, str(there)).was_there and (there / MANIFEST).stat().st_ino == before
    assert (there / SIGNATURE).read_text() == SIGNED and check_manifest(there) == 3
    done = stratos("verify", str(there), "--key", PUBLIC)
    assert done.returncode == 1 and "by this key: one of them was changed" in done.stderr
    (bundle / SIGNATURE).unlink()
    write_manifest(bundle, "another")
    push(bundle, str(there))
    assert not (there / SIGNATURE).exists() and check_manifest(there) == 3
    (bundle / SIGNATURE).symlink_to("/etc/passwd")
    with pytest.raises(StratosError, match="is a symbolic link"):
        check_manifest(bundle)


def test_it_is_put_somewhere_whole_and_once(bundle, tmp_path):
    there = tmp_path / "shelf" / "one"
    check_target(str(there))
    assert not list(there.iterdir())
    seen: list[tuple[int, int]] = []
    assert push(bundle, str(there), lambda *at: seen.append(at)).n_files == 3
    assert seen == [(0, 3), (1, 3), (2, 3)]
    copied = fetched(f"file://{there}", tmp_path / "copy")
    assert (copied / "exports" / "q8_0.gguf").read_text() == "e"
    assert push(bundle, str(there)).was_there
    (there / "model.safetensors").write_text("cut")  # of another length
    assert not push(bundle, str(there)).was_there
    assert (there / "model.safetensors").read_text() == "m"


def test_what_an_earlier_bundle_had_goes_and_nothing_else(bundle, tmp_path):
    there = tmp_path / "shelf"
    there.mkdir()
    (there / "mine.txt").write_text("not of a bundle")
    push(bundle, str(there))
    (there / "model.safetensors").write_text("x")  # damage of the same size
    assert not push(bundle, str(there)).was_there
    assert (there / "model.safetensors").read_text() == "m"
    (bundle / "exports" / "q8_0.gguf").unlink()
    write_manifest(bundle)
    push(bundle, str(there))
    assert not (there / "exports" / "q8_0.gguf").exists()
    assert (there / "mine.txt").exists()


def test_a_link_in_the_target_leads_no_push_out_of_it(bundle, tmp_path):
    target, elsewhere = tmp_path / "there", tmp_path / "mine"
    elsewhere.mkdir()
    (elsewhere / "letter.txt").write_text("keep me")
    target.mkdir()
    (target / "old").symlink_to(elsewhere)
    (target / MANIFEST).write_text(json.dumps({"sha256": {"old/letter.txt": "0"}}))
    push(bundle, str(target))
    assert (elsewhere / "letter.txt").read_text() == "keep me"
    (target / "config.json").unlink()
    (target / "config.json").symlink_to(elsewhere / "config.json")
    (target / MANIFEST).unlink()
    with pytest.raises(StratosError, match=r"leads config\.json out of it"):
        push(bundle, str(target))
    assert not (elsewhere / "config.json").exists()


def test_a_bundle_on_a_web_server_is_fetched(bundle, tmp_path):
    handler = partial(SimpleHTTPRequestHandler, directory=str(bundle))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        folder = fetched(f"http://127.0.0.1:{server.server_port}", tmp_path / "copy")
        server.shutdown()
    assert check_manifest(folder) == check_manifest(bundle)


def test_a_push_that_is_cut_short_leaves_nothing_that_looks_whole(bundle, tmp_path, monkeypatch):
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


def test_what_has_changed_is_not_published(bundle, tmp_path):
    (bundle / "config.json").write_text("[]")
    with pytest.raises(StratosError, match=r"config\.json has changed"):
        push(bundle, str(tmp_path / "shelf"))


@pytest.mark.parametrize("url", ["hf://me", "hf://", "hf://a/b/c"])
def test_a_repository_has_an_owner(url):
    with pytest.raises(StratosError, match="expected hf://OWNER/NAME"):
        check_target(url)
    assert repository_of("hf://me/mahjong/") == "me/mahjong"


def test_what_cannot_be_written_is_said_before(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StratosError, match="cannot be used"):
        check_target(str(tmp_path / "file"))
    with pytest.raises(StratosError, match="there is no file system nowhere"):
        check_target("nowhere://bucket/bundle")
    with pytest.raises(StratosError, match=r"type file:///tmp/user/x\."):
        check_target("file://tmp/user/x")


@pytest.mark.slow
def test_s3_takes_it_and_verify_reads_it_from_there(bundle, s3, monkeypatch):
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
