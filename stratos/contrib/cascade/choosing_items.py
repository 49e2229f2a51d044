"""Which validation items a teacher answers to choose the threshold of a cascade.

The cascade asks them once the student is served. The plan counts the same questions beforehand.
Each slice has the share that it has among all validation items (`natural_shares`).

How many requests have to go to the teacher for a promised accuracy A depends on how well the
student knows what it does not know, which nobody knows before it is trained. So both ends are told,
with s and t the accuracies of student and teacher:

    e ≥ (A − s) / t          if the student is sure of all that it has right, and of nothing else
    e ≤ (A − s) / (t − s)    if its confidence tells nothing: then any request is as good as another
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

from stratos.config import Config
from stratos.contrib.cascade.config import CascadeConfig, makes_cascade, settings
from stratos.contrib.cascade.pairs import in_shares, level, natural
from stratos.contrib.cascade.threshold import n_needed
from stratos.contrib.cascade.words import (
    OutOfReach,
    ShareUnmeasured,
    StudentUnknown,
    TooFewItems,
)
from stratos.core.errors import StratosError
from stratos.core.formats import counted, percent
from stratos.records import Interval, Plan, Probe, Scorecard, TeacherProbe, Way
from stratos.tasks.base import Item, slices_of
from stratos.teachers.base import Question, Teacher
from stratos.teachers.cost_estimate import n_payable
from stratos.teachers.prompting import AnswerLimit, chat, prompting


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
    n = n_payable(probed, options.n_items, limit, config.limits)
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
    if are_few(len(items), _n_tested(config), settings(config)):
        return []
    limit = answer_limit(config, teacher, probed)
    return [Question(chat(config.task, item, probed.prompt), limit.tokens) for item in items]


def answer_limit(config: Config, teacher: Teacher, probed: TeacherProbe) -> AnswerLimit:
    """Return the longest answer of a teacher that is asked as the probe found best."""
    limit = prompting(teacher, config.task).limit(probed.prompt, config.probe.max_tokens)
    if limit.is_fixed or not probed.max_tokens:
        return limit
    return AnswerLimit(probed.max_tokens, "as in the probe", is_fixed=probed.is_cut_short)


def are_few(n_validation: int, n_tested: int, options: CascadeConfig) -> bool:
    """Return whether half of the test items choose far better than so many validation items.

    The evaluation has asked them already; the other half measures.
    """
    return 2 * n_validation < min(options.n_items, n_tested // 2)


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


def too_few_items(config: Config) -> TooFewItems | None:
    """Return why the rows of a task cannot promise an accuracy, whoever answers them.

    Validation items that nothing reads choose the threshold, or one half of the test items.
    """
    options, task = settings(config), config.task
    if options.accuracy is None or not task.has_rows:
        return None
    n_read = config.callbacks.n_validation_read
    n_unread = len(task.items("validation", n_read + options.n_items)) - n_read
    n = max(0, n_unread, _n_tested(config) // 2)
    if can_promise(n, options, 0.0):
        return None
    return TooFewItems(n, n_needed(1.0, options.accuracy, level(1 - options.confidence, 1)))


def _n_tested(config: Config) -> int:
    """Return how many test items student and teacher both answer."""
    evaluate = config.evaluate
    return min(config.task.n_test, evaluate.n_items, evaluate.n_teacher_items)


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


def cascade_way(
    accuracy: float | None, plan: Plan, hosted: Sequence[Way], too_few: TooFewItems | None = None
) -> Way | None:
    """Return the cascade of a plan's student and teacher; None where none is asked for or priced.

    Args:
        accuracy: that is promised; None for no promise.
        plan: whose student and teacher they are.
        hosted: the priced models, the teacher among them or not.
        too_few: why the rows cannot promise it.
    """
    teacher = next((way for way in hosted if way.name == plan.teacher), None)
    if accuracy is None or teacher is None or teacher.usd_per_answer is None:
        return None
    way = Way(
        name=f"cascade: {plan.student}, {plan.teacher} where it is unsure",
        is_student=False,
        accuracy=Interval(accuracy, accuracy, accuracy, "cascade.accuracy"),
        usd_per_answer=None,
        latency_ms=None,
        retires=teacher.retires,
        kind="promised",
    )
    if too_few is not None:
        return replace(way, why_not=str(too_few))
    student = plan.accuracy
    if not (student.is_known and student.is_share_known):
        return replace(way, why_not=str(StudentUnknown()))
    share = escalated(accuracy, student, teacher.accuracy)
    if share is None:
        best = student.mean + (1 - student.mean) * teacher.accuracy.mean
        return replace(way, why_not=str(OutOfReach(best)))
    price = teacher.usd_per_answer
    return replace(
        way,
        usd_per_answer=Interval(
            share.mean * price.mean, share.low * price.low, share.high * price.high, share.source
        ),
        latency_ms=None
        if teacher.latency_ms is None
        else plan.latency_ms + share.mean * teacher.latency_ms,
        usd_per_day=plan.servers_usd_per_day,
        why_not=str(ShareUnmeasured(share)),
    )


def escalated(accuracy: float, student: Interval, teacher: Interval) -> Interval | None:
    """Return the share of requests for the teacher; None where no share is enough as expected."""
    if accuracy <= student.mean:
        low, mean = 0.0, 0.0
    else:
        low = (accuracy - student.mean) / teacher.mean if teacher.mean else 2.0
        if low > 1 - student.mean:
            return None
        mean = _blind(accuracy, student.mean, teacher.mean)
        mean = (low + mean) / 2
    if accuracy > student.high and teacher.high:
        low = min(low, (accuracy - student.high) / teacher.high)
    else:
        low = 0.0
    high = _blind(accuracy, student.low, teacher.low)
    return Interval(mean, low, max(mean, high), "between a perfect confidence and a useless one")


def _blind(accuracy: float, student: float, teacher: float) -> float:
    """Return the share if it does not matter which requests go to the teacher."""
    if accuracy <= student:
        return 0.0
    return min(1.0, (accuracy - student) / (teacher - student)) if teacher > student else 1.0
