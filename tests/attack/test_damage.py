"""Whatever happens to any file of a finished run, its command mends it or says what to type."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.attack.whole_run import N_FILES, SEED, Run, new_run
from tests.teachers.provider import Provider
from tests.whole import IS_WHOLE

pytestmark = pytest.mark.slow

NOT_OURS = {"stratos.log", ".lock", "error.txt", "processes.log", "server.log"}
"""Files that nobody reads again."""
N_IN_PART = 4
ANY = "of any kind"


@dataclass(frozen=True)
class World:
    """A finished run, its copy, and another run of the same command with another seed."""

    run: Run
    saved: Path
    another: Path


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("whole")
    with Provider() as teacher:
        deploy = () if IS_WHOLE else ("deploy=none",)
        run, another = (
            new_run(folder / name, teacher, *deploy, *more)
            for name, more in (("one", ()), ("two", ("seed=1",)))
        )
        ended = run.go_on()
        assert ended.code == 0, ended.output
        run.save(folder / "saved")
        if IS_WHOLE:
            ended = another.go_on()
            assert ended.code == 0, ended.output
        yield World(run, folder / "saved", another.folder)


def lose(path: Path, world: World) -> None:
    path.unlink()


def cut(path: Path, world: World) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty(path: Path, world: World) -> None:
    path.write_bytes(b"")


def flip(path: Path, world: World) -> None:
    """Turn one bit; nothing else about the file changes, as where a disk does it."""
    data, status = bytearray(path.read_bytes()), path.stat()
    if data:
        data[len(data) * 2 // 3] ^= 0x10
    path.write_bytes(data)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def swap(path: Path, world: World) -> None:
    """Put the same file of another run in its place."""
    theirs = world.another / path.relative_to(world.run.folder)
    if theirs.is_file():
        shutil.copyfile(theirs, path)


def fold(path: Path, world: World) -> None:
    """Put a folder in its place."""
    path.unlink()
    path.mkdir()


KINDS: dict[str, Callable[[Path, World], None]] = {
    "missing": lose, "cut short": cut, "empty": empty, "one bit turned": flip,
    "a folder in its place": fold, "of another run": swap,
}  # fmt: skip


def files_of(run: Run) -> list[Path]:
    """Return the files of a run that a later command may read, or those that are drawn."""
    files = sorted(
        path.relative_to(run.folder)
        for path in run.folder.rglob("*")
        if path.is_file() and path.name not in NOT_OURS
    )
    if IS_WHOLE and len(files) > N_FILES:
        return random.Random(SEED).sample(files, N_FILES)
    return files


def cases(run: Run, kind: str) -> list[tuple[Path, str]]:
    """Return each file with one kind of damage; with none named a few of all, with the seed."""
    files = files_of(run)
    if kind != ANY:
        return [(path, kind) for path in files]
    kinds = [each for each in KINDS if each != "of another run"]
    return random.Random(SEED).sample([(path, each) for path in files for each in kinds], N_IN_PART)


@pytest.mark.parametrize("kind", KINDS if IS_WHOLE else [ANY])
def test_a_damaged_file_is_mended_or_named(world, kind, record_property):
    wrong = []
    expected = Run(world.saved, ()).result()
    chosen = cases(world.run, kind)
    for path, how in chosen:
        world.run.restore(world.saved)
        KINDS[how](world.run.folder / path, world)
        problem = what_is_wrong(world.run, path, expected)
        if problem:
            wrong.append(f"{path} {how}: {problem}")
    world.run.restore(world.saved)
    record_property("tried", len(chosen))
    record_property("survived", len(chosen) - len(wrong))
    assert not wrong, "\n".join(wrong)


def what_is_wrong(run: Run, path: Path, expected: dict[str, object]) -> str | None:
    """Go on with a run after some damage; return what is not as it should be."""
    ended = run.go_on()
    if "Traceback" in ended.output:
        return f"a traceback: {ended.output[-600:]}"
    if ended.code == 0:
        return None if run.result() == expected else "it came to another result"
    if ended.code not in (1, 2):
        return f"it ended with {ended.code}"
    if path.name not in ended.output and f"{path.parts[0]}" not in ended.output:
        return f"the file is not named: {ended.output[-600:]}"
    if not any(
        word in ended.output.lower() for word in ("delete", "remove", "type", "give", "move")
    ):
        return f"nobody says what to type: {ended.output[-600:]}"
    return None


def test_flipped_weights_are_not_evaluated_served_or_bundled(world, snapshot):
    world.run.restore(world.saved)
    [weights] = (world.run.folder / "distill" / "student").glob("*.safetensors")
    flip(weights, world)
    (world.run.folder / "evaluate.json").unlink()
    ended = world.run.go_on()
    assert ended.code == 1
    record = world.run.folder / "distill.json"
    last = ended.output.strip().splitlines()[-1]
    assert last.startswith(f"{record} names {weights}, ")
    assert last.replace(str(weights), "W").replace(str(record), "R") == snapshot
    record.unlink()
    expected = world.saved
    ended = world.run.go_on()
    assert ended.code == 0, ended.output
    assert world.run.result() == Run(expected, ()).result()


def test_an_edited_record_is_refused(world, snapshot):
    world.run.restore(world.saved)
    record = world.run.folder / "distill.json"
    text = record.read_text()
    record.write_text(text.replace('"validation_exact": ', '"validation_exact": 1'))
    assert record.read_text() != text
    ended = world.run.go_on()
    assert ended.code == 1
    last = ended.output.strip().splitlines()[-1]
    assert last.replace(str(record), "R") == snapshot
