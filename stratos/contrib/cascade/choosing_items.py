"""Which validation items a teacher answers to choose the threshold of a cascade.

The cascade asks them once the student is served. The plan counts the same questions beforehand.
Each slice has the share that it has among all validation items (`natural_shares`).

Each slice has the share that it has among all test items (`natural_shares`).
"""

from __future__ import annotations

from collections.abc import Collection

from stratos.config import Config
from stratos.contrib.cascade.answered import in_shares, level, natural
from stratos.contrib.cascade.config import CascadeConfig, makes_cascade, settings
from stratos.contrib.cascade.threshold import n_needed
from stratos.core.counted import counted
from stratos.core.errors import StratosError
from stratos.core.formats import percent
from stratos.records import Probe, Scorecard, TeacherProbe
from stratos.tasks.base import Item
from stratos.tasks.slice_shares import slices_of
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


def measuring_items(
    config: Config, scorecard: Scorecard, answered: Collection[str]
) -> tuple[list[Item], float]:
    """Return test items that the teacher answered, each slice in its share, and what is left."""
    n, seed = config.evaluate.n_items, scorecard.seed
    items = [item for item in config.task.items("test", n, seed) if item.id in answered]
    slice_of = slices_of(config.task, "test", n, seed)
    drawn = in_shares(slice_of, [item.id for item in items], len(items))
    return natural(items, drawn), drawn.left_out


def check_enough(n: int, options: CascadeConfig, look: int, left_out: float) -> None:
    """Refuse a promise that so few items cannot show, before anybody is asked.

    Args:
        n: items that choose.
        options: the promise.
        look: which it is of the run.
        left_out: share of requests that count as wrong.

    Raises:
        StratosError: even if all of them were answered right.
    """
    accuracy, confidence = options.accuracy, options.confidence
    assert accuracy is not None
    least = n_needed(1.0, accuracy / (1 - left_out), level(1 - confidence, look))
    if least is None or n < least:
        most = "no number shows that" if least is None else f"at least {least:,} are needed"
        raise StratosError(
            f"cascade.accuracy={accuracy:g} cannot be promised with {percent(confidence, 0)} "
            f"confidence: there are {counted(n, 'item')} to choose a threshold by, and {most}, all "
            "answered right. Give more validation rows (cascade.n_items, cascade.teacher_usd), let "
            "the training measure on fewer (callbacks.n_final_validation_items), or promise less."
        )
