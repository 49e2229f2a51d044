"""What the tests of command lines share."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from stratos.core.extensions import conf_dirs


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
