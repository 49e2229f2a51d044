"""Run folders, and copies of them."""

from __future__ import annotations

import time
from pathlib import Path

from stratos.core.process import Process
from stratos.run.copy_store import OBJECTS, Lease, Stored, lease_name
from stratos.run.mirror import KNOWN, Mirror
from stratos.run.run_state import RunFolder

FILES = {
    "plan.json": b"{}", "corpus/train.jsonl": b"rows", "ledger.jsonl": b'{"usd": 1}\n',
    ".hydra/config.yaml": b"seed: 0\n",
}  # fmt: skip


def folder(path: Path, files: dict[str, bytes] = FILES) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    for name, data in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(data)
    return path


def content(path: Path) -> dict[str, bytes]:
    found = (one for one in path.rglob("*") if one.is_file() and one.name != KNOWN)
    return {str(one.relative_to(path)): one.read_bytes() for one in found}


def work(files: dict[str, bytes]) -> dict[str, bytes]:
    """Return what another machine is given: the config is its own command's."""
    return {name: data for name, data in files.items() if not name.startswith(".hydra")}


def synced(path: Path, url: str, warned: list[str]) -> Mirror:
    """Do what a command does at its start and its end, in a folder that is made if need be."""
    path.mkdir(exist_ok=True)
    one = mirror(path, url, warned)
    with one.lease.hold():
        one.pull()
        one.push()
    return one


def mirror(path: Path, url: str, warned: list[str]) -> Mirror:
    return Mirror(path, url, warned.append, RunFolder(path))


def leased(
    one: Mirror, holder: Process, folder: str | Path = "/there", age_s: float = 0, number: int = 1
) -> None:
    """Let another command have the copy."""
    lease = Lease(number, "another", holder, str(folder), time.time() - age_s)
    assert one.store.create(lease_name(number), lease)


def dead() -> Process:
    me = Process.this()
    return Process(me.host, 2**22 + 1, me.boot, "1")


def held(one: Mirror) -> tuple[int, str]:
    lease = one.lease.last()
    assert lease is not None
    return lease.number, lease.token


def objects(one: Mirror) -> set[str]:
    return set(one.store.sizes(OBJECTS))


def at(one: Mirror, stored: Stored) -> str:
    return one.store.at(one.store.object_name(stored.sha256))
