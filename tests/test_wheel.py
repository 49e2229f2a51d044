"""The wheel, installed elsewhere: the command works outside the checkout, its configs inside."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("hatchling")
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    [found] = folder.glob("*.whl")
    return found


def test_the_wheel_holds_configs_data_templates_and_launchers(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    for folder, inside in (("conf", "stratos/conf"), ("stratos", "stratos"),
                           ("launchers/hydra_plugins", "hydra_plugins")):  # fmt: skip
        for path in (ROOT / folder).rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts:
                assert f"{inside}/{path.relative_to(ROOT / folder).as_posix()}" in names
    assert not any(name.startswith(("tests/", "hydra_plugins/__init__")) for name in names)


def test_the_command_runs_outside_the_checkout(wheel, tmp_path):
    home = tmp_path / "venv"
    venv.create(home, with_pip=False, symlinks=True)
    site = next(home.glob("lib/python*/site-packages"))
    shutil.unpack_archive(wheel, site, "zip")
    # Everything that Stratos needs, but not the checkout: an editable install puts that on the path
    # by a .pth file, and those are read in a site-packages proper only.
    installed = Path(pytest.__file__).parents[1]
    env = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | {
        "PYTHONPATH": str(installed)
    }

    def run(*argv: str) -> str:
        command = [str(home / "bin" / "python"), *argv]
        done = subprocess.run(
            command, cwd=tmp_path, env=env, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert str(site) in run("-c", "import stratos; print(stratos.__file__)")
    assert "mahjong" in run("-m", "stratos", "--help")
    shown = run("-m", "stratos", "+task=mahjong", "cloud=aws", "--cfg", "job")
    assert "_target_: stratos.tasks.mahjong.MahjongTask" in shown
    # The launcher is found, and the check passes, in a sweep that Hydra then only prints.
    run("-m", "stratos", "+task=mahjong", "hydra/launcher=pool", "--cfg", "all")
