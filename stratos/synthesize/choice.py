"""The strategy rule: which strategies are allowed for a teacher and a student.

`supervised`: the task has labelled rows. Their answers cost nothing, and a teacher's could only
    repeat them: beside it, `alignment` is taken only for what it adds, the teacher's reasoning, and
    `injection` only where the teacher writes something (`strategy.rationale`).
`pseudo_labels`: the file has rows without answers, too, and the teacher surely answers at least
    `min_coverage` of the validation items: the low end of the interval does. It learns all that
    `supervised` does, and takes its place.
`augmentation`: the task has labelled rows, and the teacher covers `min_coverage`. It is taken where
    it is named (`strategy=augmentation`).
The model of a log is asked nothing: no strategy is taken with it that needs more than its answers.
`injection`: the task can build a question from an answer.
`alignment`: the teacher answers at least `min_coverage` of the validation items exactly. Where
    another strategy may be taken whose items are all right, it surely answers at least
    `min_coverage_beside_injection`: the low end of the interval does, so a doubt counts against it.
`alignment_logits`: the same with its own `min_coverage`. It is picked over the other alignments
    where the teacher's weights are here, the student reads in its tokens, and the teacher is not so
    certain that its text says all (`min_entropy_nats`).
`alignment_on_policy`: the same, where the student starts from a model. It is picked over
    `alignment`, and not over `alignment_logits`, which learnt more in less time.

Of the alignments that could be taken for one pair, the one that learns most from an answer is
picked. Between alignment and injection the plan decides, with accuracy, money and time. The
thresholds are the strategies' own (`strategy.min_coverage`).

A declared complexity (`complexity=low|medium|high`) stands in for what the probe would measure: it
says which strategies are left, how many answers a question takes, how long a reasoning path is and
how small a student may be. The numbers are in `conf/complexity/`. They replace those of the
strategy; to change one of them, name it there (`complexity=high complexity.n_samples=2`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from enum import Enum
from math import floor
from typing import TYPE_CHECKING, Any, Literal

from stratos.config import ComplexityConfig
from stratos.core.formats import counted, cut_short
from stratos.core.intervals import n_above
from stratos.core.trust import find_class
from stratos.records import Interval, TeacherProbe
from stratos.synthesize.strategy import Strategy, Threshold
from stratos.tasks.chat import reasons

if TYPE_CHECKING:
    from stratos.tasks.base import Task

CEILING = 2
"""An answer may be so many times as long as a reasoning path is expected to be."""


class Reason(Enum):
    """Why a plan does not choose something."""

    COVERAGE = "the teacher covers less than min_coverage"
    COVERAGE_BESIDE_RIGHT = (
        "its coverage may be too low next to a strategy whose items are all right"
    )
    NONE_RIGHT = "the teacher had no right answer to learn from"
    REPEATS = "the file has the answers already"
    DECLARED = "the declared complexity excludes it"
    TASK = "the task lacks what it needs"
    ANOTHER_LEARNS_MORE = "another strategy learns at least as much from the same data"
    SIGNAL = "the teacher gives no distribution over the student's tokens"
    CERTAIN = "the teacher's distribution adds nothing to its text"
    UNREACHABLE = "the teacher cannot be asked"
    STUDENT = "the student cannot be trained here"
    LOG = "the model is known by its log alone"
    TOO_SLOW = "its training takes longer than allowed"
    NO_SERVER = "no allowed server is large or fast enough"
    HOPELESS = "it would get almost nothing right"


@dataclass(frozen=True)
class StudentFacts:
    """As much of a student as the rule reads."""

    name: str
    starts_from_model: bool
    vocab_size: int
    reads_symbols: bool = False
    """Made from random weights for the task's own symbols, as another student of it was."""
    takes_tokenizer: bool = False
    """Made from random weights for a task without symbols: the teacher's tokenizer is as good as
    another, where its vocabulary is no larger than `vocab_size`."""
    corrects_labels: bool = False
    """It weighs a teacher's labels by gold ones."""
    has_gain: bool = False
    """What further rows add to it was measured."""


@dataclass(frozen=True)
class Verdict:
    """Whether a strategy may be taken, and why."""

    is_taken: bool
    reason: str = ""
    """Why not, in the words of a table; "" where it is taken."""
    concerns: Literal["strategy", "teacher", "pair"] = "strategy"
    """What the reason is about: it is the same for all that share that."""
    evidence: str = ""
    """The measurement and what follows from it, as a sentence; "" where none decided."""
    why_not: Reason | None = None
    """Why not, as a value; None where it is taken."""


def pick(
    strategies: Sequence[Strategy],
    teacher: TeacherProbe,
    student_facts: StudentFacts,
    complexity: ComplexityConfig,
    *,
    task: str,
    can_reverse: bool,
    n_rows: int | None = None,
    n_unlabelled: int = 0,
    n_made: int = 0,
) -> dict[str, Verdict]:
    """Return strategy name to whether it may be taken; by the rule above.

    Args:
        strategies: the configured ones.
        teacher: what the probe saw of it.
        student_facts: the student.
        complexity: what is declared, if anything is.
        task: its name.
        can_reverse: it can build a question from an answer.
        n_rows: labelled rows to train on; None where the task makes its own questions.
        n_unlabelled: rows of the task's file without an answer.
        n_made: items that the task makes beside its rows.
    """
    verdicts: dict[str, Verdict] = {}
    has_rows = n_rows is not None and supervises(strategies, complexity)
    can_inject = has_rows or (can_reverse and injects(strategies, complexity))
    for strategy in strategies:
        name = strategy.name
        if not leaves(complexity, strategy):
            allowed = ", ".join(complexity.strategies)
            verdicts[name] = _not(
                Reason.DECLARED, f"complexity={complexity.level} leaves {allowed}"
            )
        elif teacher.logged is not None and (why := _asks_anew(strategy)):
            verdicts[name] = _not(Reason.LOG, why, "teacher")
        elif strategy.learns_rows and n_rows is None:
            verdicts[name] = _not(Reason.TASK, f"the task {task} has no labelled rows")
        elif strategy.learns_rows and not strategy.adds_rows:
            verdicts[name] = Verdict(True)
        elif strategy.labels_rows and not n_unlabelled:
            verdicts[name] = _not(
                Reason.TASK, "the file has no rows without answers (task.unlabelled_path)"
            )
        elif strategy.adds_rows:
            verdicts[name] = _labels(teacher, strategy, complexity, student_facts.corrects_labels)
        elif has_rows and (why := _repeats(strategy, teacher, n_made)):
            concerns: Literal["strategy", "teacher"] = "strategy"
            if strategy.learns_teacher:
                concerns = "teacher"
            verdicts[name] = _not(Reason.REPEATS, why, concerns)
        elif strategy.makes_questions:
            reason = f"the task {task} cannot build a question from an answer"
            verdicts[name] = Verdict(True) if can_reverse else _not(Reason.TASK, reason)
        elif (least := strategy.coverage(can_inject)) is not None:
            verdicts[name] = _covers(teacher, strategy, complexity, least)
        else:
            verdicts[name] = Verdict(True)
    labelling = [
        strategy.name
        for strategy in strategies
        if strategy.labels_rows and verdicts[strategy.name].is_taken
    ]
    for strategy in strategies:
        if student_facts.corrects_labels and student_facts.has_gain:
            break  # both are planned: what the labels add may not be worth their price
        if labelling and strategy.learns_rows and not strategy.adds_rows:
            verdicts[strategy.name] = _not(
                Reason.ANOTHER_LEARNS_MORE,
                f"{labelling[0]} learns the same rows and those without answers",
                "teacher",
            )
    return _most_telling(strategies, teacher, student_facts, verdicts)


def _not(
    cause: Reason,
    reason: str,
    concerns: Literal["strategy", "teacher", "pair"] = "strategy",
    evidence: str = "",
) -> Verdict:
    return Verdict(False, reason, concerns, evidence, cause)


def _asks_anew(strategy: Strategy) -> str:
    """Return why a strategy needs more of a teacher than its log has; "" where it does not."""
    if strategy.adds_rows or strategy.writes_reasoning or strategy.words_questions:
        return "its log has no answers to what it would be asked"
    return "its log has its texts alone" if strategy.needs_logits else ""


def injects(strategies: Sequence[Strategy], complexity: ComplexityConfig) -> bool:
    """Return whether an injection is among the strategies that a declared complexity leaves."""
    return any(strategy.makes_questions and leaves(complexity, strategy) for strategy in strategies)


def supervises(strategies: Sequence[Strategy], complexity: ComplexityConfig) -> bool:
    """Return whether labelled rows are learnt as they are, where a task has some."""
    return any(strategy.learns_rows and leaves(complexity, strategy) for strategy in strategies)


def _repeats(strategy: Strategy, teacher: TeacherProbe, n_made: int) -> str:
    """Return why a strategy adds nothing to the labelled rows of a file; "" where it does."""
    if strategy.makes_questions:
        is_more = strategy.writes_reasoning or n_made > 0
        return "" if is_more else "supervised learns the same rows"
    if not strategy.learns_teacher or strategy.needs_logits:
        return ""
    if reasons(teacher.prompt):
        return ""
    return f"the file has the answers, which {teacher.teacher} could only repeat"


def least_coverage(strategy: Strategy, can_inject: bool) -> float | None:
    """Return the share that a teacher has to cover to be learnt from; None where it need not.

    Args:
        strategy: a configured one.
        can_inject: a strategy may be taken in its place whose items are all right.
    """
    if strategy.learns_rows:
        return None
    least = strategy.coverage(can_inject)
    return None if least is None else least.share


def straddles(coverage: Interval, threshold: float) -> bool:
    """Return whether an interval lies on both sides of a threshold: more items may turn it."""
    return coverage.low < threshold <= coverage.high


def _labels(
    teacher: TeacherProbe, strategy: Strategy, complexity: ComplexityConfig, is_corrected: bool
) -> Verdict:
    """Return whether the labels of a teacher are good enough to be learnt unverified."""
    covered = teacher.exact
    threshold = (
        strategy.coverage_corrected() if is_corrected else strategy.coverage(beside_right=True)
    )
    least = 0.0 if threshold is None else threshold.share
    measured = _measured(teacher)
    if complexity.strategies or covered.low >= least:
        return Verdict(True, evidence=f"{measured}: {strategy.name} may be taken.")
    cure = _cure(teacher, strategy, least, n_above(covered.mean, least))
    return _not(
        Reason.COVERAGE,
        f"its answers may be right {covered.low:.3f} of the time, below min_coverage {least:g}"
        f"{_cut(teacher)}. {cure.removesuffix('.')}",
        "teacher",
        f"{measured}, not certainly the {least:.0%} that {strategy.name} needs: its wrong answers "
        f"could not be told from its right ones. {cure}",
    )


def _cure(teacher: TeacherProbe, strategy: Strategy, least: float, n_needed: int | None) -> str:
    """Say what would have a teacher's labels taken: more labelled rows, or a lower threshold."""
    anyway = (
        f"To take its labels as they are: strategy={strategy.kind} "
        f"strategy.min_coverage={floor(100 * teacher.exact.low) / 100:g}."
    )
    if n_needed is None:
        more = "Label more rows by hand, or name a better teacher (teacher=<name>)"
        if straddles(teacher.exact, least):
            more = f"More labelled rows would show whether it is right on {least:.0%}"
        return f"{more}. {anyway}"
    more = counted(max(1, n_needed - teacher.n_items), "more validation item", spec=",")
    return (
        f"Label more rows or raise task.validation_share: with about {more} and as large a share "
        f"right it would be taken (probe.max_items={n_needed}). {anyway}"
    )


def _covers(
    teacher: TeacherProbe, strategy: Strategy, complexity: ComplexityConfig, threshold: Threshold
) -> Verdict:
    """Return whether the teacher knows enough of the task for an alignment."""
    covered, least, key = teacher.exact, threshold.share, threshold.key
    counts_mean = threshold.of_interval == "mean"
    measured = _measured(teacher)
    if complexity.strategies:
        return Verdict(
            True,
            evidence=f"{measured}; complexity={complexity.level} is declared, so {strategy.name} "
            "is allowed at any coverage.",
        )
    doubt = (
        f" The interval lies on both sides of {least:.0%}, so "
        f"{counted(teacher.n_items, 'item does', 'items do')} not settle this; "
        "probe.max_items allows more."
        if straddles(covered, least)
        else ""
    )
    if (covered.mean if counts_mean else covered.low) >= least:
        return Verdict(
            True,
            evidence=f"{measured}, at least the {least:.0%} that {strategy.name} needs: its "
            f"answers can be learnt from.{doubt}",
        )
    if not covered.mean:
        reason = f"it answered none of {counted(teacher.n_items, 'validation item')} exactly"
        reason += _cut(teacher)
        why = f"{measured}: there is nothing to learn from.{doubt}"
        return _not(Reason.NONE_RIGHT, reason, "teacher", why)
    cause = Reason.COVERAGE
    if counts_mean:
        reason = f"coverage {covered.mean:.3f} is below {key} {least:g}{_cut(teacher)}"
        why = (
            f"below the {least:.0%} that {strategy.name} needs: too few of its answers would "
            "survive verification."
        )
    else:
        cause = Reason.COVERAGE_BESIDE_RIGHT
        reason = f"coverage may be {covered.low:.3f}, below {key} {least:g}{_cut(teacher)}"
        why = (
            f"not surely the {least:.0%} that {strategy.name} needs next to a strategy whose items "
            "are all right, and not only easy."
        )
    return _not(cause, reason, "teacher", f"{measured}, {why}{doubt}")


def _measured(teacher: TeacherProbe) -> str:
    """Return what the probe saw of a teacher, as the start of a sentence."""
    covered = teacher.exact
    return (
        f"{teacher.teacher} answered {covered.mean:.1%} of "
        f"{counted(teacher.n_items, 'validation item')} exactly "
        f"(95% interval {covered.low:.1%} to {covered.high:.1%}{_cut(teacher)})"
    )


def _cut(teacher: TeacherProbe) -> str:
    """Return that too many answers were cut to trust the coverage; "" where they were not."""
    if not teacher.is_cut_short:
        return ""
    return f", with {cut_short(teacher.n_truncated, teacher.n_items)}"


def _most_telling(
    strategies: Sequence[Strategy],
    teacher: TeacherProbe,
    student_facts: StudentFacts,
    verdicts: dict[str, Verdict],
) -> dict[str, Verdict]:
    """Leave of the alignments the one that learns most from an answer."""
    ranks = {
        strategy.name: _rank(strategy, teacher, student_facts)
        for strategy in strategies
        if strategy.learns_teacher and verdicts[strategy.name].is_taken
    }
    best = max(ranks.values(), default=0)
    picked = ", ".join(name for name, rank in ranks.items() if rank == best)
    for strategy in strategies:
        name = strategy.name
        if ranks.get(name, best) < best:
            evidence = verdicts[name].evidence
            if certain := _is_certain(strategy, teacher):
                evidence, cause = f"{evidence} {certain}", Reason.CERTAIN
                least = strategy.least_entropy_nats
                reason = f"the teacher's entropy is below min_entropy_nats {least:g}"
            elif ranks[name] < 0:
                cause = Reason.SIGNAL
                reason = "it needs the teacher's weights, and a student that reads in its tokens"
            else:
                cause = Reason.ANOTHER_LEARNS_MORE
                reason = f"{picked} learns more from the same answers"
            verdicts[name] = _not(cause, reason, "pair", evidence)
    return verdicts


def _rank(strategy: Strategy, teacher: TeacherProbe, student_facts: StudentFacts) -> int:
    """Return how much an alignment learns from an answer; below 0 if it should not be taken."""
    signal = strategy.signal
    if signal is None:
        return 0
    knows_tokens = student_facts.starts_from_model or student_facts.reads_symbols
    reads = (
        signal.reads_any_tokens
        or (knows_tokens and student_facts.vocab_size == teacher.card.vocab_size)
        or (student_facts.takes_tokenizer and teacher.card.vocab_size <= student_facts.vocab_size)
    )
    if not teacher.has_weights or not reads:
        return -1
    if strategy.is_on_policy and not student_facts.starts_from_model:
        return -1
    if _is_certain(strategy, teacher):
        return -1
    return 1 if strategy.is_on_policy else 2


def _is_certain(strategy: Strategy, teacher: TeacherProbe) -> str:
    """Return as a sentence that the teacher has nothing to show beyond its text, or ""."""
    entropy = teacher.entropy_nats
    least = strategy.least_entropy_nats
    if entropy is None or entropy >= least:
        return ""
    return (
        f"Its next token has an entropy of {entropy:.2g} nat on average, below the "
        f"{least:g} from which {strategy.name} has more to learn than the text."
    )


def with_declared(plain: Mapping[str, Any]) -> dict[str, Any]:
    """Return a config as plain dicts whose strategies are as the declared complexity says.

    Nothing else changes, and nothing at all where the complexity is measured. Keys that a
    strategy's class does not have are not added.
    """
    complexity, node = plain.get("complexity"), plain.get("strategy")
    if not isinstance(complexity, Mapping) or not isinstance(node, Mapping):
        return dict(plain)
    values: dict[str, Any] = {}
    if (n_samples := complexity.get("n_samples")) is not None:
        values["n_samples"] = n_samples
    if (path_tokens := complexity.get("path_tokens")) is not None:
        values |= dict.fromkeys(("max_tokens", "max_new_tokens"), CEILING * path_tokens)
    several = node.get("candidates")
    if isinstance(several, Mapping):
        changed = {name: _replaced(strategy, values) for name, strategy in several.items()}
        return {**plain, "strategy": {**node, "candidates": changed}}
    return {**plain, "strategy": _replaced(node, values)}


def leaves(complexity: ComplexityConfig, strategy: Strategy) -> bool:
    """Return whether a declared complexity leaves a strategy; a family's name leaves all of it."""
    allowed = complexity.strategies
    return not allowed or strategy.kind in allowed or strategy.family.value in allowed


def contradictions(
    task: Task, strategies: Sequence[Strategy], complexity: ComplexityConfig
) -> Iterator[str]:
    """Yield why a declared complexity leaves nothing to choose from."""
    allowed = [strategy for strategy in strategies if leaves(complexity, strategy)]
    if strategies and not allowed:
        yield (
            f"complexity={complexity.level} leaves {_listed(complexity.strategies)}, but this run "
            f"has {_listed([strategy.name for strategy in strategies])}. Type strategy=auto, "
            "complexity=measured, or "
            f"complexity.strategies=[{','.join(strategy.kind for strategy in strategies)}]."
        )
        return
    possible = (
        allowed if task.has_rows else [strategy for strategy in allowed if not strategy.learns_rows]
    )
    only_injection = all(strategy.makes_questions for strategy in possible)
    if len(allowed) < len(strategies) and only_injection and not task.can_reverse:
        yield (
            f"complexity={complexity.level} leaves "
            f"{_listed([strategy.name for strategy in possible])}, but the task "
            f"{task.name} cannot build a question from an answer. Type complexity=medium, "
            "or complexity=measured."
        )


def _replaced(node: Any, values: Mapping[str, Any]) -> Any:
    """Return a strategy's node with those values that its class has a field for."""
    if not isinstance(node, Mapping):
        return node
    target = find_class(node.get("_target_"))
    known = set(node)
    if isinstance(target, type) and is_dataclass(target):
        known |= {field.name for field in fields(target)}
    return {**node, **{key: value for key, value in values.items() if key in known}}


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names)
