"""A run whose folder is copied to S3 goes on elsewhere when its machine is lost."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Iterator

import pytest
from one_run import Command, files
from required import lacking
from s3_server import BUCKET, S3, whats_lacking

ON = (f"paths.mirror=s3://{BUCKET}/a", "paths.mirror_minutes=0.005")


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3]:
    if why := whats_lacking():
        lacking("s3", why)
    one = S3(tmp_path_factory.mktemp("s3") / "log")
    one.up()
    yield one
    one.down()


def test_a_machine_that_is_lost_in_a_training(command, trained, s3, tmp_path):
    command.env = s3.env
    process = command.start(*ON)
    command.until(command.has_checkpoint)
    command.until(lambda: _is_copied(command))
    process.send_signal(signal.SIGKILL)
    process.wait()
    # The other machine has another folder, and nothing in it.
    other = Command(tmp_path / "other" / "place")
    other.env = s3.env
    assert other.start(*ON, "stages=[plan,synthesize,distill]").wait(300) == 0, other.said
    assert ", gone on 1×: " in other.said
    assert other.said.count("(made before)") == 3  # probe, plan and corpus
    assert other.student() == trained.student()
    assert files(other.weights) == files(trained.weights)
    # The machine is back: its folder has a training of its own, that was never copied.
    (command.run / "distill" / "more").write_text("since")
    assert command.start(*ON).wait(60) == 1
    assert "each has gone on from the same one" in command.said
    assert "hydra.run.dir=<a new folder>" in command.said


def test_a_server_that_is_lost_is_no_loss(command, s3):
    command.env = s3.env
    wrong = ("paths.mirror=s3://no-such-bucket/a",)
    assert command.start(*wrong, "stages=[synthesize]").wait(60) == 1
    assert "s3://no-such-bucket/a cannot be written to" in command.said
    where = f"paths.mirror=s3://{BUCKET}/b"
    assert command.start(where, "stages=[synthesize]").wait(60) == 0, command.said
    s3.down()
    s3.up()
    assert command.start(where, "stages=[synthesize]").wait(60) == 0, command.said
    assert "has lost its copy of this run; it is copied there again" in command.said
    names = {name for name in s3.names() if not name.startswith("b/objects/")}
    assert names == {"b/manifest.json", "b/leases/1.json"}


def _is_copied(command: Command) -> bool:
    """Return whether a checkpoint is in the copy, as far as the run folder knows."""
    known = (command.run / ".mirror.json").read_text()
    return "distill/checkpoints/" in known and ".ckpt" in known


def test_the_folder_may_be_moved(trained, tmp_path):
    moved = Command(tmp_path / "moved to" / "run")
    shutil.copytree(trained.run, moved.run)
    assert moved.start().wait(60) == 0, moved.said
    assert "(made before)" in moved.said and moved.student() == trained.student()


def test_a_run_folder_that_is_deleted_ends_its_training(command):
    process = command.start()
    command.until(command.has_checkpoint)
    while command.run.exists():
        shutil.rmtree(command.run, ignore_errors=True)
    assert process.wait(60) == 1
    assert f"{command.run} is gone or was emptied" in command.said.splitlines()[-1]
    assert not command.run.exists()
