"""How an extra of Stratos is installed here: Stratos is on no package index."""

from __future__ import annotations

import re
import shlex
from importlib import metadata
from pathlib import Path

NAME = "stratos-llm"
"""Of the distribution."""
ROOT = Path(__file__).resolve().parents[2]
"""Folder of the clone, if Stratos runs from one."""


def install(extra: str, *others: str) -> str:
    """Return the command that installs an extra.

    From a clone it is installed as the clone is. From a wheel it is the packages that the extra
    names: the wheel itself may be anywhere.

    Args:
        extra: its name in pyproject.toml.
        others: further requirements.
    """
    if is_clone():
        folder = "." if Path.cwd() == ROOT else str(ROOT)
        return " ".join([f"pip install -e '{folder}[{extra}]'", *map(_quoted, others)])
    return " ".join(["pip install", *map(_quoted, [*packages(extra), *others])])


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
    return [one.partition(";")[0].strip() for one in requirements if mark.search(one)]


def installed(extra: str) -> list[str]:
    """Return the packages of an extra at the versions of here; none where one is missing."""
    found = []
    for requirement in packages(extra):
        name = re.split(r"[^\w.-]", requirement)[0]
        try:
            found.append(f"{name}=={metadata.version(name).partition('+')[0]}")
        except metadata.PackageNotFoundError:
            return []
    return found


def _quoted(requirement: str) -> str:
    return f"'{requirement}'" if "'" not in requirement else shlex.quote(requirement)
