"""How Stratos and its extras are installed, here and on a server, and what is missing here."""

from __future__ import annotations

import re
import sys
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

from stratos.core.errors import ConfigError, StratosError
from stratos.core.extensions import conf_dir
from stratos.core.reasons import Reason

NAME = "stratos-llm"
"""Of the distribution."""
ROOT = Path(__file__).resolve().parents[2]
"""Folder of the clone, if Stratos runs from one."""


def install(extra: str) -> str:
    """Return the command that installs an extra.

    From a clone it is installed as the clone is. Else pip finds Stratos installed, and adds what
    the extra names: it needs no index that has the wheel.

    Args:
        extra: its name in pyproject.toml.
    """
    if is_clone():
        folder = "." if Path.cwd() == ROOT else str(ROOT)
        return f"pip install -e '{folder}[{extra}]'"
    return f"pip install '{NAME}[{extra}]'"


TRAIN = "train"
"""Extra without which no language model is loaded, and no encoder but those of BERT's form."""
_EXTRA_OF = {
    **dict.fromkeys(("gguf", "lightning", "peft", "torch", "transformers"), TRAIN),
    "duckdb": "sql",
    "pyarrow": "parquet",
    "sqlglot": "sql",
    "wandb": "wandb",
}
"""Extras that bring a module."""


class ModuleMissing(Reason):
    """A module of an extra is not installed."""

    module: str

    def __str__(self) -> str:
        return f"{self.module} is not installed. Type: {install(_EXTRA_OF[self.module])}"


def why_no_torch() -> ModuleMissing | None:
    """Return why PyTorch loads no model here; None if it can."""
    names = ("torch", "transformers")
    return next((ModuleMissing(name) for name in names if find_spec(name) is None), None)


@contextmanager
def required() -> Iterator[None]:
    """Say of a module that is missing which extra brings it.

    Raises:
        ConfigError: a module of an extra is imported, and is not installed.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        name = (error.name or "").partition(".")[0]
        if name not in _EXTRA_OF:
            raise
        raise ConfigError(str(ModuleMissing(name))) from error


def is_clone() -> bool:
    """Return whether this code lies in a clone."""
    return (ROOT / "pyproject.toml").is_file()


def packages(extra: str) -> list[str]:
    """Return the requirements that an extra stands for; none where Stratos is not installed."""
    mark = re.compile(rf"""extra\s*==\s*['"]{re.escape(extra)}['"]""")
    try:
        requirements = metadata.requires(NAME) or []
    except metadata.PackageNotFoundError:
        return []
    return [each.partition(";")[0].strip() for each in requirements if mark.search(each)]


def installed(extra: str) -> list[str]:
    """Return the packages of an extra at the versions of here; none where one is missing."""
    versions = [_pin(requirement) for requirement in packages(extra)]
    return versions if all(versions) else []


def _pin(requirement: str) -> str:
    """Return a requirement at the version of here; "" where it is not installed."""
    name = re.split(r"[^\w.-]", requirement)[0]
    try:
        # "2.9.0+cpu" is this machine's build of 2.9.0.
        return f"{name}=={metadata.version(name).partition('+')[0]}"
    except metadata.PackageNotFoundError:
        return ""


_PLUGINS = "hydra_plugins"
"""Namespace of Hydra's plugins, in which ours are the packages `stratos_…`."""


def write_wheel(folder: Path) -> Path:
    """Write this version of Stratos as a wheel: the files that run here, edited or not.

    Raises:
        StratosError: it was not installed, so that nobody knows what it needs.
    """
    try:
        distribution = metadata.distribution(NAME)
    except metadata.PackageNotFoundError:
        raise StratosError(
            f"{NAME} is not installed here, so that a server cannot be told what to install. "
            "Type: pip install -e <folder of the checkout>"
        ) from None
    label = f"{NAME.replace('-', '_')}-{distribution.version}"
    info = f"{label}.dist-info"
    path = folder / f"{label}-py3-none-any.whl"
    names = []
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as wheel:
        for name, file in sorted(_files().items()):
            wheel.write(file, name)
            names.append(name)
        for name, text in (
            ("METADATA", distribution.read_text("METADATA") or ""),
            ("WHEEL", "Wheel-Version: 1.0\nGenerator: stratos\nRoot-Is-Purelib: true\n"
                      "Tag: py3-none-any\n"),
        ):  # fmt: skip
            wheel.writestr(f"{info}/{name}", text)
            names.append(f"{info}/{name}")
        record = "".join(f"{name},,\n" for name in [*names, f"{info}/RECORD"])
        wheel.writestr(f"{info}/RECORD", record)
    return path


def pins() -> list[str]:
    """Return the versions of what trains as they are here: a student is the same there."""
    core = [each for each in metadata.requires(NAME) or () if "extra ==" not in each]
    return sorted(filter(None, map(_pin, [*core, *packages(TRAIN)])))


def python_version() -> str:
    """Return the version of Python that runs here, for a server to install."""
    return f"{sys.version_info.major}.{sys.version_info.minor}"


def _files() -> dict[str, Path]:
    """Return what a wheel holds, by its name in it."""
    package = Path(__file__).resolve().parents[1]
    files = {f"stratos/{name}": path for name, path in _below(package)}
    files |= {f"stratos/conf/{name}": path for name, path in _below(conf_dir())}
    plugins = find_spec(_PLUGINS)
    # The first on the path is the one that is imported, so the last that is added.
    roots = [] if plugins is None else plugins.submodule_search_locations or []
    for root in reversed(roots):
        for folder in Path(root).glob("stratos_*"):
            files |= {f"{_PLUGINS}/{folder.name}/{name}": path for name, path in _below(folder)}
    return files


def _below(folder: Path) -> Iterator[tuple[str, Path]]:
    for path in folder.rglob("*"):
        if path.is_file() and "__pycache__" not in path.parts:
            yield path.relative_to(folder).as_posix(), path
