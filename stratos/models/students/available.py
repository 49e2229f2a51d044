"""Check that a run's students are available before a teacher is paid."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from stratos.config import MIN_CONTEXT, Config, StudentConfig
from stratos.core.errors import ConfigError
from stratos.core.hub import config_file, location
from stratos.core.reasons import Because, Reason
from stratos.models.pretrained import read_config, why_not_loadable, why_not_readable
from stratos.models.students.weights import is_here, not_here
from stratos.models.words import ShortContext, Unusable

_EXAMPLE = "smollm2_135m"
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
    for student in config.students:
        reason = why_not(student, config.stages)
        if reason is None:
            return
        reasons.append(f"{student.name}: {reason}")
    advice = (
        "Name a Hugging Face folder with safetensors (student=local student.path=<folder>), or use "
        "students with random weights (student=auto)."
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
    if student.path is None or (student.facts and "distill" not in stages):
        return None
    folder, is_folder = location(student.path)
    if is_folder:
        return _why_not_folder(folder, not _LOADING.isdisjoint(stages))
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


def starts_from_model(config: Config) -> str:
    """Say how to name a student that starts from a model, and what brings its weights here."""
    others = [one for one in config.students if one.path is not None]
    here = next((one for one in others if is_here(one)), None)
    one = here or next(iter(others), None)
    if one is None:
        return f"a student that starts from a model: student={_EXAMPLE}, or one from a folder"
    how = "" if here is not None else f" ({not_here(one)})"
    return f"a student that starts from a model: student={one.name}{how}"
