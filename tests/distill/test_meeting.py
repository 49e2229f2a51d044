"""Servers that train together find the first one by a file, or learn that it has ended."""

from __future__ import annotations

import socket
import threading
from pathlib import Path

import pytest

from stratos.distill import meeting
from stratos.distill.meeting import Meeting


def test_the_others_wait_for_the_call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "7.0.meeting"
    heard: list[Meeting | None] = []
    waiting = threading.Thread(target=lambda: heard.append(meeting.await_call(path)))
    waiting.start()
    monkeypatch.setenv(meeting.VARIABLE, str(path))
    assert meeting.called() == path
    made = meeting.call(path, tmp_path / "distill", 2, 4)
    waiting.join(10)
    assert heard == [made]
    assert made.words(1) == [
        "--nnodes=2", "--nproc-per-node=4", "--node-rank=1",
        f"--master-addr={socket.gethostname()}", f"--master-port={made.port}", "-m",
        "stratos.distill.worker", str(tmp_path / "distill"),
    ]  # fmt: skip


def test_they_leave_where_the_first_has_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(meeting.VARIABLE, raising=False)
    assert meeting.called() is None
    path = tmp_path / "7.1.meeting"
    assert not meeting.has_ended(path)
    meeting.end(path)
    assert meeting.await_call(path) is None
    assert meeting.has_ended(path)
