"""Report the cost avoided because the file already has the answers."""

from __future__ import annotations

from typing import Any

from stratos.config import Config
from stratos.plan.options.hosted import hosted_options, is_hosted
from stratos.plan.options.teacher_load import teacher_load_of
from stratos.plan.words import RepeatsRows
from stratos.records import TeacherProbe


def not_asked(config: Config, teacher: TeacherProbe, strategy: Any) -> RepeatsRows:
    """Return what asking a teacher for the answers of labelled rows would have cost.

    Args:
        config: the run.
        teacher: what the probe saw.
        strategy: the alignment that was left out because it could only repeat them.
    """
    asked = teacher_load_of(config, teacher, strategy)
    n = asked.n_answers - asked.evaluated.n_answers
    usd = None
    if is_hosted(teacher.card):
        usd, behind = (
            hosted_options(teacher, load)[0].usd for load in (asked.least, asked.evaluated)
        )
        usd -= behind
    return RepeatsRows(teacher.teacher, n, usd)
