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
from stratos.contrib.skypilot.words import BrokenSky, NoCloud, NoProgram, NoSky, OldSky
from stratos.core.reasons import Reason

OLDEST = (0, 14)
"""Oldest version of SkyPilot that has all that is asked of it."""


def program(name: str) -> str | None:
    """Return where SkyPilot's program is: on the PATH, or beside this Python; None if nowhere."""
    beside = Path(sys.executable).parent / name
    return shutil.which(name) or (str(beside) if beside.is_file() else None)


def why_not(name: str) -> Reason | None:
    """Return why nothing can be launched, with what to type; None if it can."""
    found = program(name)
    if found is None:
        return NoSky(name)
    for one in ("ssh", "rsync"):
        if shutil.which(one) is None:
            return NoProgram(one)
    return _why_not(found)


@functools.cache
def _why_not(path: str) -> Reason | None:
    asked = sky(path, "--version")
    version = re.search(r"(\d+)\.(\d+)[.\w]*", asked.stdout)
    if asked.returncode or version is None:
        return BrokenSky(path, last_words(asked.stderr))
    if (int(version[1]), int(version[2])) < OLDEST:
        return OldSky(version[0], ".".join(map(str, OLDEST)))
    if not enabled_clouds(path):
        return NoCloud()
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
