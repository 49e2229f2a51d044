"""What an install weighs and takes: the wheel with and without extras, by pip and by uv.

    python benchmarks/product/install.py [--extras train schema,sql] [--keep]

Each is installed into an environment of its own, outside the clone, from the wheel of this code and
the package index, with an empty cache; the core by uv, too, where that is on PATH. Sizes are of the
files below site-packages, without pip and setuptools; pip also compiles them to byte code. The core
then runs `stratos demo` from an empty folder.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import venv
from collections import Counter
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import record

NOT_OURS = ("pip", "setuptools", "pkg_resources", "_distutils_hack")
MOST_SHOWN = 15
"""Packages that are listed, the largest first."""


def clean_environment(**more: str) -> dict[str, str]:
    """Return the environment without what leads into the clone."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return {**kept, **more}


def build_wheel(folder: Path) -> Path:
    """Build the wheel of this code."""
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=record.ROOT, check=True, capture_output=True)
    [wheel] = folder.glob("*.whl")
    return wheel


def installed(wheel: Path, extras: str, installer: str, home: Path) -> dict[str, Any]:
    """Install a wheel with extras into a new environment; return seconds and megabytes."""
    target = f"{wheel}[{extras}]" if extras else str(wheel)
    environment = clean_environment(UV_CACHE_DIR=str(home.with_suffix(".cache")))
    python = str(home / "bin" / "python")
    if installer == "uv":
        venv.create(home, with_pip=False)
        command = ["uv", "pip", "install", "--quiet", "--python", python, target]
    else:
        venv.create(home, with_pip=True)
        command = [python, "-m", "pip", "install", "--quiet", "--no-cache-dir", target]
    used = record.measured_process(command, env=environment, cwd=home)
    sizes = megabytes(next(home.glob("lib/python*/site-packages")))
    return {
        "seconds": used["wall_s"],
        "cpu_s": used["cpu_s"],
        "mb": sum(sizes.values()),
        "packages": dict(sizes.most_common(MOST_SHOWN)),
    }


def megabytes(site: Path) -> Counter[str]:
    """Return the size of each package: bundled libraries (`scipy.libs`) count to it."""
    sizes: Counter[str] = Counter()
    for path in site.rglob("*"):
        if path.is_file() and not path.is_symlink():
            top = path.relative_to(site).parts[0].removesuffix(".libs")
            if not top.startswith(NOT_OURS):
                sizes[top] += path.stat().st_size
    return Counter({name: size / 1e6 for name, size in sizes.items()})


def demo(home: Path, folder: Path) -> dict[str, float]:
    """Run `stratos demo` of an environment in an empty folder."""
    folder.mkdir()
    environment = clean_environment(STRATOS_CACHE=str(folder / "cache"), XDG_CACHE_HOME=str(folder))
    used = record.measured_process(
        [str(home / "bin" / "stratos"), "demo"], env=environment, cwd=folder
    )
    return {"seconds": used["wall_s"], "cpu_s": used["cpu_s"], "peak_mib": used["peak_mib"]}


def main() -> None:
    """Measure the core, and each set of extras that is named."""
    parser = record.arguments(__doc__)
    parser.add_argument("--extras", nargs="*", default=["train"], help="sets, each as pip takes it")
    options = parser.parse_args()
    installers = ["pip", *(["uv"] if shutil.which("uv") else [])]
    result: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        wheel = build_wheel(folder)
        result["wheel_mb"] = wheel.stat().st_size / 1e6
        for extras in ("", *options.extras):
            for installer in installers if not extras else ["pip"]:
                home = folder / f"{extras or 'core'}-{installer}"
                result[home.name] = installed(wheel, extras, installer, home)
                if not extras and "demo" not in result:
                    result["demo"] = demo(home, folder / "demo")
                shutil.rmtree(home)
                shutil.rmtree(home.with_suffix(".cache"), ignore_errors=True)
    record.finish("install", result, options)


if __name__ == "__main__":
    main()
