"""Bytes that come from servers are counted by what rsync says, whole or cut short."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest
from required import lacking

from stratos.executors.job_costs import ByteCounter

MB = 10**6


@pytest.fixture
def rsync(tmp_path: Path):
    """Return what begins a copy of a file of 8 MB through a pipe, as from a server."""
    if shutil.which("rsync") is None:
        lacking("skypilot", "rsync is not installed")
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "weights").write_bytes(os.urandom(8 * MB))
    shell = tmp_path / "shell"
    shell.write_text('#!/bin/sh\nshift\nexec "$@"\n')
    shell.chmod(0o755)

    def begin(log: Path, *words: str) -> subprocess.Popen:
        with log.open("wb") as file:
            return subprocess.Popen(
                ["rsync", "--archive", "--stats", "--info=progress2", "--outbuf=N", "--rsh",
                 str(shell), *words, f"server:{tmp_path}/there/", f"{tmp_path}/here/"],
                stdout=file,
            )  # fmt: skip

    return begin


def test_a_copy_counts_what_it_brought(rsync, tmp_path):
    received = ByteCounter(tmp_path / "run", "distill")
    for most in (8.1 * MB, 8.2 * MB):  # the second brings nothing
        log = received.new_copy()
        assert rsync(log).wait(60) == 0
        assert 8 * MB < received.total < most
        received.end_copy(log)
        assert 8 * MB < received.total < most
    assert 8 * MB < ByteCounter(tmp_path / "run", "distill").total < 8.2 * MB
    assert ByteCounter(tmp_path / "run", "deploy").total == 0


def test_a_copy_that_is_cut_short_counts_as_far_as_it_came(rsync, tmp_path):
    received = ByteCounter(tmp_path / "run", "distill")
    log = received.new_copy()
    copying = rsync(log, "--bwlimit=2000")
    deadline = time.monotonic() + 60
    while received.total < MB:
        assert time.monotonic() < deadline and copying.poll() is None
        time.sleep(0.05)
    copying.kill()
    copying.wait()
    # Nobody counts it any more; whoever comes next does.
    assert MB <= ByteCounter(tmp_path / "run", "distill").total < 8 * MB


def test_a_copy_counts_once_where_its_file_outlives_the_process(tmp_path, monkeypatch):
    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    received = ByteCounter(tmp_path / "run", "distill")
    copy = received.new_copy()
    copy.write_text("Total bytes received: 1,000\n")
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Path, "unlink", killed)
        received.end_copy(copy)
    again = ByteCounter(tmp_path / "run", "distill")
    assert copy.exists() and again.total == 1000
    later = again.new_copy()
    later.write_text("Total bytes received: 100,000\n")
    for ended in (later, copy):
        again.end_copy(ended)
        assert again.total == ByteCounter(tmp_path / "run", "distill").total == 101_000
    assert not copy.exists()
