"""The rule that says which strategies may be taken from a teacher for a student.

`injection`: the task can build a question from an answer.
`alignment`: the teacher answers at least `min_coverage` of the validation items exactly. Where
    injection may be taken, too, whose items are all right, it surely answers at least
    `min_coverage_beside_injection`: the low end of the interval does, so a doubt counts against it.
`alignment_logits`: the same with its own `min_coverage`. It is picked over the other alignments
    where the teacher's weights are here, the student reads in its tokens, and the teacher is not so
    certain that its text says all (`min_entropy_nats`).
`alignment_on_policy`: the same, where the student starts from a model. It is picked over
    `alignment`, and not over `alignment_logits`, which learnt more in less time.

Of the alignments that could be taken for one pair, the one that learns most from an answer is
picked. Between alignment and injection the plan decides, with accuracy, money and time. The
thresholds are the strategies' own (`strategy.min_coverage`). A declared complexity stands in for
the coverage (`complexity.strategies`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from stratos.config import ComplexityConfig
from stratos.declared import leaves
from stratos.distill.wanted import Wanted
from stratos.records import Interval, TeacherProbe
from stratos.words import counted

MIN_COVERAGE = 0.3
"""Least teacher accuracy for alignment, where the strategy does not say."""

NONE_RIGHT = "it answered none"
"""How the reason begins where a teacher had no right answer that could be learnt from."""


@dataclass(frozen=True)
class Pupil:
    """As much of a student as the rule reads."""

    name: str
    starts_from_model: bool
    vocab_size: int
    reads_symbols: bool = False
    """Made from random weights for the task's own symbols, as another student of it was."""
    takes_tokenizer: bool = False
    """Made from random weights for a task without symbols: the teacher's tokenizer is as good as
    another, where its vocabulary is no larger than `vocab_size`."""


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


def pick(
    strategies: Sequence[Any],
    teacher: TeacherProbe,
    pupil: Pupil,
    complexity: ComplexityConfig,
    *,
    task: str,
    can_reverse: bool,
) -> dict[str, Verdict]:
    """Return strategy name to whether it may be taken; by the rule above.

    Args:
        strategies: the configured ones.
        teacher: what the probe saw of it.
        pupil: the student.
        complexity: what is declared, if anything is.
        task: its name.
        can_reverse: it can build a question from an answer.
    """
    verdicts: dict[str, Verdict] = {}
    can_inject = can_reverse and injects(strategies, complexity)
    for strategy in strategies:
        name = strategy.name
        if not leaves(complexity, name):
            left = ", ".join(complexity.strategies)
            verdicts[name] = Verdict(False, f"complexity={complexity.level} leaves {left}")
        elif name.startswith("injection"):
            reason = f"the task {task} cannot build a question from an answer"
            verdicts[name] = Verdict(True) if can_reverse else Verdict(False, reason)
        elif name.startswith("alignment"):
            verdicts[name] = _covers(teacher, strategy, complexity, can_inject)
        else:
            verdicts[name] = Verdict(True)
    return _most_telling(strategies, teacher, pupil, verdicts)


def injects(strategies: Sequence[Any], complexity: ComplexityConfig) -> bool:
    """Return whether an injection is among the strategies that a declared complexity leaves."""
    names = [one.name for one in strategies if one.name.startswith("injection")]
    return any(leaves(complexity, name) for name in names)


def least_coverage(strategy: Any, can_inject: bool) -> float | None:
    """Return the share that a teacher has to cover for a strategy; None where it need not.

    Args:
        strategy: a configured one.
        can_inject: an injection may be taken in its place.
    """
    if not strategy.name.startswith("alignment"):
        return None
    return float(getattr(strategy, _limit(strategy, can_inject), MIN_COVERAGE))


def _limit(strategy: Any, can_inject: bool) -> str:
    """Return the name of the threshold that counts."""
    alone, beside = "min_coverage", "min_coverage_beside_injection"
    if can_inject and getattr(strategy, beside, 0.0) > getattr(strategy, alone, MIN_COVERAGE):
        return beside
    return alone


def straddles(coverage: Interval, threshold: float) -> bool:
    """Return whether an interval lies on both sides of a threshold: more items may turn it."""
    return coverage.low < threshold <= coverage.high


def _covers(
    teacher: TeacherProbe, strategy: Any, complexity: ComplexityConfig, can_inject: bool
) -> Verdict:
    """Return whether the teacher knows enough of the task for an alignment."""
    covered, limit = teacher.exact, _limit(strategy, can_inject)
    least = float(getattr(strategy, limit, MIN_COVERAGE))
    measured = (
        f"{teacher.teacher} answered {covered.mean:.1%} of "
        f"{counted(teacher.n_items, 'validation item')} exactly "
        f"(95% interval {covered.low:.1%} to {covered.high:.1%})"
    )
    if complexity.strategies:
        return Verdict(
            True,
            evidence=f"{measured}; complexity={complexity.level} is declared, so {strategy.name} "
            "may be taken whatever it covers.",
        )
    doubt = (
        f" The interval lies on both sides of {least:.0%}, so "
        f"{counted(teacher.n_items, 'item does', 'items do')} not settle this; "
        "probe.max_items allows more."
        if straddles(covered, least)
        else ""
    )
    if (covered.mean if limit == "min_coverage" else covered.low) >= least:
        return Verdict(
            True,
            evidence=f"{measured}, at least the {least:.0%} that {strategy.name} needs: its "
            f"answers can be learnt from.{doubt}",
        )
    if not covered.mean:
        reason = f"{NONE_RIGHT} of {counted(teacher.n_items, 'validation item')} exactly"
        why = f"{measured}: there is nothing to learn from.{doubt}"
        return Verdict(False, reason, "teacher", why)
    if limit == "min_coverage":
        reason = f"coverage {covered.mean:.3f} is below {limit} {least:g}"
        why = (
            f"below the {least:.0%} that {strategy.name} needs: too few of its answers would "
            "survive verification."
        )
    else:
        reason = f"coverage may be {covered.low:.3f}, below {limit} {least:g}"
        why = (
            f"not surely the {least:.0%} that {strategy.name} needs beside injection, whose items "
            "are all right and not only the easy ones."
        )
    return Verdict(False, reason, "teacher", f"{measured}, {why}{doubt}")


def _most_telling(
    strategies: Sequence[Any], teacher: TeacherProbe, pupil: Pupil, verdicts: dict[str, Verdict]
) -> dict[str, Verdict]:
    """Leave of the alignments the one that learns most from an answer."""
    ranks = {
        one.name: _rank(one, teacher, pupil)
        for one in strategies
        if one.name.startswith("alignment") and verdicts[one.name].is_taken
    }
    best = max(ranks.values(), default=0)
    picked = ", ".join(name for name, rank in ranks.items() if rank == best)
    for strategy in strategies:
        name = strategy.name
        if ranks.get(name, best) < best:
            evidence = verdicts[name].evidence
            if certain := _is_certain(strategy, teacher):
                evidence = f"{evidence} {certain}"
                reason = f"the teacher's entropy is below min_entropy_nats {_least(strategy):g}"
            elif ranks[name] < 0:
                reason = "it needs the teacher's weights, and a student that reads in its tokens"
            else:
                reason = f"{picked} learns more from the same answers"
            verdicts[name] = Verdict(False, reason, "pair", evidence)
    return verdicts


def _rank(strategy: Any, teacher: TeacherProbe, pupil: Pupil) -> int:
    """Return how much an alignment learns from an answer; below 0 if it should not be taken."""
    if getattr(strategy, "needs", "text") != "logits":
        return 0
    knows_tokens = pupil.starts_from_model or pupil.reads_symbols
    reads = (
        Wanted.of(strategy).reads_any_tokens
        or (knows_tokens and pupil.vocab_size == teacher.card.vocab_size)
        or (pupil.takes_tokenizer and teacher.card.vocab_size <= pupil.vocab_size)
    )
    is_on_policy = hasattr(strategy, "lmbda")
    if not teacher.has_weights or not reads or (is_on_policy and not pupil.starts_from_model):
        return -1
    if _is_certain(strategy, teacher):
        return -1
    return 1 if is_on_policy else 2


def _least(strategy: Any) -> float:
    return float(getattr(strategy, "min_entropy_nats", 0.0))


def _is_certain(strategy: Any, teacher: TeacherProbe) -> str:
    """Return as a sentence that the teacher has nothing to show beyond its text, or ""."""
    entropy = teacher.entropy_nats
    if entropy is None or entropy >= _least(strategy):
        return ""
    return (
        f"Its next token has an entropy of {entropy:.2g} nat on average, below the "
        f"{_least(strategy):g} from which {strategy.name} has more to learn than the text."
    )
