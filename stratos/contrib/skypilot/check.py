"""What SkyPilot may do on this machine: its version, and the clouds that it has credentials for."""

from __future__ import annotations

import functools
import json
import re
import shutil
import sys
from pathlib import Path

from stratos.contrib.skypilot.cluster import sky
from stratos.contrib.skypilot.node import last_words
from stratos.core import extras

OLDEST = (0, 14)
"""Oldest version of SkyPilot that has all that is asked of it."""


def program(name: str) -> str | None:
    """Return where SkyPilot's program is: on the PATH, or beside this Python; None if nowhere."""
    beside = Path(sys.executable).parent / name
    return shutil.which(name) or (str(beside) if beside.is_file() else None)


def why_not(name: str) -> str | None:
    """Return why nothing can be launched, with what to type; None if it can."""
    found = program(name)
    if found is None:
        return (
            f"executor=skypilot: there is no program {name}. Type: "
            f"{extras.install('skypilot', 'skypilot[aws]')} (or another cloud), or name that of "
            "another environment with executor.program=<path of sky>."
        )
    for one in ("ssh", "rsync"):
        if shutil.which(one) is None:
            return f"executor=skypilot: there is no {one} on the PATH. Install it."
    return _why_not(found)


@functools.cache
def _why_not(path: str) -> str | None:
    asked = sky(path, "--version")
    version = re.search(r"(\d+)\.(\d+)[.\w]*", asked.stdout)
    if asked.returncode or version is None:
        return (
            f"executor=skypilot: {path} --version fails ({last_words(asked.stderr)}). Type: pip "
            "install 'skypilot[aws]' (or another cloud)."
        )
    if (int(version[1]), int(version[2])) < OLDEST:
        return (
            f"executor=skypilot: SkyPilot {version[0]} is too old. Type: pip install "
            f"'skypilot>={'.'.join(map(str, OLDEST))}'"
        )
    if not enabled_clouds(path):
        return (
            "executor=skypilot: SkyPilot may use no cloud: sky check finds no credentials. Type "
            "sky check, which says for each cloud what it lacks, or type executor=here."
        )
    return None


@functools.cache
def enabled_clouds(path: str) -> tuple[str, ...]:
    """Return the clouds that SkyPilot may rent servers of, in small letters.

    Args:
        path: of SkyPilot's program.
    """
    asked = sky(path, "check", "--output", "json")
    _, start, rest = f"\n{asked.stdout}".partition("\n{")  # behind what else it says
    try:
        told = json.loads(f"{{{rest}") if start else {}
    except ValueError:
        told = {}
    found = {cloud.lower() for clouds in told.values()
             for cloud, can in clouds.items() if "compute" in can}  # fmt: skip
    return tuple(sorted(found))
