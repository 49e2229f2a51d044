"""Whether any student of a run can be had, told before a teacher is asked and paid."""

from __future__ import annotations

from stratos.config import Config, StudentConfig
from stratos.errors import ConfigError
from stratos.hub import config_file


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
        reason = _unreachable(student, "distill" in config.stages)
        if reason is None:
            return
        reasons.append(f"{student.name}: {reason}")
    advice = (
        "Name a Hugging Face folder with safetensors (student=local student.path=<folder>), or "
        "take students of random weights (student=auto)."
    )
    if len(reasons) == 1:
        raise ConfigError(f"There is no student {reasons[0]}. {advice}")
    raise ConfigError("\n  ".join(["None of the students can be had:", *reasons]) + f"\n{advice}")


def _unreachable(student: StudentConfig, is_trained: bool) -> str | None:
    """Return why a student can be neither planned nor trained, or None."""
    if student.path is None or (student.facts and not is_trained):
        return None
    try:
        config_file(student.path)
    except OSError as error:
        return str(error)
    return None
