"""Which validation items a teacher answers to choose the threshold of a cascade.

The cascade asks them once the student is served. The plan counts the same questions beforehand.
Each slice has the share that it has among all validation items (`natural_shares`).
"""

from __future__ import annotations

from stratos.config import Config
from stratos.contrib.cascade.config import CascadeConfig, makes_cascade, settings
from stratos.contrib.cascade.natural_shares import in_shares, natural
from stratos.records import Probe, TeacherProbe
from stratos.tasks.base import Item, slices_of
from stratos.teachers.answer_limit import AnswerLimit
from stratos.teachers.base import Question, Teacher
from stratos.teachers.evaluation_budget import n_payable
from stratos.teachers.prompting import chat, prompting


def choosing_items(config: Config, probe: Probe, probed: TeacherProbe) -> tuple[list[Item], float]:
    """Return validation items that no earlier stage has read, as many as are paid.

    Those that chose weights, teacher or prompt, or measured the kept weights (by which a sweep
    chooses its best job), come first of each slice. Each slice is drawn in its share of all
    validation items; with them comes the share of those that are left out.
    """
    n_read = max(
        [config.callbacks.n_validation_read, *(teacher.n_items for teacher in probe.teachers)]
    )
    options = settings(config)
    limit = config.evaluate.teacher_usd if options.teacher_usd is None else options.teacher_usd
    n = n_payable(config, probed, options.n_items, limit)
    read = {item.id for item in config.task.items("validation", n_read)}
    slice_of = slices_of(config.task, "validation", n_read + n)
    drawn = in_shares(slice_of, slice_of.keys() - read, n)
    n_all = len(slice_of)
    return natural(config.task.items("validation", n_all), drawn), drawn.left_out


def choosing_questions(
    config: Config, probe: Probe, probed: TeacherProbe, teacher: Teacher
) -> list[Question]:
    """Return what a teacher will be asked to choose the threshold of a run's cascade.

    Nothing where the run makes no cascade, or where there are too few items: then half of the test
    items chooses, which the evaluation has asked already, or the promise is refused.

    Args:
        config: of the run.
        probe: says which items are read.
        probed: what the probe saw of the teacher.
        teacher: the configured one.
    """
    if not makes_cascade(config):
        return []
    items, left_out = choosing_items(config, probe, probed)
    if not can_promise(len(items), settings(config), left_out):
        return []
    limit = answer_limit(config, teacher, probed)
    return [Question(chat(config.task, item, probed.prompt), limit.tokens) for item in items]


def answer_limit(config: Config, teacher: Teacher, probed: TeacherProbe) -> AnswerLimit:
    """Return the longest answer of a teacher that is asked as the probe found best."""
    limit = prompting(teacher, config.task).limit(probed.prompt, config.probe.max_tokens)
    if limit.is_fixed or not probed.max_tokens:
        return limit
    return AnswerLimit(probed.max_tokens, "as in the probe", is_fixed=probed.is_cut_short)


def can_promise(n: int, options: CascadeConfig, left_out: float) -> bool:
    """Return whether `n` faultless answers would show the promise at a run's first look.

    Then P(no wrong answer) = a^n is at most the level of one of both ends of the thresholds, where
    the first look has half of 1 - `confidence` (`stratos.contrib.cascade.threshold`, `looks`).

    Args:
        n: items that choose.
        options: with `accuracy`.
        left_out: share of requests that count as wrong.
    """
    assert options.accuracy is not None
    needed = options.accuracy / (1 - left_out)
    return bool(needed < 1 and needed**n <= (1 - options.confidence) / 4)
