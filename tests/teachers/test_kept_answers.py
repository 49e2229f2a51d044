"""Answers that also lie in the run folder, and what another machine's cache takes of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from stratos.teachers import cache
from stratos.teachers.base import Answer
from stratos.teachers.cache import FOLDER, AnswerCache, KeptAnswers, n_bytes, restored


def filled(run: Path, cache: Path, warnings: list[str], keys: range) -> None:
    """Answer questions as a command does, each with what it takes to be told apart."""
    answers = AnswerCache(cache, warnings.append, also=KeptAnswers(run / FOLDER, warnings.append))
    for i in keys:
        answers.put(f"key {i}", Answer(f"text {i}", i, 1, 0.5, finish="é"))
    answers.close()


def texts_in(cache: Path, n: int) -> list[str]:
    answers = AnswerCache(cache, lambda text: None)
    texts = answers.get([f"key {i}" for i in range(n)])
    answers.close()
    return [texts[key].text for key in sorted(texts)]


def test_another_cache_takes_over_what_is_whole(tmp_path: Path) -> None:
    run, warnings = tmp_path / "run", list[str]()
    filled(run, tmp_path / "first", warnings, range(3))
    filled(run, tmp_path / "first", warnings, range(3, 5))
    last = sorted((run / FOLDER).iterdir())[-1]
    with last.open("ab") as file:  # and was killed in the midst of a line
        file.write(b'{"key": "key 5", "answer": "{')
    filled(run, tmp_path / "first", warnings, range(5, 6))
    damaged = sorted((run / FOLDER).iterdir())[0]
    damaged.write_bytes(damaged.read_bytes().replace(b"text 1", b"tixt 1"))
    assert restored(run, tmp_path / "second", warnings.append) == 5
    assert texts_in(tmp_path / "second", 6) == ["text 0", "text 2", "text 3", "text 4", "text 5"]
    assert restored(run, tmp_path / "second", warnings.append) == 0, "they are there"
    assert restored(run, tmp_path / "first", warnings.append) == 0
    assert restored(tmp_path / "none", tmp_path / "second", warnings.append) == 0
    assert warnings == []


def test_a_cache_that_has_some_of_a_file_takes_over_the_others(tmp_path: Path) -> None:
    run, warnings = tmp_path / "run", list[str]()
    filled(run, tmp_path / "first", warnings, range(100))
    second = AnswerCache(tmp_path / "second", warnings.append)
    second.put("key 99", Answer("of its own", 1, 1, 0.5))  # the last row of the file
    second.close()
    assert restored(run, tmp_path / "second", warnings.append) == 99
    texts = texts_in(tmp_path / "second", 100)
    assert len(texts) == 100 and texts[-1] == "of its own"
    assert warnings == []


def test_files_are_parts_and_their_size_is_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache, "_PART_BYTES", 1000)
    monkeypatch.setattr(cache, "MOST_BYTES", 4000)
    run, warnings = tmp_path / "run", list[str]()
    filled(run, tmp_path / "cache", warnings, range(100))
    parts = sorted((run / FOLDER).iterdir())
    assert len(parts) == 4 and 4000 <= n_bytes(run) < 5000
    assert len(warnings) == 1 and "in the cache of this machine alone" in warnings[0]
    assert len(texts_in(tmp_path / "cache", 100)) == 100
