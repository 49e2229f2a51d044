"""The probe stage: ask every reachable teacher, say why others are unreachable, judge the task.

Accuracy of students before training is measured where they start from existing weights: one of
random weights answers nothing, which needs no measurement.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from stratos.config import ComplexityConfig, Config, EvaluateConfig, ProbeConfig, StudentConfig
from stratos.core.atomic_files import write_atomically
from stratos.core.context import Context
from stratos.core.errors import (
    BudgetError,
    ConfigError,
    ForeignFileError,
    StratosError,
    TeacherError,
)
from stratos.core.foreign import cause
from stratos.core.formats import counted, cut_short
from stratos.core.intervals import wilson
from stratos.evaluate.baselines import FITTING, free_baselines, labelled_rows
from stratos.probe.kind_probes import in_words, probe_kinds
from stratos.probe.questioning import ERROR, listed, looks, undecided
from stratos.probe.teacher_evaluation import TeacherEvaluation
from stratos.records import Complexity, Interval, Measure, Probe, StudentProbe, TeacherProbe
from stratos.synthesize.admission import PretrainedStudent
from stratos.synthesize.choice import injects, least_coverage, supervises
from stratos.synthesize.strategy import Strategy
from stratos.tasks.base import Item, Task, shares_of_slices
from stratos.teachers.base import Nobody, Teacher

KEEP_LOADED_PARAMS = 500_000_000
"""A teacher up to this size stays in memory: `evaluate` asks it again, and loading takes longer."""


def probe(config: Config, context: Context) -> Probe:
    """Measure what each reachable teacher can do on labelled validation items.

    Every prompt and raw answer is kept in `probe/answers.jsonl` of the run folder. A teacher that
    fails is left out with its reason.

    Raises:
        ConfigError: the task has no validation items.
        TeacherError: no teacher can be asked.
    """
    started = time.perf_counter()
    context.ledger.cut_at_usd = None
    n_most = max(config.probe.n_items, config.probe.max_items)
    everything = config.task.items("validation", n_most)
    items, reserve = everything[: config.probe.n_items], everything[config.probe.n_items :]
    thresholds = _thresholds(config.task, config.strategies, config.complexity)
    n_looks = _n_looks(config.probe, len(items), len(everything))
    if not items:
        raise ConfigError(
            f"The task {config.task.name} has no validation items, so no teacher can be probed. "
            f"Give it more rows{_larger_share(config.task)}."
        )
    kinds = probe_kinds(config, context)
    if (note := in_words(kinds)) is not None:
        context.note(str(note))
    unreachable: dict[str, str] = {}
    probes: list[TeacherProbe] = []
    rows: list[dict[str, Any]] = []
    for index, teacher in enumerate(config.teachers):
        tell = partial(_tell, context, teacher.name, index, len(config.teachers))
        interview = TeacherEvaluation(teacher, items, config, context, tell, reserve, thresholds)
        try:
            if reason := teacher.unreachable():
                raise TeacherError(str(reason))
            if teacher.is_measured:
                probes.append(teacher.measure(context))
                continue
            probes.append(interview.hold())
            more = _asks_more(probes[-1].n_items, len(everything), n_most)
            _say_what_is_open(context, probes[-1], thresholds, n_looks, more)
        except (TeacherError, BudgetError) as error:
            unreachable[teacher.name] = str(error)
            teacher.close()
        else:
            if probes[-1].card.n_params > KEEP_LOADED_PARAMS:
                teacher.close()
        rows += interview.rows
    answers_path = context.run_dir / "probe" / "answers.jsonl"
    write_atomically(answers_path, b"".join(json.dumps(row).encode() + b"\n" for row in rows))
    if not probes:
        reasons = "\n".join(f"  {name}: {reason}" for name, reason in unreachable.items())
        raise TeacherError(f"No teacher is available:\n{reasons}")
    students = probe_students(config, items, context)
    n = len(config.teachers)
    tick = partial(context.tick, n, n, FITTING)
    tick()  # picking the rows that may be learnt takes a while, too
    baselines = (
        [] if kinds else free_baselines(config.task, labelled_rows(config.task), everything, tick)
    )  # a kind of student is the best of these
    return Probe(
        task=config.task.name,
        teachers=tuple(probes),
        unreachable=unreachable,
        complexity=judge(
            config.complexity,
            config.task,
            items,
            [
                probed_teacher
                for probed_teacher in probes
                if probed_teacher.logged is None and not probed_teacher.is_nobody
            ]
            or probes,
            students,
        ),
        answers_path=str(answers_path),
        seconds=time.perf_counter() - started,
        students=students,
        kinds=kinds,
        cut_at_usd=context.ledger.cut_at_usd,
        baselines=tuple(baseline.score for baseline in baselines),
        logged=_measured(config.task, config.teachers, probes, context),
        shares=shares_of_slices(config.task),
    )


def _measured(
    task: Task, teachers: Sequence[Teacher], probed: Sequence[TeacherProbe], context: Context
) -> TeacherProbe | None:
    """Return the first teacher that was measured without asking, of the run's or the task's own."""
    own = [teacher for teacher in probed if teacher.logged is not None]
    if own or any(teacher.is_measured and not isinstance(teacher, Nobody) for teacher in teachers):
        return own[0] if own else None
    measurable = (teacher for teacher in task.teachers() if teacher.unreachable() is None)
    teacher = next(measurable, None)
    return None if teacher is None else teacher.measure(context)


def _n_looks(settings: ProbeConfig, n_items: int, n_most: int) -> int:
    return len(looks(min(settings.n_trial_items, n_items), n_items, n_most))


def _larger_share(task: Task) -> str:
    """Name the key of the share of the rows that are validation items, where the task has one."""
    if task.validation_share is None:
        return ""
    return f", or a larger share of them: task.validation_share=… (it is {task.validation_share:g})"


def _thresholds(
    task: Task, strategies: Sequence[Strategy], complexity: ComplexityConfig
) -> list[float]:
    """Return the coverages at which the choice of a strategy turns; none where it is declared."""
    if complexity.strategies:
        return []
    has_rows = task.has_rows and supervises(strategies, complexity)
    can_inject = has_rows or (task.can_reverse and injects(strategies, complexity))
    # The answers of a file are not asked for again, so that nothing turns on that.
    open_ones = [strategy for strategy in strategies if not has_rows or strategy.needs_logits]
    least = {least_coverage(strategy, can_inject) for strategy in open_ones}
    return sorted(threshold for threshold in least if threshold is not None)


def _say_what_is_open(
    context: Context, probed: TeacherProbe, thresholds: list[float], n_looks: int, more: str
) -> None:
    n_right = round(probed.exact.mean * probed.n_items)
    if still_open := undecided(n_right, probed.n_items, thresholds, n_looks):
        interval = wilson(n_right, probed.n_items, 1 - ERROR / n_looks)
        after = f" after {n_looks} looks" if n_looks > 1 else ""
        context.warn(
            f"Whether a strategy may learn from {probed.teacher} is not settled: it answered "
            f"{interval.mean:.1%} of {counted(probed.n_items, 'item')} exactly, and the "
            f"interval{after} ({interval.low:.1%} to {interval.high:.1%}) lies on both sides of "
            f"{listed(still_open)}. {more}; complexity=low or complexity=high declares it."
        )


def _asks_more(n_asked: int, n_there: int, n_most: int) -> str:
    """Return what lets a teacher be asked more validation items than it was."""
    if n_asked < n_there:
        return "A larger limits.probe_usd or limits.budget_usd asks more"
    if n_there < n_most:
        return "The task has no more validation items: more rows would settle it"
    return "A larger probe.max_items asks more"


def _tell(context: Context, teacher: str, index: int, n_teachers: int, share: float) -> None:
    context.tick(index + share, n_teachers, teacher)


def probe_students(
    config: Config, items: Sequence[Item], context: Context
) -> tuple[StudentProbe, ...]:
    """Ask each student whose weights lie in a folder of this machine, within its time.

    Args:
        config: the run.
        items: validation items, of which the first `probe.n_student_items` are asked.
        context: of the stage.
    """
    questions = items[: config.probe.n_student_items]
    if not questions or config.complexity.is_declared:
        return ()
    return tuple(
        _probe(
            student,
            Path(student.path).expanduser(),
            config.task,
            config.evaluate,
            config.probe,
            questions,
            context,
        )
        for student in config.students
        # Nobody named those: asking each of them takes longer than what it would tell is worth.
        if student.is_lm and student.path is not None and not student.only_if_here
    )


def _probe(
    student: StudentConfig,
    folder: Path,
    task: Task,
    evaluate: EvaluateConfig,
    settings: ProbeConfig,
    items: Sequence[Item],
    context: Context,
) -> StudentProbe:
    if not folder.is_dir():
        return StudentProbe(student.name, reason="its weights are not on this machine")
    started = time.perf_counter()
    try:
        right = PretrainedStudent(str(folder), task, evaluate).right_within(
            items,
            settings.student_seconds,
            lambda done: context.tick(1, 1, f"{student.name} before training: {done}"),
        )
    except Exception as error:  # whatever a foreign model, or its template, makes a library raise
        if isinstance(error, StratosError) and not isinstance(error, ForeignFileError):
            raise
        reason = cause(error.__cause__ or error)
        return StudentProbe(student.name, reason=f"it cannot be asked ({reason})")
    seconds = time.perf_counter() - started
    if not right:
        limit = settings.student_seconds
        reason = f"no batch of answers finished within probe.student_seconds={limit:g}"
        return StudentProbe(student.name, seconds=seconds, reason=reason)
    exact = wilson(sum(right), len(right))
    return StudentProbe(student.name, len(right), exact, seconds)


LEVELS = ("low", "medium", "high")


def judge(
    declared: ComplexityConfig,
    task: Task,
    items: Sequence[Item],
    teachers: Sequence[TeacherProbe],
    students: Sequence[StudentProbe] = (),
) -> Complexity:
    """Return the task's complexity: as declared, or measured on validation items.

    Args:
        declared: the config group; "measured" leaves it to the numbers.
        task: writes out the items' reasoning paths.
        items: validation items.
        teachers: what the probe found.
        students: what those that start from existing weights can do.
    """
    if declared.is_declared:
        return Complexity(
            declared.level, True, (f"declared with complexity={declared.level}, not measured",)
        )
    best = max(teachers, key=lambda probe: probe.exact.mean)
    completions = [len(task.completion(item)) for item in items]
    length = int(median(completions))
    answers = sorted(len(item.answer) for item in items)
    by_length = length_level(length, declared)
    by_coverage, coverage = by_length, "no teacher was asked"
    if not best.is_nobody:
        by_coverage = coverage_level(best.exact.low, best.exact.high, declared)
        cut = f", {cut_short(best.n_truncated, best.n_items)}" if best.is_cut_short else ""
        coverage = (
            f"best coverage {best.exact.mean:.1%} (95% interval {best.exact.low:.1%} to "
            f"{best.exact.high:.1%}, {best.teacher}{cut}): {by_coverage}"
        )
    evidence = (
        coverage,
        f"median answer with its reasoning path {counted(length, 'character')}: {by_length}",
        f"answers alone have {answers[0]} to {answers[-1]} characters, median "
        f"{int(median(answers))}",
    )
    measures = [
        measure
        for teacher in teachers
        if not teacher.is_nobody
        for measure in _of_teacher(teacher, declared)
    ]
    measures += [_of_student(student) for student in students]
    measures.append(_plain("answer with its path", length, "characters", "task", by_length))
    measures.append(_plain("answer alone", int(median(answers)), "characters", "task"))
    level = max(by_coverage, by_length, key=LEVELS.index)
    return Complexity(level, False, evidence, tuple(measures))


def coverage_level(low: float, high: float, thresholds: ComplexityConfig) -> str:
    """Return the level that an interval of the best teacher's accuracy speaks for.

    Where the interval does not lie on one side of a threshold, the level is medium.
    """
    if low >= thresholds.coverage_low:
        return "low"
    return "high" if high < thresholds.coverage_high else "medium"


def length_level(n_characters: int, thresholds: ComplexityConfig) -> str:
    """Return the level that the length of an answer speaks for."""
    if n_characters <= thresholds.completion_low:
        return "low"
    return "high" if n_characters >= thresholds.completion_high else "medium"


def _of_teacher(teacher: TeacherProbe, thresholds: ComplexityConfig) -> list[Measure]:
    name, exact = teacher.teacher, teacher.exact
    level = coverage_level(exact.low, exact.high, thresholds)
    cut = cut_short(teacher.n_truncated, teacher.n_items) if teacher.is_cut_short else ""
    measures = [Measure("coverage", exact, "share", name, level, cut)]
    if teacher.agreement is not None:
        measures.append(_plain("agreement between prompts", teacher.agreement, "share", name))
    if teacher.entropy_bits is not None:
        measures.append(_plain("entropy of the answers", teacher.entropy_bits, "bits", name))
    if (drawn := teacher.samples) is not None:
        on = f"{counted(drawn.n_items, 'item')}, {counted(drawn.n_samples, 'answer')} each"
        note = drawn.reason or f"{on} at temperature {drawn.temperature:g}"
        for what, value, unit in (
            ("agreement between samples", drawn.agreement, "share"),
            ("entropy of the samples", drawn.entropy_bits, "bits"),
        ):
            measures.append(replace(_plain(what, value, unit, name), note=note))
    if teacher.entropy_nats is not None:
        note = "over its own answers"
        entropy = _plain("entropy of the next token", teacher.entropy_nats, "nats a token", name)
        measures.append(replace(entropy, note=note))
    length = teacher.output_tokens / max(1, teacher.n_items)
    measures.append(_plain("length of an answer", length, "tokens", name))
    return measures


def _of_student(student: StudentProbe) -> Measure:
    note = student.reason or counted(student.n_items, "validation item")
    return Measure("exact match before training", student.exact, "share", student.student, "", note)


def _plain(name: str, value: float | None, unit: str, of: str, level: str = "") -> Measure:
    return Measure(name, None if value is None else Interval(value, value, value), unit, of, level)
