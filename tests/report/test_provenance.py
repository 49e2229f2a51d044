from __future__ import annotations

import shlex
from pathlib import Path
from types import ModuleType

import pytest
import yaml

from stratos.report import provenance


def test_the_command_can_be_pasted(factory: ModuleType, tmp_path: Path) -> None:
    overrides = ["+task=mine", "cloud.regions=[us-east-1, eu-west-1]", "x='a b'"]
    factory.write_hydra(tmp_path, overrides)
    sources = [
        {"path": "hydra.conf", "provider": "hydra", "schema": "pkg"},
        {"path": "/home/me/my confs", "provider": "command-line", "schema": "file"},
    ]
    (tmp_path / ".hydra" / "hydra.yaml").write_text(
        yaml.safe_dump({"hydra": {"runtime": {"config_sources": sources}}})
    )
    assert shlex.split(provenance.command(tmp_path)) == [
        "python", "-m", "stratos", "--config-dir", "/home/me/my confs", *overrides
    ]  # fmt: skip


def test_what_was_not_kept_is_empty_and_what_is_corrupt_is_said(tmp_path: Path) -> None:
    assert provenance.overrides(tmp_path) == ()
    (tmp_path / ".hydra").mkdir()
    (tmp_path / ".hydra" / "overrides.yaml").write_text("a: b")
    with pytest.raises(ValueError, match="not a list of overrides"):
        provenance.overrides(tmp_path)
    (tmp_path / ".hydra" / "overrides.yaml").write_text("{[")
    with pytest.raises(ValueError, match="is not YAML"):
        provenance.overrides(tmp_path)


def test_versions_and_machine_are_named() -> None:
    assert {"python", "torch", "hydra-core"} <= set(provenance.versions())
    assert {"system", "processor", "cores"} <= set(provenance.machine())
