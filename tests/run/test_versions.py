"""Every version stands for its code, and what changes no record changes no digest."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import closures
from closures import Version

from stratos.core.extensions import extensions
from stratos.run.stages import STAGES


def test_every_version_stands_for_its_code():
    names = closures.troubles()
    assert not names, closures.message(names)


def test_what_a_room_adds_to_a_stage_is_behind_its_version():
    behind = {stage.name: closures.closure_of(stage) for stage in STAGES}
    for room in extensions():
        for target, stage in ((room.speedups, "distill"), (room.decoder, "evaluate")):
            file = f"{target.partition(':')[0].removeprefix('stratos.').replace('.', '/')}.py"
            assert not target or file in behind[stage]


def test_what_is_wrong_with_a_version():
    old = Version(2, "a")
    assert closures.trouble(old, old) == ""
    assert closures.trouble(Version(2, "b"), old) == closures.CHANGED
    assert closures.trouble(Version(3, "b"), old) == closures.NEW
    assert closures.trouble(old, None) == closures.NEW
    assert closures.trouble(Version(1, "a"), old) == closures.LOWER


STAGE = '''
"""A stage."""
from __future__ import annotations
from typing import TYPE_CHECKING
from stratos.core.errors import StratosError
if TYPE_CHECKING:
    from stratos.tasks import seen
LIMIT = 3
def plan(n: int) -> int:
    """Plan."""
    from stratos.catalog import (
        table as rows,
    )
    if n > LIMIT:
        raise StratosError(f"{n} is too many.")
    context.warn("this is slow")
    return rows.of(n, "a prompt")
'''


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A package of another content in place of ours."""
    monkeypatch.setattr(closures, "ROOT", tmp_path)
    for path, text in {
        "plan/__init__.py": "",
        "plan/stage.py": STAGE,
        "catalog/__init__.py": "",
        "catalog/table.py": "import stratos.core.money\nLATER = 'stratos.catalog.later:read'",
        "catalog/later.py": "",
        "catalog/offers.csv": "1",
        "core/errors.py": "1",
        "core/money.py": "1",
        "tasks/__init__.py": "",
        "tasks/seen.py": "1",
    }.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    yield tmp_path
    forget()


def forget() -> None:
    for cached in (closures.imports_of, closures._file, closures._tree, closures._digest_of):
        cached.cache_clear()


def digest() -> str:
    forget()
    return closures.digest(closures.closure(["plan/stage.py"], ()))


def test_a_closure_is_what_is_imported_when_it_runs(house):
    forget()
    assert closures.closure(["plan/stage.py"], ()) == {
        "plan/stage.py", "catalog/__init__.py", "catalog/table.py", "catalog/later.py",
        "core/money.py",
    }  # fmt: skip
    assert closures.closure(["plan/stage.py"], ["catalog/table.py"]) == {
        "plan/stage.py", "catalog/__init__.py",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"""Plan."""', '"""Plan anew."""'),
        ("LIMIT = 3", "LIMIT = 3  # at most"),
        ("LIMIT = 3", "LIMIT = (\n    3\n)"),
        ("n: int", "n: float"),
        ("is too many", "are too many"),
        ("this is slow", "this takes long"),
        ("import seen", "import another"),
    ],
)
def test_what_changes_no_record_changes_no_digest(house, old, new):
    before = digest()
    assert old in STAGE
    (house / "plan" / "stage.py").write_text(STAGE.replace(old, new))
    assert digest() == before


@pytest.mark.parametrize(("old", "new"), [("LIMIT = 3", "LIMIT = 4"), ("a prompt", "prompts"),
                                          ("n > LIMIT", "n >= LIMIT")])  # fmt: skip
def test_what_may_change_a_record_changes_the_digest(house, old, new):
    before = digest()
    (house / "plan" / "stage.py").write_text(STAGE.replace(old, new))
    assert digest() != before


@pytest.mark.parametrize(
    ("path", "counts"),
    [("catalog/offers.csv", True), ("core/money.py", True), ("core/errors.py", False),
     ("tasks/seen.py", False)],
)  # fmt: skip
def test_files_behind_a_stage(house, path, counts):
    before = digest()
    (house / path).write_text("2")
    assert (digest() != before) == counts
    (house / path).rename(house / path.replace("/", "/another_"))
