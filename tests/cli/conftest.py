"""What the tests of command lines share."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from stratos.core.extensions import conf_dirs
from stratos.core.trust import ALLOW_TARGETS


@pytest.fixture(scope="session", autouse=True)
def _shipped_yamls_are_parsed_once() -> Iterator[None]:
    """Let each shipped YAML be parsed once: a fifth of what each composition takes."""
    parse, parsed = yaml.load, {}
    folders = tuple(f"{folder}{os.sep}" for folder in conf_dirs())

    def load(stream: Any, Loader: Any) -> Any:
        path = str(getattr(stream, "name", ""))
        if not path.startswith(folders):
            return parse(stream, Loader)
        if path not in parsed:
            parsed[path] = parse(stream, Loader)
        return parsed[path]  # of which OmegaConf makes nodes of its own

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(yaml, "load", load)
        yield


@pytest.fixture
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands are typed in an empty folder, with no class of the user's own allowed."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(ALLOW_TARGETS, raising=False)
