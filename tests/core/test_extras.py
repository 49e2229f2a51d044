"""What is said of an extra that is missing can be typed here: Stratos is on no package index."""

from __future__ import annotations

import re
import shlex
import tomllib
from importlib import metadata
from pathlib import Path

import pytest

from stratos.core import extras

ROOT = Path(__file__).parents[2]
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]


def test_from_a_clone_it_is_installed_from_the_clone(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(ROOT)
    assert extras.is_clone()
    assert extras.install("slurm") == "pip install -e '.[slurm]'"
    assert extras.install("skypilot", "skypilot[aws]") == (
        "pip install -e '.[skypilot]' 'skypilot[aws]'"
    )
    monkeypatch.chdir(tmp_path)
    assert extras.install("slurm") == f"pip install -e '{ROOT}[slurm]'"


@pytest.mark.parametrize("extra", sorted(set(EXTRAS) - {"dev"}))
def test_from_a_wheel_it_is_the_packages_of_the_extra(
    extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if extra not in (metadata.metadata(extras.NAME).get_all("Provides-Extra") or []):
        pytest.skip("Stratos was installed before this extra was added")
    monkeypatch.setattr(extras, "is_clone", lambda: False)
    first, *words = shlex.split(extras.install(extra).removeprefix("pip "))
    assert first == "install"

    def names(requirements: list[str]) -> list[str]:
        return sorted(re.split(r"[^\w.-]", one)[0].lower() for one in requirements)

    assert names(words) == names(EXTRAS[extra])


def test_what_is_installed_of_an_extra_has_its_versions(monkeypatch: pytest.MonkeyPatch) -> None:
    held = {"submitit": "1.5.3+local"}

    def version(name: str) -> str:
        if name not in held:
            raise metadata.PackageNotFoundError(name)
        return held[name]

    monkeypatch.setattr(extras.metadata, "version", version)
    assert extras.installed("slurm") == ["submitit==1.5.3"]
    assert extras.installed("llamacpp") == []
    held |= {"xllamacpp": "2026.10.1", "llama-cpp-py-sync": "0.11", "llguidance": "1.9.1"}
    assert sorted(extras.installed("llamacpp")) == [
        "llama-cpp-py-sync==0.11", "llguidance==1.9.1", "xllamacpp==2026.10.1",
    ]  # fmt: skip


def test_no_text_names_a_package_index_that_does_not_have_it() -> None:
    """Neither messages nor documents: `pip install stratos-llm[…]` would find nothing."""
    folders = ("stratos", "conf", "docs", "README.md", "CONTRIBUTING.md")
    files = [one for name in folders for one in (ROOT / name, *(ROOT / name).rglob("*"))]
    found = [
        str(file)
        for file in files
        if file.suffix in (".py", ".yaml", ".md", ".html", ".txt", ".toml") and file.is_file()
        and "stratos-llm[" in file.read_text(encoding="utf-8")
    ]  # fmt: skip
    assert found == []
