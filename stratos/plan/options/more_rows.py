"""Suggest what a teacher could add to a few labelled rows."""

from __future__ import annotations

from stratos.config import Config
from stratos.plan.options.hosted import hosted_options, is_hosted
from stratos.plan.options.teacher_load import Load, teacher_load_of
from stratos.records import TeacherProbe
from stratos.synthesize.augmentation import Augmentation

FEW = 1000
"""Labelled rows from which on more of them are not offered."""


def more_rows(config: Config, teacher: TeacherProbe) -> list[str]:
    """Say what augmentation would add and cost; nothing where it is configured or cannot be."""
    task, strategy = config.task, Augmentation()
    is_configured = any(one.writes_rows for one in config.strategies)
    if is_configured or not task.has_rows or task.n_train >= FEW:
        return []
    if teacher.exact.low < strategy.min_coverage:
        return []
    asked = teacher_load_of(config, teacher, strategy)
    cost = "only time, because its weights are free"
    if is_hosted(teacher.card):
        whole, behind = (
            hosted_options(teacher, load)[0].usd
            for load in (Load(asked.n_answers, asked.work), asked.evaluated)
        )
        cost = f"about ${whole - behind:.2f}"
    return [
        f"The labelled rows are few. With strategy={strategy.kind} "
        f"{strategy.added(task, teacher.teacher, teacher.exact.mean)} That takes {cost}. Whether "
        "it helps is unknown until you try it, so it is never chosen automatically."
    ]
