"""What W&B really wrote on disk, read with its own protocol."""

from __future__ import annotations

import json
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest


def chunks(data: bytes) -> Iterator[bytes]:
    """Read the records of a .wandb file: a LevelDB log with a header of 7 bytes."""
    at, parts = 7, b""
    while at + 7 <= len(data):
        if 32768 - at % 32768 < 7:
            at += 32768 - at % 32768
            continue
        size, kind = struct.unpack("<HB", data[at + 4 : at + 7])
        if at + 7 + size > len(data):  # it is being written
            return
        parts += data[at + 7 : at + 7 + size]
        at += 7 + size
        if kind in (1, 4):
            yield parts
            parts = b""


def records_of(run_dir: Path) -> list[Any]:
    """Read the run's file once it is closed: W&B's own process writes the end a moment later."""
    from wandb.proto import wandb_internal_pb2

    (path,) = run_dir.glob("wandb/offline-run-*/*.wandb")
    until = time.monotonic() + 20
    while time.monotonic() < until:
        found = [wandb_internal_pb2.Record.FromString(part) for part in chunks(path.read_bytes())]
        if any(record.HasField("exit") for record in found):
            return found
        time.sleep(0.02)
    pytest.fail(f"the run in {path} was never finished")


def exit_code(run_dir: Path) -> int:
    (code,) = [r.exit.exit_code for r in records_of(run_dir) if r.HasField("exit")]
    return int(code)


def history(run_dir: Path) -> list[dict[str, Any]]:
    """Return the rows that were logged."""
    return [
        {_name(item): json.loads(item.value_json) for item in record.history.item}
        for record in records_of(run_dir)
        if record.HasField("history")
    ]


def summary(run_dir: Path) -> dict[str, Any]:
    """Return the summary as it was set."""
    return {
        _name(item): json.loads(item.value_json)
        for record in records_of(run_dir)
        if record.HasField("summary")
        for item in record.summary.update
    }


def table(run_dir: Path, name: str) -> dict[str, Any]:
    """Read the file of a table that was logged under a name."""
    (folder,) = run_dir.glob("wandb/offline-run-*/files")
    (path,) = [row[f"{name}/path"] for row in history(run_dir) if f"{name}/path" in row]
    found: dict[str, Any] = json.loads((folder / path).read_text())
    return found


def _name(item: Any) -> str:
    return "/".join(item.nested_key) or str(item.key)
