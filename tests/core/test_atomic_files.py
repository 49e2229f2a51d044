"""Files that take the place of others when they are whole."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from stratos.core.atomic_files import replacing, replacing_file, write_atomically


def left_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    write_atomically(path, b"old")
    with pytest.raises(ValueError, match="half"), replacing_file(path) as new:
        new.write_bytes(b"ne")
        raise ValueError("half written")
    assert path.read_bytes() == b"old" and left_in(tmp_path) == ["record.json"]


def test_a_file_takes_no_folders_place(tmp_path: Path) -> None:
    (tmp_path / "record.json" / "inner").mkdir(parents=True)
    with pytest.raises(OSError) as told:
        write_atomically(tmp_path / "record.json", b"new")
    assert told.value.filename2 == str(tmp_path / "record.json")
    assert left_in(tmp_path) == ["record.json"]
    assert left_in(tmp_path / "record.json") == ["inner"]


def test_a_folder_takes_the_place_of_a_folder_and_of_a_file(tmp_path: Path) -> None:
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


def test_threads_that_write_one_file_at_once_do_not_mix(tmp_path: Path) -> None:
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
