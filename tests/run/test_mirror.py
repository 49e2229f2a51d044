"""The copy of a run folder: whole wherever its writer is killed, and for one command at a time."""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from copied import FILES, at, content, folder, mirror, objects, synced, work

from stratos.core.errors import StratosError
from stratos.run import copy_store
from stratos.run import mirror as module
from stratos.run.copy_store import OBJECTS
from stratos.run.mirror import MANIFEST, Manifest
from stratos.run.run_state import LOCK, FolderGoneError, RunFolder


@pytest.fixture(autouse=True)
def _no_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_SETTLES_S", 0.0)
    monkeypatch.setattr(copy_store, "SETTLES_S", 0.0)


def test_another_machine_goes_on_and_the_first_one_after_it(tmp_path, url, warned):
    first = folder(tmp_path / "first")
    synced(first, url, warned)
    # Hydra writes the config of a command before anything is fetched.
    second = folder(tmp_path / "second", {".hydra/config.yaml": b"seed: 1\n"})
    synced(second, url, warned)
    assert content(second) == {**FILES, ".hydra/config.yaml": b"seed: 1\n"}
    (second / "corpus" / "train.jsonl").unlink()
    folder(second, {"distill.json": b"{}", "ledger.jsonl": b'{"usd": 1}\n{"usd": 2}\n'})
    synced(second, url, warned)
    synced(first, url, warned)
    assert work(content(first)) == work(content(second))
    assert warned == []


def test_where_both_have_gone_on_nothing_is_lost(tmp_path, url, warned):
    first, second = folder(tmp_path / "first"), tmp_path / "second"
    synced(first, url, warned)
    synced(second, url, warned)
    for one, text in ((first, b"1"), (second, b"2")):
        folder(one, {"distill.json": text})
    synced(second, url, warned)
    with pytest.raises(StratosError, match=r"each has gone on.*hydra\.run\.dir=<a new folder>"):
        synced(first, url, warned)
    assert (first / "distill.json").read_bytes() == b"1"
    other = folder(tmp_path / "other", {"plan.json": b"of another run"})
    with pytest.raises(StratosError, match="hold different runs"):
        synced(other, url, warned)
    assert content(other) == {"plan.json": b"of another run"}


KILLED = """
import os, signal, sys
from pathlib import Path
from stratos.run import copy_store, mirror
from stratos.run.run_state import RunFolder

folder, url, moment = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
copy, write, n = copy_store.copy_and_digest, copy_store.CopyStore.write, 0

def end():
    os.kill(os.getpid(), signal.SIGKILL)

def torn(file, n_bytes, to):
    global n
    if moment == str(n):
        to(file.read(n_bytes // 2))
        to.__self__.flush()
        end()
    n += 1
    return copy(file, n_bytes, to)

def last(store, name, record):
    if name == mirror.MANIFEST and moment == "before":
        end()
    write(store, name, record)
    if name == mirror.MANIFEST:
        end()

copy_store.copy_and_digest, copy_store.CopyStore.write = torn, last
killed = mirror.Mirror(folder, url, print, RunFolder(folder))
with killed.lease.hold():
    killed.push()
"""
"""Ends a push by SIGKILL: in the midst of an object, or before or behind the manifest."""


@pytest.mark.slow
@pytest.mark.kill
@pytest.mark.parametrize("moment", ["0", "1", "2", "before", "behind"])
@pytest.mark.parametrize("url", ["file", "s3"], indirect=True)
def test_a_writer_that_is_killed_leaves_the_copy_before(tmp_path, url, warned, moment):
    first = folder(tmp_path / "first")
    before = objects(synced(first, url, warned))
    folder(first, {"plan.json": b"{1}", "distill.json": b"{2}", "ledger.jsonl": b"{3}"})
    command = [sys.executable, "-c", KILLED, str(first), url, moment]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    is_whole = moment == "behind"
    if is_whole:  # the manifest that it could not note down any more is its own
        folder(first, {"evaluate.json": b"{}"})
        synced(first, url, warned)
    second = tmp_path / "second"
    one = synced(second, url, warned)  # the lease of a process that is gone is taken over
    assert content(second) == work(content(first) if is_whole else FILES)
    assert is_whole or objects(one) <= before  # what it stored and never named is gone
    assert warned == []


@pytest.mark.parametrize("url", ["s3"], indirect=True)
def test_an_s3_that_refuses_in_the_midst_keeps_the_copy_before(tmp_path, url, warned, s3):
    first = folder(tmp_path / "first")
    one = synced(first, url, warned)
    before = one.store.read(MANIFEST, Manifest)
    folder(first, {"plan.json": b"{1}", "distill.json": b"{2}", "ledger.jsonl": b"{3}"})
    n_requests, is_whole = 0, False
    with one.lease.hold():
        while not is_whole:
            s3.refuse_after(n_requests)
            is_whole = one.push_or_warn()
            s3.refuse_after(None)
            manifest = one.store.read(MANIFEST, Manifest)
            assert manifest == before or manifest.files.keys() == {*before.files, "distill.json"}
            sizes = one.store.sizes(OBJECTS)
            assert all(sizes.get(of.sha256) == of.n_bytes for of in manifest.files.values())
            n_requests += 1
    assert n_requests > 5 and "cannot be written to" in warned[0]  # three files, and the manifest
    warned.clear()
    second = tmp_path / "second"
    synced(second, url, warned)
    assert content(second) == work(content(first)) and warned == []


@pytest.mark.parametrize("moment", ["1e300", "-1", '"yesterday"'])
def test_an_odd_date_is_said_to_be_damage(moment, tmp_path, url, warned):
    one = synced(folder(tmp_path / "first"), url, warned)
    text = one.store.system.cat_file(one.store.at(MANIFEST)).decode()
    one.store.system.pipe_file(
        one.store.at(MANIFEST), re.sub(r'"at":[^,]*', f'"at":{moment}', text).encode()
    )
    with pytest.raises(StratosError, match=r"manifest\.json is damaged: .*at"):
        synced(tmp_path / "second", url, warned)


def test_what_is_damaged_is_refused(tmp_path, url, warned):
    one = synced(folder(tmp_path / "first"), url, warned)
    manifest = one.store.read(MANIFEST, Manifest)
    one.store.system.pipe_file(at(one, manifest.files["corpus/train.jsonl"]), b"rovs")
    second = tmp_path / "second"
    with pytest.raises(StratosError, match=r"stored for corpus/train\.jsonl is damaged"):
        synced(second, url, warned)
    assert not list(second.glob("*.json"))


def test_a_file_outside_of_the_run_folder_is_refused(tmp_path, url, warned):
    one = synced(folder(tmp_path / "first"), url, warned)
    manifest = one.store.read(MANIFEST, Manifest)
    manifest.files["../../out"] = manifest.files["plan.json"]
    one.store.write(MANIFEST, manifest)
    (tmp_path / "a" / "b").mkdir(parents=True)
    with pytest.raises(StratosError, match="lies outside of the run folder"):
        synced(tmp_path / "a" / "b", url, warned)
    assert not (tmp_path / "out").exists()


def test_a_copy_that_was_lost_is_made_again(tmp_path, url, warned):
    first = folder(tmp_path / "first")
    one = synced(first, url, warned)
    one.store.system.rm(one.store.root, recursive=True)
    synced(first, url, warned)
    assert len(warned) == 1 and "has lost its copy of this run" in warned[0]
    second = tmp_path / "second"
    synced(second, url, warned)
    assert content(second) == work(FILES)


def test_an_object_that_was_lost_is_stored_again(tmp_path, url, warned):
    first = folder(tmp_path / "first")
    one = synced(first, url, warned)
    manifest = one.store.read(MANIFEST, Manifest)
    one.store.system.rm_file(at(one, manifest.files["corpus/train.jsonl"]))
    one.store.system.pipe_file(at(one, manifest.files["plan.json"]), b"cut short")
    synced(first, url, warned)
    second = tmp_path / "second"
    synced(second, url, warned)
    assert content(second) == work(FILES)


def test_links_to_files_are_copied_and_others_are_said(tmp_path, url, warned):
    first = folder(tmp_path / "first")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "rows.jsonl").write_bytes(b"rows")
    (first / "rows.jsonl").symlink_to(tmp_path / "elsewhere" / "rows.jsonl")
    (first / "rows").symlink_to(tmp_path / "elsewhere")
    (first / "gone").symlink_to(tmp_path / "nowhere")
    (first / "latest").symlink_to(first / "corpus")
    one = synced(first, url, warned)
    with one.lease.hold():
        one.push()
    second = tmp_path / "second"
    synced(second, url, warned)
    assert content(second) == {**work(FILES), "rows.jsonl": b"rows"}
    assert sorted(one.split(" is a link to ")[0] for one in warned) == [
        f"{first}/gone", f"{first}/rows"
    ]  # fmt: skip
    assert not (second / "rows.jsonl").is_symlink()


@pytest.mark.parametrize(("wrong", "told"), [
    ("nosuch://bucket/a", "there is no file system nosuch"),
    ("file:///proc/1/no/such", "cannot be written to"),
])  # fmt: skip
def test_a_url_that_cannot_be_used_is_said_before_anything_runs(tmp_path, warned, wrong, told):
    with pytest.raises(StratosError, match=told):
        synced(folder(tmp_path / "first"), wrong, warned)


def test_what_passes_is_not_copied(tmp_path, url, warned):
    half = {".lock": b"", "jobs/distill.lock": b"", ".plan.json.new": b"", "x/.a.1.2.tmp": b"",
            ".bundle.new/model.safetensors": b"", "x/.y.old/z": b""}  # fmt: skip
    synced(folder(tmp_path / "first", {**FILES, **half}), url, warned)
    second = tmp_path / "second"
    synced(second, url, warned)
    assert content(second) == work(FILES)


def test_what_was_fetched_in_part_is_fetched_again(tmp_path, url, warned, monkeypatch):
    synced(folder(tmp_path / "first"), url, warned)
    second = tmp_path / "second"
    second.mkdir()
    one, n_got = mirror(second, url, warned), 0
    get = one.store.system.get_file

    def cut_short(*args: Any) -> None:
        nonlocal n_got
        if n_got == 2:
            raise ConnectionError("gone")
        n_got += 1
        get(*args)

    monkeypatch.setattr(one.store.system, "get_file", cut_short)
    with one.lease.hold(), pytest.raises(StratosError, match="cannot be read: gone"):
        one.pull()
    monkeypatch.setattr(one.store.system, "get_file", get)
    assert (second / "ledger.jsonl").exists()
    synced(second, url, warned)
    assert content(second) == work(FILES)


def test_a_large_file_that_grows_all_the_time_is_copied(tmp_path, url, warned, monkeypatch):
    first, second = folder(tmp_path / "first"), tmp_path / "second"
    one = mirror(first, url, warned)
    copy = copy_store.copy_and_digest

    def meanwhile(*args: Any) -> str:
        with (first / "ledger.jsonl").open("ab") as file:
            file.write(b"more\n")
        return copy(*args)

    monkeypatch.setattr(copy_store, "copy_and_digest", meanwhile)
    with one.lease.hold():
        one.pull()
        one.push()
        before = (first / "ledger.jsonl").read_bytes()
        one.push()
    monkeypatch.setattr(copy_store, "copy_and_digest", copy)
    synced(second, url, warned)
    assert (second / "ledger.jsonl").read_bytes() == before


def test_a_file_that_is_written_to_in_its_place_stays_as_it_was_copied(
    tmp_path, url, warned, monkeypatch
):
    first, second = folder(tmp_path / "first"), tmp_path / "second"
    one, copy = synced(first, url, warned), copy_store.copy_and_digest
    (first / "corpus" / "train.jsonl").write_bytes(b"other rows")

    def meanwhile(*args: Any) -> str:
        with (first / "corpus" / "train.jsonl").open("r+b") as file:
            file.write(b"O")
        return copy(*args)

    monkeypatch.setattr(copy_store, "copy_and_digest", meanwhile)
    with one.lease.hold():
        one.push()
    monkeypatch.setattr(copy_store, "copy_and_digest", copy)
    synced(second, url, warned)
    assert content(second) == work(FILES)


def deleted(path: Path) -> None:
    shutil.rmtree(path)


def made_anew(path: Path) -> None:
    """Delete a folder, while the command that works in it writes there again."""
    with (path / LOCK).open():  # as its holder has it, so that no other file gets its inode
        shutil.rmtree(path)
        folder(path, {LOCK: b"", "distill/step-8.ckpt": b"weights"})


def emptied(path: Path) -> None:
    """Do what `rm -rf path/*` does: hidden files stay."""
    for one in path.glob("[!.]*"):
        shutil.rmtree(one) if one.is_dir() else one.unlink()
    (path / "ledger.jsonl").touch()  # a ledger that was opened since


@pytest.mark.parametrize("lose", [deleted, made_anew, emptied])
def test_a_run_folder_that_is_lost_while_a_command_works_is_fetched_by_the_next(
    tmp_path, url, warned, lose
):
    first = folder(tmp_path / "first", {**FILES, LOCK: b""})
    one = mirror(first, url, warned)
    with one.lease.hold():
        one.pull()
        one.push()
        lose(first)
        before = content(first)
        assert not one.push_or_warn()
        with pytest.raises(FolderGoneError, match="is gone or was emptied while"):
            one.push()
        assert content(first) == before
    first.mkdir(exist_ok=True)
    again = mirror(first, url, warned)
    with again.lease.hold():
        assert again.pull() == len(work(FILES))
        again.push()
    assert work(FILES).items() <= content(first).items()
    second = tmp_path / "second"
    synced(second, url, warned)
    assert work(FILES).items() <= content(second).items()
    assert warned == []


def test_a_folder_that_is_deleted_file_by_file_is_not_copied_half(
    tmp_path, url, warned, monkeypatch
):
    first = folder(tmp_path / "first", {**FILES, LOCK: b""})
    one = mirror(first, url, warned)
    with one.lease.hold():
        one.pull()
        one.push()
        shutil.rmtree(first / "corpus")
        monkeypatch.setattr(time, "sleep", lambda _: shutil.rmtree(first, ignore_errors=True))
        with pytest.raises(FolderGoneError):
            one.push()
        manifest = one.store.read(MANIFEST, Manifest)
    assert manifest.files.keys() == FILES.keys()


def test_a_record_that_the_user_deleted_between_two_commands_stays_deleted(tmp_path, url, warned):
    first = folder(tmp_path / "first")
    synced(first, url, warned)
    (first / "plan.json").unlink()
    (first / "ledger.jsonl").unlink()
    one = synced(first, url, warned)
    assert "plan.json" not in one.store.read(MANIFEST, Manifest).files
    assert warned == []


def test_what_was_fetched_and_that_the_copy_is_whole_is_said(tmp_path, url, warned):
    notes: list[str] = []
    for name in ("first", "second"):
        run = folder(tmp_path / name, FILES if name == "first" else {})
        paths = SimpleNamespace(mirror=url, mirror_minutes=1.0)
        config: Any = SimpleNamespace(paths=paths, run_dir=run)
        with module.mirrored(config, RunFolder(run), warned.append, notes.append):
            pass
    whole = f"The copy at {url} is whole."
    assert notes[0] == notes[2] == whole and len(notes) == 3
    assert notes[1].startswith(f"Fetched from {url}: 3 files, as of 20")
    assert warned == []


def test_a_path_below_the_current_folder_is_no_url(tmp_path, warned):
    for wrong, right in (("file://tmp/user/x", "file:///tmp/user/x"),
                         ("local://x", "local:///x"),
                         ("file://./x", f"file://{Path.cwd()}/x")):  # fmt: skip
        with pytest.raises(StratosError, match=rf"paths\.mirror={wrong}: .* type {right}\."):
            mirror(tmp_path, wrong, warned)
