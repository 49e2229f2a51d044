"""Every bad input of the tables is refused in one clear message, and nothing is paid.

A part of the rows runs always, each in this process; all of them with `make attack`. After a change
of tables or messages, `STRATOS_ATTACK=whole pytest tests/attack/test_inputs.py --snapshot-update`
writes down what is said now.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.attack.bad_files import good_gguf, make_all, make_good_model
from tests.attack.bad_inputs import Row, rows, written_in
from tests.attack.command import run, typed, with_files, without_paths
from tests.attack.whole_run import part_of
from tests.teachers.provider import Provider
from tests.whole import IS_WHOLE, WHOLE

ROWS = rows()
CHOSEN = set(part_of(ROWS, every=6))
IN_PROCESSES = ROWS[::40] if IS_WHOLE else ROWS[::200]


def name_of(row: Row) -> str:
    """Name a row; syrupy takes what is before :: for another name."""
    return f"{row.file}: {row.text}".replace("::", ": :")


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every bad file, and a whole model."""
    root = tmp_path_factory.mktemp("bad") / "files"
    root.mkdir()
    make_all(root, make_good_model(tmp_path_factory.mktemp("model")), good_gguf())
    return root


@pytest.fixture(scope="session")
def provider() -> Iterator[Provider]:
    """A teacher that whoever gets past the check would pay."""
    with Provider() as teacher:
        yield teacher


def test_the_tables_are_as_long_as_they_are_said_to_be():
    assert len(ROWS) >= 900
    assert len({(row.file, row.text) for row in ROWS}) == len(ROWS)


@pytest.mark.parametrize(
    "row",
    [pytest.param(row, id=name_of(row), marks=[] if row in CHOSEN else WHOLE) for row in ROWS],
)
def test_a_bad_input_is_refused(row, files, provider, tmp_path, snapshot):
    if "gguf" in row.text and good_gguf() is None:
        pytest.skip("the package with the GGUF file is not there")
    ended = run(row.typed, provider, with_files(files, tmp_path / "here"))
    assert "Traceback" not in ended.text
    assert (ended.code, ended.n_paid) == (row.code, 0), ended.text
    assert written_in(ended.text) == snapshot


@pytest.mark.slow
@pytest.mark.parametrize("row", IN_PROCESSES, ids=name_of)
def test_a_process_of_its_own_says_the_same(row, files, provider, tmp_path):
    folder = with_files(files, tmp_path / "here")
    done = subprocess.run(
        [sys.executable, "-m", "stratos", *typed(row.typed, provider.base_url)],
        cwd=folder, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    here = run(row.typed, provider, with_files(files, tmp_path / "there"))
    assert done.returncode == here.code == row.code
    assert without_paths(done.stderr, folder, provider) == here.text
