"""What is to beat and what a student would reach, measured on the rows that a run learns from.

The task splits the file as a run does, and no row of its test is read: the numbers are those that
the probe of a run shows before anything is paid.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import yaml

from stratos.core.errors import ConfigError
from stratos.core.formats import counted
from stratos.core.intervals import wilson
from stratos.probe.look.columns import MOST_LABELS, AnswerKind
from stratos.probe.look.facts import Facts
from stratos.probe.words import LooksMislabelled, NotHere, TakesMinutes
from stratos.records import Interval
from stratos.tasks.doubts import FEWEST_LEARNT, too_few_to_tell
from stratos.tasks.rows import find_field

if TYPE_CHECKING:
    import numpy as np

    from stratos.config import StudentConfig
    from stratos.models.kinds.cross_validation import Choice, Study
    from stratos.models.kinds.learnt_rows import Rows
    from stratos.tasks.file_task import FileTask

_MOST_ROWS, _MOST_TAGGED = 1_000, 300
"""Rows that kinds are measured on at most, and those of a tagger."""
MOST_CHARACTERS = 2_000
"""Of a text that are read here."""
_LONG_ANSWER, _BY_WORDS = 5, "f1"
"""Words of an answer, on average, from which a run compares words; the nearest row is right here
only where its whole answer is, for words in common are no answer."""
_ENOUGH = 0.95
"""Accuracy of a baseline from which nothing has to be trained, unless a student is better."""
_NO_GAIN = 0.02
"""Gain of a student below which it is none."""
_N_INDEPENDENT = 1 / 2.25
"""Part of the rows that they are worth in five folds, whose errors go together: see `Study`."""
_DEFAULTS = {
    "classify": {"question": "text|question", "answer": "label|answer"},
    "jsonl": {"question": "question", "answer": "answer"},
}
"""Columns that the shipped tasks look for."""
SEED = 0
"""Of the run that is typed next, so that its folds are the same."""


class Worth(StrEnum):
    """Whether a student pays, by what it reaches beyond what needs no training."""

    YES = "a student is better than what needs no training"
    NO = "what needs no training does as well"
    UNDECIDED = "too few rows to tell a student from what needs no training"
    LANGUAGE_MODEL = "a language model has to be trained to tell"
    LIKE_ID = "the answers look like ids of the rows"
    TOO_FEW = "too few rows to measure anything"
    ONE_LABEL = "one label leaves nothing to learn"
    TOO_MANY_LABELS = "too many labels to measure"


@dataclass(frozen=True)
class Reached:
    """What a baseline or a kind of student reaches."""

    name: str
    accuracy: Interval


@dataclass(frozen=True)
class CurvePoint:
    """Accuracy of a student that learnt from fewer rows."""

    n_rows: int
    accuracy: Interval


@dataclass(frozen=True)
class Curve:
    """What more rows bring."""

    points: tuple[CurvePoint, ...]
    n_doubled: int
    gain_low: float
    gain_high: float
    """What twice the rows should add to the accuracy, as a share."""


@dataclass(frozen=True)
class Measured:
    """What is to beat, what is reached, and whether it pays."""

    worth: Worth
    why: str = ""
    """More of the reason, where there is any."""
    n_rows: int = 0
    """Rows that were learnt from and scored, each by a model that has not seen it."""
    n_learnable: int = 0
    """Rows that a run would learn from."""
    n_test: int = 0
    """Rows that are left for the test of a run: none of them was read."""
    n_near_test: int = 0
    """Of these the ones that are near duplicates of rows that are learnt from."""
    n_edited_test: int = 0
    """Of these the ones that are within a few characters of a row that is learnt from."""
    n_like_test: int = 0
    """Rows that are not learnt from, because they repeat one of the test."""
    baselines: tuple[Reached, ...] = ()
    """What needs no training."""
    students: tuple[Reached, ...] = ()
    """Kinds of student, the chosen one first."""
    micro_f1: Interval | None = None
    """Of several labels: F1 of the chosen kind over all labels of all rows."""
    not_measured: dict[str, str] = field(default_factory=dict)
    """Kind to why it was not measured."""
    gain: Interval | None = None
    """Accuracy of the best student beyond that of the best baseline."""
    curve: Curve | None = None
    mislabelled: LooksMislabelled | None = None
    """Rows whose label looks wrong to the chosen kind."""
    n_cut: int = 0
    """Texts of which only the first characters were read."""


def measure(facts: Facts) -> Measured:
    """Return what is to beat in a file, what a student reaches, and whether it pays.

    Args:
        facts: what is in the file.

    Raises:
        ConfigError: a run cannot read the file; the message says what to type.
    """
    if facts.like_id is not None:
        return Measured(Worth.LIKE_ID, str(facts.like_id))
    if (worth := _why_nothing(facts)) is not None:
        few = too_few_to_tell(facts.n_labelled, facts.n_labelled)
        return Measured(worth, str(few[0]) if worth is Worth.TOO_FEW else "")
    try:
        task = task_of(facts)
    except ValueError as error:
        raise ConfigError(str(error)) from error
    if refusals := task.refusals():
        return Measured(Worth.TOO_FEW, str(refusals[0]))
    rows = _Rows(facts, task)
    if few := too_few_to_tell(rows.n, facts.n_labelled):
        return Measured(Worth.TOO_FEW, str(few[0]), n_rows=rows.n)
    measured = Measured(
        Worth.LANGUAGE_MODEL,
        n_rows=rows.n,
        n_learnable=rows.n_learnable,
        n_test=task.n_test,
        n_near_test=task.splits.n_near_test,
        n_edited_test=task.splits.n_edited_test,
        n_like_test=rows.n_like_test,
        n_cut=rows.n_cut,
    )
    if facts.kind in (AnswerKind.LABELS, AnswerKind.SETS):
        return _with_classifiers(measured, rows)
    if facts.kind is AnswerKind.OBJECTS:
        return _with_tagger(measured, rows)
    return _judged(measured, *rows.baselines(), None)


def _why_nothing(facts: Facts) -> Worth | None:
    if len(facts.labels) == 1 and facts.kind is AnswerKind.LABELS:
        return Worth.ONE_LABEL
    if len(facts.labels) > MOST_LABELS:
        return Worth.TOO_MANY_LABELS
    return Worth.TOO_FEW if facts.n_labelled < FEWEST_LEARNT else None


def rows_of(facts: Facts) -> Rows:
    """Return the rows of a file that are learnt from here."""
    return _Rows(facts, task_of(facts)).rows


class _Rows:
    """The rows of a run that are learnt from here, in the order that its probe has them."""

    def __init__(self, facts: Facts, task: FileTask[Any]) -> None:
        from stratos.models.kinds.learnt_rows import Rows, ordered
        from stratos.models.kinds.student_kinds import MOST_ROWS
        from stratos.synthesize.admission import labelled_rows

        self.kind, self.task = facts.kind, task
        validation, labelled = task.items("validation", MOST_ROWS), labelled_rows(task)
        learnable = [*labelled, *validation]
        self.n_like_test = min(task.n_train, MOST_ROWS) - len(labelled)
        self.n_learnable = task.n_train + len(validation)
        is_tagged = facts.kind is AnswerKind.OBJECTS
        self.items = ordered(learnable[: _MOST_TAGGED if is_tagged else _MOST_ROWS])
        self.n_cut = 0
        if not is_tagged:  # whose values may stand anywhere
            self.n_cut = sum(len(item.question) > MOST_CHARACTERS for item in self.items)
            self.items = [
                replace(item, question=item.question[:MOST_CHARACTERS]) for item in self.items
            ]
        self.rows = Rows.of(self.items)

    @property
    def n(self) -> int:
        return len(self.items)

    def baselines(self) -> tuple[tuple[Reached, ...], np.ndarray]:
        """Return what the baselines reach, the best first, and which rows the best answers right.

        Each row is answered from the rows of other folds, which are those of the kinds.
        """
        import numpy as np

        from stratos.evaluate.baselines import untrained
        from stratos.models.kinds.cross_validation import folds_of

        _, strata = np.unique(self.rows.labels, return_inverse=True)
        folds = folds_of(self.rows.texts, strata, np.ones(self.n, bool), SEED)
        right: dict[str, np.ndarray] = {}
        for fold in np.unique(folds):
            known = [self.items[k] for k in np.flatnonzero(folds != fold)]
            new = np.flatnonzero(folds == fold).tolist()
            for role, _, answers in untrained(self.task, known, [self.items[k] for k in new]):
                of_role = right.setdefault(role, np.zeros(self.n, bool))
                of_role[new] = [self._is_right(a, k) for a, k in zip(answers, new, strict=True)]
        source = f"cross-validation on {counted(self.n, 'row', spec=',')}"
        n = self.n * _N_INDEPENDENT
        reached = [
            Reached(role, wilson(float(some.mean()) * n, n, source=source))
            for role, some in right.items()
        ]
        reached.sort(key=lambda baseline: -baseline.accuracy.mean)
        return tuple(reached), right[reached[0].name]

    def _is_right(self, answer: str, row: int) -> bool:
        return self.task.score(answer, self.items[row]).exact >= 1


def _with_classifiers(measured: Measured, rows: _Rows) -> Measured:
    """Return what the kinds for labels reach beside the rest."""
    from stratos.models.kinds.learnt_rows import studied
    from stratos.probe.kind_probes import known_wordings, mislabelled

    students, not_measured = kinds_here(rows.n)
    several = rows.kind is AnswerKind.SETS
    study, choice = studied(rows.rows, students, SEED, several=several)
    f1 = choice.micro_f1
    known = None
    if rows.task.tests_other_wordings:
        known = known_wordings(study, choice.kind)
    reached = _reached(choice)
    if known is not None:
        n, source = choice.n_independent, reached[0].accuracy.source
        of_known = wilson(known * n, n, source=source)
        best, *worse = reached
        of_best = Reached(f"{best.name} on wordings that rows show", of_known)
        reached = (best, of_best, *worse)
    measured = replace(
        measured,
        students=reached,
        not_measured=not_measured,
        micro_f1=Interval(*f1) if several else None,
        curve=_curve(study, choice),
        mislabelled=None if several else mislabelled(rows.task, rows.items, study, choice.kind),
    )
    [score] = [score for score in choice.scores if score.kind == choice.kind]
    optimism = score.accuracy - choice.accuracy
    return _judged(measured, *rows.baselines(), score.right, optimism)


def _with_tagger(measured: Measured, rows: _Rows) -> Measured:
    """Return what a tagger reaches beside the rest, where it does the task."""
    from stratos.models.kinds.tagger import TaggerLearner

    texts, answers = rows.rows.texts, rows.rows.labels
    if (why := TaggerLearner().why_not(texts, answers)) is not None:
        measured = replace(measured, not_measured={"tagger": why})
        return _judged(measured, *rows.baselines(), None)
    fit = TaggerLearner().fit(texts, answers, rows.task, SEED)
    reached = [Reached("tagger", fit.accuracy)]
    if fit.known is not None:
        reached[0] = Reached("tagger on new wordings", fit.accuracy)
        reached.append(Reached("on wordings that rows show", fit.known))
    elif fit.new is not None:
        reached.append(Reached("on new wordings", fit.new))
    measured = replace(measured, students=tuple(reached))
    return _beside(_judged(measured, *rows.baselines(), fit.right), fit.accuracy)


def _beside(measured: Measured, accuracy: Interval) -> Measured:
    """Return a measurement whose gain is that of an accuracy, as sure as that is known."""
    if measured.gain is None:
        return measured
    ends = accuracy.mean, accuracy.low, accuracy.high
    mean, low, high = (end - measured.baselines[0].accuracy.mean for end in ends)
    worth = Worth.UNDECIDED if measured.worth is Worth.YES else measured.worth
    gain = Interval(mean, low, high, measured.gain.source)
    return replace(measured, gain=gain, worth=Worth.YES if low > 0 else worth)


def kinds_here(n_rows: int) -> tuple[list[StudentConfig], dict[str, str]]:
    """Return the kinds for labels that are measured here, and why others are not."""
    from stratos.config import StudentConfig
    from stratos.core.extensions import shipped_choices
    from stratos.core.values import read_dataclass
    from stratos.models.kinds.learnt_rows import FEWEST_TO_TUNE
    from stratos.models.kinds.student_kinds import LABELS, has_weights, why_no_torch_for

    files = shipped_choices("student")
    students: list[StudentConfig] = []
    missing: dict[str, str] = {}
    for name, kind in LABELS.items():
        node = yaml.safe_load(files[name].read_text(encoding="utf-8"))
        student = read_dataclass(node, StudentConfig, "student", [])
        if kind.takes_minutes:
            if n_rows >= FEWEST_TO_TUNE:
                missing[name] = str(TakesMinutes())
        elif not has_weights(student):
            missing[name] = str(NotHere(kind.package, why_no_torch_for(student)))
        else:
            students.append(student)
    return students, missing


def _reached(choice: Choice) -> tuple[Reached, ...]:
    """Return what each kind reaches, the chosen one first, then the best of the others."""
    n, source = choice.n_independent, f"cross-validation on {choice.n_rows:,} rows"
    rest = [score for score in choice.scores if score.kind != choice.kind]
    rest.sort(key=lambda score: -score.accuracy)
    [measured] = [score.accuracy for score in choice.scores if score.kind == choice.kind]
    ends = min(choice.low, measured), max(choice.high, measured)
    best = Reached(choice.kind, Interval(measured, *ends, source))
    behind = (Reached(s.kind, wilson(s.accuracy * n, n, source=source)) for s in rest)
    return best, *behind


def _curve(study: Study, choice: Choice) -> Curve | None:
    from stratos.probe.kind_probes import FEWEST_FOR_CURVE, learning_curve

    if study.n_rows < FEWEST_FOR_CURVE:
        return None
    curve, n = learning_curve(study, choice.kind), choice.n_independent
    points = tuple(
        CurvePoint(round(size), wilson(accuracy * n, n, source=f"{choice.n_rows:,} rows"))
        for size, accuracy in curve.points
    )
    return Curve(points, curve.n_doubled, curve.gain_low, curve.gain_high)


def _judged(
    measured: Measured,
    baselines: tuple[Reached, ...],
    right_untrained: np.ndarray,
    right: np.ndarray | None,
    optimism: float = 0.0,
) -> Measured:
    """Return a measurement with whether it pays.

    Args:
        measured: what students reach.
        baselines: what needs no training, the best first.
        right_untrained: whether the best baseline answers each row right.
        right: whether the chosen student does; None where none was measured.
        optimism: by how much its accuracy may be too high, because the best kind was chosen.
    """
    measured = replace(measured, baselines=baselines)
    best = baselines[0].accuracy
    if right is None:
        return replace(measured, worth=Worth.NO) if best.mean >= _ENOUGH else measured
    gain = _gain(right, right_untrained, optimism)
    worth = Worth.UNDECIDED
    if gain.low > 0:
        worth = Worth.YES
    elif gain.high < _NO_GAIN or gain.mean <= 0 or best.mean >= _ENOUGH:
        worth = Worth.NO
    return replace(measured, worth=worth, gain=gain)


def _gain(right: np.ndarray, right_untrained: np.ndarray, optimism: float) -> Interval:
    """Return by how much a student is better, by the rows that only one of both answers right.

    Rows of several folds are worth fewer than they are, and the low end is without the optimism of
    the choice.
    """
    from stratos.core.pairs import difference_interval

    share = _N_INDEPENDENT
    only = round(share * int((right & ~right_untrained).sum()))
    only_untrained = round(share * int((right_untrained & ~right).sum()))
    low, high = difference_interval(only, only_untrained, max(1, round(share * len(right))))
    mean = float(right.mean() - right_untrained.mean())
    low = max(-1.0, low - max(0.0, optimism))
    return Interval(mean, min(low, mean), max(high, mean), f"{len(right):,} rows, paired")


def task_of(facts: Facts) -> FileTask[Any]:
    """Return the task that a run makes of a file; rows that it cannot use are left out.

    Raises:
        ValueError: it makes none.
    """
    from stratos.tasks.classify import ClassifyTask
    from stratos.tasks.jsonl import JsonlTask

    base, keys = settings(facts)
    cls: type[FileTask[Any]] = ClassifyTask if base == "classify" else JsonlTask
    keys = {key: value for key, value in keys.items() if value != _BY_WORDS}
    return cls(**{**keys, "on_error": "skip"})


def settings(facts: Facts) -> tuple[str, dict[str, Any]]:
    """Return the shipped task that suits a file, and the keys of it that are not its defaults."""
    base = "classify" if 0 < len(facts.labels) <= MOST_LABELS else "jsonl"
    keys: dict[str, Any] = {"path": facts.path}
    for key, column in (("question", facts.text), ("answer", facts.answer)):
        if find_field(dict.fromkeys(facts.columns), _DEFAULTS[base][key]) != column:
            keys[key] = column
    if facts.kind is AnswerKind.NUMBERS:
        keys["metric"] = "numeric"
    if facts.kind is AnswerKind.TEXTS and facts.words_of_answer > _LONG_ANSWER:
        keys["metric"] = _BY_WORDS
    if facts.needs_skip:
        keys["on_error"] = "skip"
    return base, keys
