"""Files that take the place of others when they are whole."""

from __future__ import annotations

import contextlib
import errno
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from stratos.core import atomic_files
from stratos.core.atomic_files import (
    create_atomically,
    replacing,
    replacing_file,
    staged_apart,
    sweep,
    write_atomically,
)


def left_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "record.json"
    write_atomically(path, b"old")
    with pytest.raises(ValueError, match="half"), replacing_file(path) as new:
        new.write_bytes(b"ne")
        raise ValueError("half written")
    assert path.read_bytes() == b"old" and left_in(tmp_path) == ["record.json"]


def test_a_file_takes_no_folders_place(tmp_path):
    (tmp_path / "record.json" / "inner").mkdir(parents=True)
    with pytest.raises(OSError) as told:
        write_atomically(tmp_path / "record.json", b"new")
    assert told.value.filename2 == str(tmp_path / "record.json")
    assert left_in(tmp_path) == ["record.json"]
    assert left_in(tmp_path / "record.json") == ["inner"]


def test_a_folder_takes_the_place_of_a_folder_and_of_a_file(tmp_path):
    for name in ("folder", "file"):
        path = tmp_path / name
        if name == "folder":
            (path / "old").mkdir(parents=True)
        else:
            path.write_text("old")
        with replacing(path) as new:
            new.mkdir()
            (new / "whole").write_text("new")
        assert left_in(path) == ["whole"]
    assert left_in(tmp_path) == ["file", "folder"]


def test_threads_that_write_one_file_at_once_do_not_mix(tmp_path):
    path, together = tmp_path / "shared.bin", threading.Barrier(4)
    failed: list[BaseException] = []

    def write(letter: bytes) -> None:
        try:
            with replacing_file(path, flushed=False) as new, new.open("wb") as file:
                file.write(letter * 1000)
                together.wait()
                file.write(letter * 1000)
        except BaseException as error:
            failed.append(error)

    threads = [
        threading.Thread(target=write, args=(letter,)) for letter in (b"a", b"b", b"c", b"d")
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    data = path.read_bytes()
    assert not failed and len(data) == 2000 and len(set(data)) == 1
    assert left_in(tmp_path) == ["shared.bin"]


WRITER = """
import sys, pathlib
from stratos.core.atomic_files import staged_apart
path = staged_apart(pathlib.Path(sys.argv[1]))
path.write_bytes(b"half")
print(path.name, flush=True)
sys.stdin.read()
"""


@pytest.mark.kill
def test_what_a_killed_writer_leaves_is_swept_and_what_lives_is_not(tmp_path):
    inner = tmp_path / "corpus"
    inner.mkdir()
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(inner / "train.jsonl")],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert writer.stdout is not None
    name = writer.stdout.readline().strip()
    own = staged_apart(inner / "own.json")
    own.write_bytes(b"half")
    sweep(tmp_path)
    assert left_in(inner) == sorted([name, own.name]), "both are being written"
    writer.kill()
    writer.wait()
    sweep(tmp_path, levels=1)
    assert name in left_in(inner), "it lies deeper than it was looked for"
    sweep(tmp_path, levels=2)
    assert left_in(inner) == [own.name]


def test_files_of_other_machines_are_swept_by_their_age(tmp_path):
    """The process that has such a number here says nothing of the one that has it there."""
    dead = 2**22 + 1
    here = atomic_files._machine()
    of_another = [".a.json.0123abcd-1-99.5.tmp"]
    kept = ["a.json", ".note.tmp", ".x.json.new", "a.1.2.tmp", f".d.{here}-{os.getpid()}-.3.tmp"]
    for one in (
        *of_another,
        *kept,
        f".e.{here}-{os.getpid()}-1.3.tmp",
        f".f.{here}-{dead}-1.3.tmp",
    ):
        (tmp_path / one).write_bytes(b"half")
    sweep(tmp_path)
    assert left_in(tmp_path) == sorted([*of_another, *kept]), "none was known to be left behind"
    long_ago = time.time() - atomic_files._FORGOTTEN_S - 60
    for one in (*of_another, *kept):
        os.utime(tmp_path / one, (long_ago, long_ago))
    sweep(tmp_path)
    assert left_in(tmp_path) == sorted(kept)


@pytest.mark.parametrize("has_links", [True, False])
def test_of_many_that_create_a_file_one_does_and_no_reader_sees_a_part(
    tmp_path, monkeypatch, has_links
):
    if not has_links:

        def refused(*_: object) -> None:
            raise OSError(errno.EPERM, "no links here")

        monkeypatch.setattr(os, "link", refused)
    path, seen, won = tmp_path / "claim", set[bytes](), list[int]()
    texts = [bytes([65 + i]) * 200_000 for i in range(8)]
    done = threading.Event()

    def read() -> None:
        while not done.is_set():
            with contextlib.suppress(FileNotFoundError):
                seen.add(path.read_bytes())

    def create(i: int) -> None:
        with contextlib.suppress(FileExistsError):
            create_atomically(path, texts[i])
            won.append(i)

    reader = threading.Thread(target=read)
    reader.start()
    writers = [threading.Thread(target=create, args=(i,)) for i in range(8)]
    for one in writers:
        one.start()
    for one in writers:
        one.join()
    time.sleep(0.05)
    done.set()
    reader.join()
    assert len(won) == 1 and path.read_bytes() == texts[won[0]]
    assert not has_links or seen == {texts[won[0]]}
    assert [one.name for one in tmp_path.iterdir()] == ["claim"], "nothing is left beside it"
