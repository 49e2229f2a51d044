"""The copy of a run folder: whole wherever its writer is killed, and for one command at a time."""

from __future__ import annotations

import contextlib
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import fsspec
import pytest
from stub_executors import Queue

from stratos.core.errors import BusyError, StratosError
from stratos.core.process import Process
from stratos.core.remote import make_parent
from stratos.executors import submission
from stratos.executors.job import JobSpec
from stratos.executors.submission import Submission
from stratos.run import copy_store
from stratos.run import mirror as module
from stratos.run.copy_store import CLAIM, CLAIM_S, Claim, CopyStore
from stratos.run.mirror import KNOWN, MANIFEST, Manifest, Mirror
from stratos.run.run_state import LOCK, FolderGoneError, RunFolder

FILES = {
    "plan.json": b"{}", "corpus/train.jsonl": b"rows", "ledger.jsonl": b'{"usd": 1}\n',
    ".hydra/config.yaml": b"seed: 0\n",
}  # fmt: skip


@pytest.fixture(params=["file", "memory"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "file":
        yield f"file://{tmp_path}/bucket/runs/a"
        return
    yield "memory://bucket/runs/a"
    fsspec.filesystem("memory").store.clear()


@pytest.fixture(autouse=True)
def _no_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_SETTLES_S", 0.0)
    monkeypatch.setattr(copy_store, "SETTLES_S", 0.0)


@pytest.fixture
def warned() -> list[str]:
    return []


def folder(path: Path, files: dict[str, bytes] = FILES) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    for name, data in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(data)
    return path


def content(path: Path) -> dict[str, bytes]:
    found = (one for one in path.rglob("*") if one.is_file() and one.name != KNOWN)
    return {str(one.relative_to(path)): one.read_bytes() for one in found}


def work(files: dict[str, bytes]) -> dict[str, bytes]:
    """Return what another machine is given: the config is its own command's."""
    return {name: data for name, data in files.items() if not name.startswith(".hydra")}


def synced(path: Path, url: str, warned: list[str]) -> Mirror:
    """Do what a command does at its start and its end, in a folder that is made if need be."""
    path.mkdir(exist_ok=True)
    one = Mirror(path, url, warned.append)
    with one.claim.hold():
        one.pull()
        one.push()
    return one


def test_another_machine_goes_on_and_the_first_one_after_it(
    tmp_path: Path, url: str, warned: list[str]
) -> None:
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


def test_where_both_have_gone_on_nothing_is_lost(
    tmp_path: Path, url: str, warned: list[str]
) -> None:
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


@pytest.mark.slow
@pytest.mark.kill
@pytest.mark.parametrize("n_writes", range(6))
def test_a_writer_that_is_killed_leaves_the_copy_before(
    tmp_path: Path, url: str, warned: list[str], monkeypatch: pytest.MonkeyPatch, n_writes: int
) -> None:
    first = folder(tmp_path / "first")
    synced(first, url, warned)
    folder(first, {"plan.json": b"{1}", "distill.json": b"{2}", "ledger.jsonl": b"{3}"})
    one = Mirror(first, url, warned.append)
    system, left = one.store.system, n_writes
    pipe = system.pipe_file

    def killed(*args: Any, **kwargs: Any) -> None:
        nonlocal left
        if not left:
            raise KeyboardInterrupt
        left -= 1
        pipe(*args, **kwargs)

    with one.claim.hold():
        monkeypatch.setattr(system, "pipe_file", killed)
        try:
            one.push()
        except KeyboardInterrupt:
            assert n_writes < 4  # three objects, and the manifest
        monkeypatch.setattr(system, "pipe_file", pipe)
    second = tmp_path / "second"
    synced(second, url, warned)
    assert content(second) == work(FILES if n_writes < 4 else content(first))
    # And the writer itself goes on.
    if n_writes >= 4:
        synced(first, url, warned)


def test_a_manifest_that_was_its_last_word_is_its_own(
    tmp_path: Path, url: str, warned: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = folder(tmp_path / "first")
    synced(first, url, warned)
    before = (first / KNOWN).read_bytes()
    folder(first, {"distill.json": b"{}"})
    one = Mirror(first, url, warned.append)
    know, told = one._know, []

    def killed(*args: Any) -> None:
        if told:
            raise KeyboardInterrupt
        told.append(args)
        know(*args)

    monkeypatch.setattr(one, "_know", killed)
    with one.claim.hold(), pytest.raises(KeyboardInterrupt):
        one.push()
    assert (first / KNOWN).read_bytes() != before
    folder(first, {"evaluate.json": b"{}"})
    synced(first, url, warned)
    assert warned == []


def test_what_is_damaged_is_refused(tmp_path: Path, url: str, warned: list[str]) -> None:
    one = synced(folder(tmp_path / "first"), url, warned)
    manifest = one.store.read(MANIFEST, Manifest)
    place = one.store.object_at(manifest.files["corpus/train.jsonl"].sha256)
    one.store.system.pipe_file(place, b"rovs")
    second = tmp_path / "second"
    with pytest.raises(StratosError, match=r"stored for corpus/train\.jsonl is damaged"):
        synced(second, url, warned)
    assert not list(second.glob("*.json"))


def test_a_file_outside_of_the_run_folder_is_refused(
    tmp_path: Path, url: str, warned: list[str]
) -> None:
    one = synced(folder(tmp_path / "first"), url, warned)
    manifest = one.store.read(MANIFEST, Manifest)
    manifest.files["../../out"] = manifest.files["plan.json"]
    one.store.write(MANIFEST, manifest)
    (tmp_path / "a" / "b").mkdir(parents=True)
    with pytest.raises(StratosError, match="lies outside of the run folder"):
        synced(tmp_path / "a" / "b", url, warned)
    assert not (tmp_path / "out").exists()


def test_a_copy_that_was_lost_is_made_again(tmp_path: Path, url: str, warned: list[str]) -> None:
    first = folder(tmp_path / "first")
    one = synced(first, url, warned)
    one.store.system.rm(one.store.root, recursive=True)
    synced(first, url, warned)
    assert len(warned) == 1 and "has lost its copy of this run" in warned[0]
    second = tmp_path / "second"
    synced(second, url, warned)
    assert content(second) == work(FILES)


def test_the_second_of_two_commands_is_shown_the_first(
    tmp_path: Path, url: str, warned: list[str]
) -> None:
    one = Mirror(folder(tmp_path / "first"), url, warned.append)
    other = Mirror(folder(tmp_path / "second"), url, warned.append)
    me = Process.this()
    with one.claim.hold():
        told = rf"process {me.pid} of {me.host}, in {tmp_path}/first; .*delete .*/{CLAIM}"
        with pytest.raises(BusyError, match=told), other.claim.hold():
            pass
    with other.claim.hold():
        pass


@pytest.mark.parametrize(("host", "boot", "age_s", "is_free"), [
    ("elsewhere", "other", CLAIM_S - 60, False), ("elsewhere", "other", CLAIM_S + 60, True),
    (None, None, 0, True), (None, "other", 0, False),
])  # fmt: skip
def test_a_claim_whose_holder_is_gone_is_taken_over(
    tmp_path: Path, url: str, warned: list[str],
    host: str | None, boot: str | None, age_s: float, is_free: bool,
) -> None:  # fmt: skip
    one = Mirror(folder(tmp_path / "first"), url, warned.append)
    me = Process.this()
    holder = Process(host or me.host, 2**22 + 1, boot or me.boot, "1")
    claim = Claim("x", holder, "/there", time.time() - age_s)
    make_parent(one.store.system, one.store.at(CLAIM))
    one.store.write(CLAIM, claim)
    if not is_free:
        with pytest.raises(BusyError, match=f"of {holder.host}, in /there"), one.claim.hold():
            pass
        return
    with one.claim.hold():
        assert one.store.read(CLAIM, Claim).token == one.claim.token


def test_a_holder_that_is_seen_alive_keeps_its_claim_whatever_the_clock_says(
    tmp_path: Path, url: str, warned: list[str]
) -> None:
    one = Mirror(folder(tmp_path / "first"), url, warned.append)
    claim = Claim("x", Process.of(os.getppid()), "/there", time.time() - 2 * CLAIM_S)
    make_parent(one.store.system, one.store.at(CLAIM))
    one.store.write(CLAIM, claim)
    with pytest.raises(BusyError, match="in /there"), one.claim.hold():
        pass


def test_jobs_of_the_folder_that_a_copy_was_of_are_named(
    tmp_path: Path, url: str, warned: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    spec = JobSpec("stratos-lost-distill", "distill", tmp_path / "lost", "train", 1, 1.0)
    submission.add_to_list(Submission.of(Queue(), spec, id="7", label="queue job 7"))
    one = Mirror(folder(tmp_path / "found"), url, warned.append)
    me = Process.this()
    gone = Process(me.host, 2**22 + 1, me.boot, "1")
    make_parent(one.store.system, one.store.at(CLAIM))
    claim = Claim("x", gone, str(tmp_path / "lost"), time.time())
    one.store.write(CLAIM, claim)
    with one.claim.hold():
        pass
    assert any(
        "distill of" in said and "queue job 7" in said and "down stratos-lost-distill" in said
        for said in warned
    ), warned


def test_who_has_lost_its_claim_copies_no_more(tmp_path: Path, url: str, warned: list[str]) -> None:
    first = folder(tmp_path / "first")
    one = Mirror(first, url, warned.append)
    with one.claim.hold():
        one.pull()
        one.push()
        claim = Claim("x", Process("elsewhere", 1), "/there", time.time())
        one.store.write(CLAIM, claim)
        one.claim.renewed_at -= 1000
        folder(first, {"distill.json": b"{}"})
        one.push_or_warn()
    assert "(process 1 of elsewhere" in warned[0]
    assert one.store.read(CLAIM, Claim).token == "x"


def test_who_was_thought_gone_changes_nothing_of_its_successor(
    tmp_path: Path, url: str, warned: list[str]
) -> None:
    first, second, third = tmp_path / "first", tmp_path / "second", tmp_path / "third"
    one, other = Mirror(folder(first), url, warned.append), Mirror(second, url, warned.append)
    second.mkdir()
    with one.claim.hold():
        one.pull()
        one.push()
        claim = Claim(one.claim.token, Process("elsewhere", 1), "/there", time.time() - CLAIM_S - 1)
        one.store.write(CLAIM, claim)
        with other.claim.hold():
            other.pull()
            folder(second, {"distill.json": b"{2}"})
            other.push()
            folder(first, {"corpus/train.jsonl": b"other rows"})
            one.push_or_warn()
            folder(second, {"evaluate.json": b"{2}"})
            other.push()
    assert len(warned) == 1 and "is worked with by another command by now" in warned[0]
    synced(third, url, warned)
    assert content(third) == work(content(second))


def test_a_claim_is_renewed_while_files_take_long(
    tmp_path: Path, url: str, warned: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(copy_store, "RENEW_S", 0.1)
    one = Mirror(folder(tmp_path / "first"), url, warned.append)
    with one.claim.hold():
        before = one.store.read(CLAIM, Claim).at
        until = time.monotonic() + 10
        while one.store.read(CLAIM, Claim).at == before:
            assert time.monotonic() < until
            time.sleep(0.05)


@pytest.mark.parametrize("late", ["creates", "overwrites"])
def test_of_many_that_take_over_one_claim_one_has_it(
    tmp_path: Path, url: str, warned: list[str], monkeypatch: pytest.MonkeyPatch, late: str
) -> None:
    """Whatever time they take: all have found the same claim given up before one goes on."""
    me, had = Process.this(), []
    everyone = [Mirror(folder(tmp_path / str(i)), url, warned.append) for i in range(4)]
    gone = Claim("x", Process(me.host, 2**22 + 1, me.boot, "1"), "/there", time.time())
    # And one was killed in taking it over.
    died = Claim("y", Process(me.host, 2**22 + 1, me.boot, "1"), "/there", time.time())
    make_parent(everyone[0].store.system, everyone[0].store.at(CLAIM))
    everyone[0].store.write(CLAIM, gone)
    everyone[0].store.write(f"{CLAIM}.x-{gone.at:.0f}", died)
    together = threading.Barrier(len(everyone))

    def take(i: int) -> None:
        one, reads = everyone[i], 0
        read, write = one.store.read, one.store.write

        def read_late(name: str, type: type) -> Any:
            nonlocal reads
            found, reads = read(name, type), reads + 1
            if reads == 1:
                together.wait(10)
                time.sleep(0.1 * i if late == "creates" else 0)
            return found

        def write_late(name: str, record: Any) -> None:
            time.sleep(0.2)
            write(name, record)

        monkeypatch.setattr(one.store, "read", read_late)
        if late == "overwrites":
            monkeypatch.setattr(one.store, "write", write_late)
        with contextlib.suppress(BusyError):
            one.claim.take()
            had.append(one)

    threads = [threading.Thread(target=take, args=(i,)) for i in range(len(everyone))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(had) == 1
    assert had[0].store.read(CLAIM, Claim).token == had[0].claim.token
    names = had[0].store.system.ls(had[0].store.root, detail=False)
    assert [one.rpartition("/")[2] for one in names] == [CLAIM]


def objects(one: Mirror) -> set[str]:
    return set(one.store.find_objects())


def test_an_object_that_was_lost_is_stored_again(
    tmp_path: Path, url: str, warned: list[str]
) -> None:
    first = folder(tmp_path / "first")
    one = synced(first, url, warned)
    manifest = one.store.read(MANIFEST, Manifest)
    one.store.system.rm_file(one.store.object_at(manifest.files["corpus/train.jsonl"].sha256))
    one.store.system.pipe_file(
        one.store.object_at(manifest.files["plan.json"].sha256), b"cut short"
    )
    synced(first, url, warned)
    second = tmp_path / "second"
    synced(second, url, warned)
    assert content(second) == work(FILES)


def test_what_a_killed_push_stored_is_deleted_by_the_next(
    tmp_path: Path, url: str, warned: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = folder(tmp_path / "first")
    one = synced(first, url, warned)
    before = objects(one)
    assert before == {stored.sha256 for stored in one.store.read(MANIFEST, Manifest).files.values()}
    folder(first, {"distill.json": b"half of a run"})
    one, write = Mirror(first, url, warned.append), CopyStore.write

    def killed(self: CopyStore, name: str, record: Any) -> None:
        if name == MANIFEST:
            raise KeyboardInterrupt
        write(self, name, record)

    monkeypatch.setattr(CopyStore, "write", killed)
    with one.claim.hold(), pytest.raises(KeyboardInterrupt):
        one.push()
    monkeypatch.setattr(CopyStore, "write", write)
    assert len(objects(one)) == len(before) + 1
    (first / "distill.json").unlink()  # what it would have named is not there any more
    synced(first, url, warned)
    assert objects(one) == before


def test_links_to_files_are_copied_and_others_are_said(
    tmp_path: Path, url: str, warned: list[str]
) -> None:
    first = folder(tmp_path / "first")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "rows.jsonl").write_bytes(b"rows")
    (first / "rows.jsonl").symlink_to(tmp_path / "elsewhere" / "rows.jsonl")
    (first / "rows").symlink_to(tmp_path / "elsewhere")
    (first / "gone").symlink_to(tmp_path / "nowhere")
    (first / "latest").symlink_to(first / "corpus")
    one = synced(first, url, warned)
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
def test_a_url_that_cannot_be_used_is_said_before_anything_runs(
    tmp_path: Path, warned: list[str], wrong: str, told: str
) -> None:
    with pytest.raises(StratosError, match=told):
        synced(folder(tmp_path / "first"), wrong, warned)


def test_what_passes_is_not_copied(tmp_path: Path, url: str, warned: list[str]) -> None:
    half = {".lock": b"", "jobs/distill.lock": b"", ".plan.json.new": b"", "x/.a.1.2.tmp": b"",
            ".bundle.new/model.safetensors": b"", "x/.y.old/z": b""}  # fmt: skip
    synced(folder(tmp_path / "first", {**FILES, **half}), url, warned)
    second = tmp_path / "second"
    synced(second, url, warned)
    assert content(second) == work(FILES)


def test_what_was_fetched_in_part_is_fetched_again(
    tmp_path: Path, url: str, warned: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    synced(folder(tmp_path / "first"), url, warned)
    second = tmp_path / "second"
    second.mkdir()
    one, n_got = Mirror(second, url, warned.append), 0
    get = one.store.system.get_file

    def cut_short(*args: Any) -> None:
        nonlocal n_got
        if n_got == 2:
            raise ConnectionError("gone")
        n_got += 1
        get(*args)

    monkeypatch.setattr(one.store.system, "get_file", cut_short)
    with one.claim.hold(), pytest.raises(StratosError, match="cannot be read: gone"):
        one.pull()
    monkeypatch.setattr(one.store.system, "get_file", get)
    assert (second / "ledger.jsonl").exists()
    synced(second, url, warned)
    assert content(second) == work(FILES)


def test_a_large_file_that_grows_all_the_time_is_copied(
    tmp_path: Path, url: str, warned: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_SMALL", 4)
    first, second = folder(tmp_path / "first"), tmp_path / "second"
    one = Mirror(first, url, warned.append)
    put = one.store.system.put_file

    def meanwhile(*args: Any) -> None:
        with (first / "ledger.jsonl").open("ab") as file:
            file.write(b"more\n")
        put(*args)

    monkeypatch.setattr(one.store.system, "put_file", meanwhile)
    with one.claim.hold():
        one.pull()
        one.push()
        before = (first / "ledger.jsonl").read_bytes()
        one.push()
    monkeypatch.setattr(one.store.system, "put_file", put)
    synced(second, url, warned)
    assert (second / "ledger.jsonl").read_bytes() == before


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
    tmp_path: Path, url: str, warned: list[str], lose: Callable[[Path], None]
) -> None:
    first = folder(tmp_path / "first", {**FILES, LOCK: b""})
    one = Mirror(first, url, warned.append, RunFolder(first))
    with one.claim.hold():
        one.pull()
        one.push()
        lose(first)
        before = content(first)
        assert not one.push_or_warn() and not one.push_or_warn()
        with pytest.raises(FolderGoneError, match="is gone or was emptied while"):
            one.push()
        assert content(first) == before
    assert len(warned) == 1 and "nothing more is copied" in warned[0]
    first.mkdir(exist_ok=True)
    again = Mirror(first, url, warned.append)
    with again.claim.hold():
        assert again.pull() == len(work(FILES))
        again.push()
    assert work(FILES).items() <= content(first).items()
    second = tmp_path / "second"
    synced(second, url, warned)
    assert work(FILES).items() <= content(second).items()
    assert len(warned) == 1


def test_a_folder_that_is_deleted_file_by_file_is_not_copied_half(
    tmp_path: Path, url: str, warned: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = folder(tmp_path / "first", {**FILES, LOCK: b""})
    one = Mirror(first, url, warned.append, RunFolder(first))
    with one.claim.hold():
        one.pull()
        one.push()
        shutil.rmtree(first / "corpus")
        monkeypatch.setattr(time, "sleep", lambda _: shutil.rmtree(first, ignore_errors=True))
        with pytest.raises(FolderGoneError):
            one.push()
        manifest = one.store.read(MANIFEST, Manifest)
    assert manifest.files.keys() == FILES.keys()


def test_a_record_that_the_user_deleted_between_two_commands_stays_deleted(
    tmp_path: Path, url: str, warned: list[str]
) -> None:
    first = folder(tmp_path / "first")
    synced(first, url, warned)
    (first / "plan.json").unlink()
    (first / "ledger.jsonl").unlink()
    one = synced(first, url, warned)
    assert "plan.json" not in one.store.read(MANIFEST, Manifest).files
    assert warned == []


def test_what_was_fetched_and_that_the_copy_is_whole_is_said(
    tmp_path: Path, url: str, warned: list[str]
) -> None:
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


def test_a_path_below_the_current_folder_is_no_url(tmp_path: Path, warned: list[str]) -> None:
    for wrong, right in (("file://tmp/user/x", "file:///tmp/user/x"),
                         ("local://x", "local:///x"),
                         ("file://./x", f"file://{Path.cwd()}/x")):  # fmt: skip
        with pytest.raises(StratosError, match=rf"paths\.mirror={wrong}: .* type {right}\."):
            Mirror(tmp_path, wrong, warned.append)


def test_who_slept_while_another_went_on_and_ended_changes_nothing(
    tmp_path: Path, url: str, warned: list[str]
) -> None:
    slept = Mirror(folder(tmp_path / "first"), url, warned.append)
    slept.claim.take()
    slept.push()
    slept.store.system.rm_file(
        slept.store.at(CLAIM)
    )  # taken over as given up, and taken away at the end
    other = Mirror(tmp_path / "second", url, warned.append)
    (tmp_path / "second").mkdir()
    with other.claim.hold():
        other.pull()
        (tmp_path / "second" / "paid.json").write_text("of the other")
        other.push()
    left = other.store.read(MANIFEST, Manifest)
    slept.claim.renewed_at = time.monotonic() - 3600
    (tmp_path / "first" / "late.json").write_text("woke up")
    assert not slept.push_or_warn()
    assert "has gone on from the copy since" in warned[-1]
    assert slept.store.read(MANIFEST, Manifest) == left and "paid.json" in left.files
    (tmp_path / "third").mkdir()
    slept.store.system.rm_file(slept.store.at(CLAIM))
    Mirror(tmp_path / "third", url, warned.append).pull()
    assert (tmp_path / "third" / "paid.json").read_text() == "of the other"
