"""Every bad input of the tables is refused in one clear message, and nothing is paid.

A part of the rows runs always, each in this process; all of them with `make attack`.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from bad_files import make_all
from command import place, run, typed
from good_model import good_gguf, make_good_model
from scope import part_of
from server import Provider
from transcript import Row, rows
from whole import IS_WHOLE

ROWS = rows()
CHOSEN = part_of(ROWS, every=6)


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


def test_the_tables_are_as_long_as_they_are_said_to_be() -> None:
    assert len(ROWS) >= 450
    assert len({(row.file, row.text) for row in ROWS}) == len(ROWS)
    assert all(row.told for row in ROWS), "each row has what is said"


@pytest.mark.parametrize("row", CHOSEN, ids=lambda row: f"{row.file}-{row.number}")
def test_a_bad_input_is_refused(row: Row, files: Path, provider: Provider, tmp_path: Path) -> None:
    if "gguf" in row.text and good_gguf() is None:
        pytest.skip("the package with the GGUF file is not there")
    told = run(row.typed, provider, place(files, tmp_path / "here"))
    assert "Traceback" not in told.text
    assert row.differs(told.code, told.text) is None, row.text
    assert told.n_paid == 0


@pytest.mark.parametrize(
    "text",
    [row.text for row in (ROWS if IS_WHOLE else ROWS[::200])[:: 40 if IS_WHOLE else 1]],
)
def test_a_process_of_its_own_says_the_same(
    text: str, files: Path, provider: Provider, tmp_path: Path
) -> None:
    row = next(row for row in ROWS if row.text == text)
    folder = place(files, tmp_path / "here")
    done = subprocess.run(
        [sys.executable, "-m", "stratos", *typed(row.typed, provider.base_url)],
        cwd=folder, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    told = done.stderr.replace(str(folder), "{here}").replace(provider.base_url, "{teacher}")
    told = told.replace(str(files), "{files}").strip()
    assert row.differs(done.returncode, told) is None, row.text
