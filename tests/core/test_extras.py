"""What is said of an extra that is missing can be typed here."""

from __future__ import annotations

import re
import tomllib
from importlib import metadata
from pathlib import Path

import pytest

from stratos.core import extras
from stratos.core.errors import ConfigError

ROOT = Path(__file__).parents[2]
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]


def test_from_a_clone_it_is_installed_from_the_clone(monkeypatch, tmp_path):
    monkeypatch.chdir(ROOT)
    assert extras.is_clone()
    assert extras.install("slurm") == "pip install -e '.[slurm]'"
    monkeypatch.chdir(tmp_path)
    assert extras.install("slurm") == f"pip install -e '{ROOT}[slurm]'"


def test_from_a_wheel_it_is_named(monkeypatch):
    monkeypatch.setattr(extras, "is_clone", lambda: False)
    assert extras.install("train") == "pip install 'stratos-llm[train]'"


def test_every_extra_that_a_text_names_is_there():
    source = "".join(path.read_text() for path in (ROOT / "stratos").rglob("*.py"))
    named = set(re.findall(r"install\(['\"](\w+)['\"]", source)) | {*extras._EXTRA_OF.values()}
    assert named and named <= set(EXTRAS)


def test_a_module_that_is_missing_is_said_with_its_extra():
    with pytest.raises(ConfigError) as caught, extras.required():
        raise ModuleNotFoundError("No module named torch", name="torch.nn")
    assert str(caught.value) == str(extras.ModuleMissing("torch"))
    with pytest.raises(ModuleNotFoundError), extras.required():
        raise ModuleNotFoundError("No module named other", name="other")


def test_what_is_installed_of_an_extra_has_its_versions(monkeypatch):
    held = {"submitit": "1.5.3+local"}

    def version(name: str) -> str:
        if name not in held:
            raise metadata.PackageNotFoundError(name)
        return held[name]

    monkeypatch.setattr(extras.metadata, "version", version)
    monkeypatch.setattr(extras, "packages", EXTRAS.__getitem__)
    assert extras.installed("slurm") == ["submitit==1.5.3"]
    assert extras.installed("schema") == []
    held |= {"pyarrow": "20.0.1", "llguidance": "1.9.1"}
    assert extras.installed("schema") == ["llguidance==1.9.1", "pyarrow==20.0.1"]
