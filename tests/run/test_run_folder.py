"""A run folder that lies elsewhere is the same run; one that is deleted ends its run."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from stratos import records
from stratos.core.atomic_files import replacing, write_atomically
from stratos.core.errors import StratosError
from stratos.records import Report
from stratos.run import resume
from stratos.run.resume import marks_of, opened_in
from stratos.run.run_state import LOCK, FolderGoneError, RunFolder
from stratos.run.runner import opened
from stratos.run.stages import STAGES
from tests.report import factory

REPORT = next(one for one in STAGES if one.name == "report")


def kept(folder: Path) -> None:
    (folder / "report.html").write_text("<html>")
    record = Report(str(folder / "report.html"), 6, 0.1)
    records.save(folder / "report.json", "report", "mark", record, marks_of(record, folder))


@pytest.mark.parametrize("name", ["elsewhere", "with a space", "run-2"])
def test_what_a_record_names_is_looked_for_where_it_lies_now(tmp_path, name):
    old, new = tmp_path / "run", tmp_path / name
    old.mkdir()
    kept(old)
    old.rename(new)
    found = resume.find(REPORT, new)
    assert found is not None and found.trouble == "" and found.fingerprint == "mark"
    assert found.record.path == str(new / "report.html")
    assert list(opened_in(new / "report.json").files) == [str(new / "report.html")]
    (new / "report.html").write_text("<htm1>")
    found = resume.find(REPORT, new)
    assert found is not None and "has changed since it was written" in found.trouble


def test_a_copy_does_not_lean_on_the_folder_that_it_was_copied_from(tmp_path):
    old, new = tmp_path / "run", tmp_path / "copy"
    for folder in (old, new):
        folder.mkdir()
    kept(old)
    (new / "report.json").write_bytes((old / "report.json").read_bytes())
    found = resume.find(REPORT, new)
    assert found is not None and f"names {new / 'report.html'}, which is gone" in found.trouble


@pytest.mark.parametrize(
    ("told", "now"),
    [
        ("{old}-2", "{old}-2"),
        ("serve '{old}/bundle' --log {out}/x --near '{old}-2'",
         "serve '{new}/bundle' --log {out}/x --near '{old}-2'"),
        ("it isn't in {old}/bundle", "it isn't in {old}/bundle"),
    ],
)  # fmt: skip
def test_names_that_begin_alike_and_commands(tmp_path, told, now):
    places = {"old": tmp_path / "a run", "new": tmp_path / "b run", "out": tmp_path / "out"}
    for one in ("old", "new"):
        places[one].mkdir()
    path = places["old"] / "report.json"
    records.save(path, "report", "mark", Report(told.format(**places), 6, 0.1))
    (places["new"] / "report.json").write_bytes(path.read_bytes())
    opened = opened_in(places["new"] / "report.json")
    assert records.from_json(bytes(opened.record), Report).path == now.format(**places)


def test_nothing_is_written_where_a_run_folder_was(tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    (run / LOCK).touch()
    card = run / "bundle" / "README.md"
    with pytest.raises(FolderGoneError, match="is gone or was emptied"), RunFolder(run).watched():
        write_atomically(card, b"card")
        shutil.rmtree(run)
        with pytest.raises(FileNotFoundError), replacing(run / "bundle"):
            raise AssertionError
        write_atomically(card, b"card")
    assert not run.exists()
    write_atomically(card, b"of the next command")


class Stuck:
    """What cannot be closed."""

    def close(self) -> None:
        raise OSError("the socket does not close")


def test_an_error_outranks_what_fails_in_cleaning_up_behind_it(tmp_path, capsys):
    config = factory.make_config(tmp_path / "run", teachers=(Stuck(),))
    cause = StratosError("The plan has no server.")
    with pytest.raises(StratosError) as caught, opened(config, STAGES):
        raise cause
    assert caught.value is cause
    assert "In cleaning up: the socket does not close" in "".join(capsys.readouterr())
    with pytest.raises(OSError, match="the socket does not close"), opened(config, STAGES):
        pass
