"""Where a copy of a run folder lies: a folder, this process, an S3."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest

sys.path.insert(0, str(Path(__file__).parent))  # what the tests share lies beside them

from required import lacking
from s3_server import BUCKET, S3, whats_lacking


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3]:
    if why := whats_lacking():
        lacking("s3", why)
    server = S3(tmp_path_factory.mktemp("s3") / "log")
    server.up()
    yield server
    server.down()


@pytest.fixture(params=["file", "memory", pytest.param("s3", marks=pytest.mark.slow)])
def url(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[str]:
    if request.param == "file":
        yield f"file://{tmp_path}/bucket/runs/a"
    elif request.param == "memory":
        yield "memory://bucket/runs/a"
        fsspec.filesystem("memory").store.clear()
    else:
        for name, value in request.getfixturevalue("s3").env.items():
            monkeypatch.setenv(name, value)
        # One that an earlier test has opened asks the server of that test.
        fsspec.get_filesystem_class("s3").clear_instance_cache()
        yield f"s3://{BUCKET}/{tmp_path.name}"


@pytest.fixture
def warned() -> list[str]:
    return []
