"""Disks that are full or of others, files in the way, closed streams: said, never raised."""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.attack.whole_run import Ended, Run, new_run, part_of
from tests.teachers.provider import Provider
from tests.whole import IS_WHOLE

pytestmark = pytest.mark.slow

PLANNED = "stages=[probe,plan]"
TRAINED = ("stages=[probe,plan,synthesize,distill]", "deploy=none")


@pytest.fixture(scope="module")
def teacher() -> Iterator[Provider]:
    with Provider() as provider:
        yield provider


@contextlib.contextmanager
def small_disk(folder: Path, options: str) -> Iterator[None]:
    """Mount a file system in memory; skip where that is not permitted."""
    folder.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)],
        capture_output=True,
        check=False,
    )
    if done.returncode:
        pytest.skip(f"no file system can be mounted here: {done.stderr.decode().strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def said_well(ended: Ended, *parts: str, codes: tuple[int, ...] = (1, 2)) -> None:
    assert "Traceback" not in ended.output, ended.output[-2000:]
    assert ended.code in codes, ended.output[-2000:]
    for part in parts:
        assert part in ended.output, ended.output[-2000:]


# --- room -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "reason"),
    [("size=16k", "No space left on device"), ("size=4m,nr_inodes=6", "No space left on device")],
)
def test_a_disk_without_room_or_inodes_is_said(teacher, tmp_path, options, reason):
    with small_disk(tmp_path / "disk", options):
        run = new_run(tmp_path / "disk", teacher, PLANNED, f"paths.cache_dir={tmp_path}/cache")
        ended = run.go_on()
    said_well(ended, reason)


def test_a_disk_that_is_full_when_weights_are_saved_goes_on_after_room_is_made(teacher, tmp_path):
    cache = f"paths.cache_dir={tmp_path}/cache"
    with small_disk(tmp_path / "disk", "size=1800k"):
        run = new_run(tmp_path / "disk", teacher, *TRAINED, cache)
        ended = run.go_on()
        said_well(ended, f"The disk mounted at {tmp_path / 'disk'} is full", codes=(1,))
        subprocess.run(["mount", "-o", "remount,size=200m", str(tmp_path / "disk")], check=True)
        ended = run.go_on()
        assert ended.code == 0, ended.output
        weights = run.record("distill")["weights_sha256"]
    if IS_WHOLE:
        whole = new_run(tmp_path / "whole", teacher, *TRAINED, cache)
        assert whole.go_on().code == 0
        assert whole.record("distill")["weights_sha256"] == weights


def test_a_limit_on_the_size_of_files_is_said(teacher, tmp_path):
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, 400_000))

    run = new_run(tmp_path, teacher, *TRAINED)
    said_well(run.go_on(preexec_fn=limit), "ulimit -f", codes=(1,))
    if IS_WHOLE:
        ended = run.go_on()
        assert ended.code == 0, ended.output


def test_a_cache_without_room_is_said(teacher, tmp_path):
    with small_disk(tmp_path / "disk", "size=8k"):
        run = new_run(tmp_path / "here", teacher, PLANNED, f"paths.cache_dir={tmp_path}/disk/c")
        ended = run.go_on()
    said_well(ended, codes=(0, 1))


def test_a_disk_that_is_read_only_is_said(teacher, tmp_path):
    with small_disk(tmp_path / "disk", "size=4m"):
        run = new_run(tmp_path / "disk", teacher, PLANNED, f"paths.cache_dir={tmp_path}/cache")
        subprocess.run(["mount", "-o", "remount,ro", str(tmp_path / "disk")], check=True)
        ended = run.go_on()
    said_well(ended, "Read-only file system", "hydra.run.dir=<folder>", codes=(2,))


def test_a_folder_of_another_user_is_said(teacher, tmp_path):
    if shutil.which("setpriv") is None:
        pytest.skip("there is no setpriv")
    run = new_run(tmp_path, teacher, PLANNED)
    run.folder.mkdir()
    os.chown(run.folder, 1, 1) if os.geteuid() == 0 else run.folder.chmod(0o500)
    run.folder.chmod(0o555)
    # Root may do everything unless it gives that up.
    command = (
        ["setpriv", "--bounding-set", "-all", "--inh-caps", "-all"] if os.geteuid() == 0 else []
    )
    ended = run.go_on(before=command)
    run.folder.chmod(0o755)
    said_well(ended, "Permission denied", codes=(2,))


# --- what is in the way ---------------------------------------------------------------------------


@dataclass(frozen=True)
class InTheWay:
    """A folder where a file belongs, or a file where a folder does."""

    path: str
    is_folder: bool
    codes: tuple[int, ...] = (0, 1, 2)
    """0 where the run does without."""


IN_THE_WAY = [
    *(InTheWay(f"run/{name}", True) for name in (
        "probe.json", "plan.json", "ledger.jsonl", "warnings.json", ".lock", "stratos.log",
        "error.txt", ".hydra/config.yaml", ".hydra/overrides.yaml", "probe/answers.jsonl",
        ".ledger.json", "report.html", "report.json",
    )),
    *(InTheWay(f"run/{name}", False) for name in (".hydra", "probe", "corpus", "distill")),
    *(InTheWay(name, False) for name in ("run", "cache", "cache/locks", "cache/catalogs")),
]  # fmt: skip


@pytest.mark.parametrize("way", part_of(IN_THE_WAY, every=5), ids=lambda way: way.path)
def test_what_is_in_the_way_is_named(teacher, tmp_path, way):
    path = tmp_path / way.path
    path.parent.mkdir(parents=True, exist_ok=True)
    if way.is_folder:
        path.mkdir()
    else:
        path.write_text("in the way\n")
    is_trained = IS_WHOLE or way.path in ("run/corpus", "run/distill")
    more = ("synthesize", "distill") if is_trained else ()
    run = new_run(tmp_path, teacher, f"stages=[{','.join(('probe', 'plan', *more, 'report'))}]")
    ended = run.go_on()
    said_well(ended, codes=way.codes)
    if ended.code:
        assert path.name in ended.output, ended.output[-2000:]


# --- streams --------------------------------------------------------------------------------------


def _closed(*numbers: int) -> Callable[[], None]:
    def close() -> None:
        for number in numbers:
            os.close(number)

    return close


STREAMS: dict[str, dict[str, object]] = {
    "no output": {"stdout": None, "preexec_fn": _closed(1)},
    "no error": {"stderr": None, "preexec_fn": _closed(2)},
    "neither": {"stdout": None, "stderr": None, "preexec_fn": _closed(1, 2)},
    "no input": {"preexec_fn": _closed(0)},
    "ASCII": {"env": {"PYTHONIOENCODING": "ascii", "LC_ALL": "C"}},
    "strict Latin-1": {"env": {"PYTHONIOENCODING": "latin-1:strict"}},
}


@pytest.mark.parametrize("name", part_of(list(STREAMS), every=3))
def test_a_run_is_made_whatever_it_can_say(teacher, tmp_path, name):
    how = dict(STREAMS[name])
    run = new_run(tmp_path, teacher, PLANNED)
    with run.start(**how) as process:
        printed = process.communicate(timeout=600)[0] or b""
    assert process.returncode == 0, printed
    assert b"Traceback" not in printed
    assert run.record("plan")["student"] == "stratos_300k"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_output_that_is_full_is_said_once_and_ends_no_work(teacher, tmp_path):
    run = new_run(tmp_path, teacher, PLANNED)
    with open("/dev/full", "w") as full, run.start(stdout=full, stderr=subprocess.PIPE) as process:
        printed = process.communicate(timeout=600)[1].decode()
    assert (process.returncode, printed) == (
        0, "Standard output could not be written (No space left on device).\n"
    )  # fmt: skip
    assert run.record("plan")["student"] == "stratos_300k"
    with open("/dev/full", "w") as full:
        helped = Run(tmp_path / "run", ("--help",)).start(stdout=full, stderr=subprocess.PIPE)
        printed = helped.communicate(timeout=600)[1].decode()
    assert (
        helped.returncode == 1 and "could not be written" in printed and "Traceback" not in printed
    )


# --- tracking -------------------------------------------------------------------------------------


def test_tracking_on_a_full_disk_is_one_warning(tmp_path):
    """Metrics no longer fit, and the work goes on at its pace; it goes well again with room."""
    script = f"""
import sys, time
from pathlib import Path
from dataclasses import replace
from tests.tracking.test_tracker import make_config
from stratos.tracking.tracker import tracked
warnings = []
with tracked(make_config(Path({str(tmp_path / "disk")!r}), csv=True), warnings.append) as tracker:
    for step in range(200):
        tracker.log({{f"distill/{{'x' * 500}}": float(step)}}, step=step)
    time.sleep(2)
    Path({str(tmp_path / "disk" / "more")!r}).write_bytes(b"x" * 2_500_000)
    began = time.monotonic()
    for step in range(1000):
        tracker.log({{"distill/loss": float(step)}}, step=step)
    assert time.monotonic() - began < 1
print(warnings)
"""
    with small_disk(tmp_path / "disk", "size=3m"):
        done = subprocess.run(
            [sys.executable, "-c", script],
            env={**os.environ, "WANDB_MODE": "offline", "HOME": str(tmp_path),
                 "PYTHONPATH": str(Path(__file__).parents[2])},
            capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("could not log metrics") in (1, 2), done.stdout  # W&B, and the file
    assert "is full" in done.stdout
