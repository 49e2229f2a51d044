"""This version of Stratos as a wheel, for servers without its clone: it is on no package index."""

from __future__ import annotations

import importlib.util
import re
import sys
import zipfile
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from stratos.core.conf import conf_dir
from stratos.core.errors import StratosError
from stratos.core.extras import NAME

_PLUGINS = "hydra_plugins"
"""Namespace of Hydra's plugins, in which ours are the packages `stratos_…`."""


def write_wheel(folder: Path) -> Path:
    """Write this version of Stratos as a wheel: the files that run here, edited or not.

    Raises:
        StratosError: it was not installed, so that nobody knows what it needs.
    """
    try:
        found = metadata.distribution(NAME)
    except metadata.PackageNotFoundError:
        raise StratosError(
            f"{NAME} is not installed here, so that a server cannot be told what to install. "
            "Type: pip install -e <folder of the checkout>"
        ) from None
    label = f"{NAME.replace('-', '_')}-{found.version}"
    info = f"{label}.dist-info"
    path = folder / f"{label}-py3-none-any.whl"
    names = []
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as wheel:
        for name, file in sorted(_files().items()):
            wheel.write(file, name)
            names.append(name)
        for name, text in (
            ("METADATA", found.read_text("METADATA") or ""),
            ("WHEEL", "Wheel-Version: 1.0\nGenerator: stratos\nRoot-Is-Purelib: true\n"
                      "Tag: py3-none-any\n"),
        ):  # fmt: skip
            wheel.writestr(f"{info}/{name}", text)
            names.append(f"{info}/{name}")
        record = "".join(f"{name},,\n" for name in [*names, f"{info}/RECORD"])
        wheel.writestr(f"{info}/RECORD", record)
    return path


def pins() -> list[str]:
    """Return the versions of what Stratos needs as they are here: a student is the same there."""
    found = []
    for requirement in metadata.requires(NAME) or ():
        name = re.match(r"[A-Za-z0-9_.-]+", requirement)
        if name is None or "extra ==" in requirement:
            continue
        try:
            version = metadata.version(name[0])
        except metadata.PackageNotFoundError:
            continue
        # "2.9.0+cpu" is this machine's build of 2.9.0.
        found.append(f"{name[0]}=={version.partition('+')[0]}")
    return sorted(found)


def python_version() -> str:
    """Return the version of Python that runs here, for a server to install."""
    return f"{sys.version_info.major}.{sys.version_info.minor}"


def _files() -> dict[str, Path]:
    """Return what a wheel holds, by its name in it."""
    package = Path(__file__).resolve().parents[1]
    found = {f"stratos/{name}": path for name, path in _below(package)}
    found |= {f"stratos/conf/{name}": path for name, path in _below(conf_dir())}
    plugins = importlib.util.find_spec(_PLUGINS)
    # The first on the path is the one that is imported, so the last that is added.
    for place in reversed([] if plugins is None else plugins.submodule_search_locations or []):
        for folder in Path(place).glob("stratos_*"):
            found |= {f"{_PLUGINS}/{folder.name}/{name}": path for name, path in _below(folder)}
    return found


def _below(folder: Path) -> Iterator[tuple[str, Path]]:
    for path in folder.rglob("*"):
        if path.is_file() and "__pycache__" not in path.parts:
            yield path.relative_to(folder).as_posix(), path
