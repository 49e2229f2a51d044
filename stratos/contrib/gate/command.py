"""`stratos gate NEW --against OLD`: an exit code that says whether NEW is worse.

An exact paired test: is the candidate worse than the reference by more than δ?

    L, W of n items are right only in the reference, only in the candidate; their shares p, q

    no worse:  rejects  p - q ≥ δ        worse:  rejects  p - q ≤ δ

The p-value of a hypothesis is the probability of counts that speak against it as much as those that
were seen, or more, at the p and q of the hypothesis that make it largest. "As much" is by the score
statistic (Tango 1998): such counts are largest on the boundary p - q = δ, so that one share is
looked through (Sidik, Exact unconditional tests for testing non-inferiority in matched-pairs
design, Statistics in Medicine 22, 2003). Each of the two verdicts is thus wrong with a probability
of at most α, whatever n is. Items are taken to be drawn at random from the task's questions.

Turns of a conversation are drawn together. Then the counts are divided by the design effect of the
paired differences (Rao and Scott 1981), rounded against the verdict, and the level is that of a t
test with a degree of freedom less than there are conversations, since the effect is an estimate.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from math import ceil, floor, inf
from pathlib import Path
from statistics import NormalDist
from typing import Literal

import msgspec
import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from stratos.config import Config
from stratos.core.errors import StratosError
from stratos.core.formats import counted, percent, visible
from stratos.core.intervals import n_independent
from stratos.core.output import add_flag, json_line
from stratos.deploy.bundle_server import BATCH, answering
from stratos.deploy.hosted_server import ServerFront
from stratos.deploy.manifest import check_manifest, is_bundle
from stratos.evaluate.answers import KeptAnswer, answers_path, read_answers
from stratos.models.kinds.base import has_learnt_test
from stratos.records import Scorecard, corpus_rows, from_json
from stratos.report.sweep_jobs import record_of
from stratos.tasks.base import Item
from stratos.tasks.dedup.hashes import family_hash, normalised

_MOST_ROWS = 1_000_000
"""Validation rows of a file that are looked at."""
_SHOWN = 60
"""Characters of a text that an error shows."""
Key = tuple[str, str]
"""Question and gold answer: by which an item is the same."""


@dataclass(frozen=True)
class Side:
    """One of the two that are compared."""

    path: Path
    answers: dict[Key, KeptAnswer] = field(default_factory=dict)
    """As they were scored in the evaluation."""
    bundle: Path | None = None
    """Which is asked where no answer is kept."""
    run_dir: Path | None = None
    """Whose task scores what it answers."""
    metric: str = ""


def side_of(path: Path) -> Side:
    """Read a run, a bundle, or a file of kept answers.

    Raises:
        StratosError: it is none of them, or cannot be read.
    """
    if path.is_file():
        return Side(path, _by_key(_read_file(path)))
    if (path / ".hydra").is_dir() or (path / "evaluate.json").is_file():
        return _run(path, path)
    if is_bundle(path):
        bundle = path.absolute()
        if bundle.name == "bundle" and (bundle.parent / "evaluate.json").is_file():
            return _run(path, bundle.parent)
        if has_learnt_test(path):
            raise StratosError(
                f"The student in {path} has learnt the rows of its test, so that its answers to "
                "them prove nothing. Name the folder of its run, whose answers are of before, or a "
                "copy of its evaluate/answers.jsonl."
            )
        return Side(path, bundle=path)
    raise StratosError(
        f"{path} is no run, no bundle and no file of answers. Name the folder of a run, its "
        "bundle, or a copy of its evaluate/answers.jsonl."
    )


def _run(path: Path, folder: Path) -> Side:
    bundle = folder / "bundle"
    is_there = is_bundle(bundle)
    if is_there:
        check_manifest(bundle)  # else its kept answers are of another model
    scorecard: Scorecard | None = record_of(folder, "evaluate")
    answers = read_answers(folder, scorecard) if answers_path(folder).exists() else []
    return Side(
        path,
        _by_key(answers),
        bundle if is_there and not has_learnt_test(bundle) else None,
        folder,
        "" if scorecard is None else scorecard.metric,
    )


def _read_file(path: Path) -> list[KeptAnswer]:
    try:
        lines = path.read_bytes().splitlines()
        answers = [from_json(line, KeptAnswer) for line in lines if line.strip()]
    except (OSError, msgspec.DecodeError) as error:
        raise StratosError(
            f"{path} holds no kept answers ({error}). Name a copy of a run's "
            "evaluate/answers.jsonl."
        ) from error
    if not answers:
        raise StratosError(f"{path} is empty. Name a copy of a run's evaluate/answers.jsonl.")
    return answers


def _by_key(answers: Sequence[KeptAnswer]) -> dict[Key, KeptAnswer]:
    return {(answer.question, answer.gold): answer for answer in answers}


@dataclass(frozen=True)
class Frozen:
    """The items, in an order that depends on nothing but them."""

    keys: tuple[Key, ...]
    n_left_out: int = 0
    """Items that one side has no answer to, and no bundle to ask, or one that has learnt them."""

    @staticmethod
    def of(keys: Sequence[Key], n_left_out: int = 0) -> Frozen:
        """Return items in their order: by hash, so that none is the easier end of a file."""
        return Frozen(tuple(sorted(set(keys), key=_hash)), n_left_out)

    @property
    def digest(self) -> str:
        """Return what tells these items from others."""
        return hashlib.sha256("".join(map(_hash, self.keys)).encode()).hexdigest()[:12]


def _hash(key: Key) -> str:
    return hashlib.sha256("\0".join(key).encode("utf-8", "surrogatepass")).hexdigest()


def frozen_of(candidate: Side, reference: Side) -> Frozen:
    """Return the items that both can answer: those of the reference, else of the candidate.

    Raises:
        StratosError: there are none, their labels differ, or the two are scored by different
            metrics.
    """
    if candidate.metric and reference.metric and candidate.metric != reference.metric:
        raise StratosError(
            f"{candidate.path} is scored by {candidate.metric}, {reference.path} by "
            f"{reference.metric}: give both runs one metric."
        )
    if not (reference.answers or candidate.answers):
        raise StratosError(
            f"Neither {candidate.path} nor {reference.path} has kept answers, so there are no "
            "items. Name the run of one of them, or a copy of its evaluate/answers.jsonl."
        )
    _check_labels(candidate, reference)
    sides = (candidate, reference)
    whole = keys = list(reference.answers or candidate.answers)
    for side in sides:
        learnt = _learnt(side) if any(key not in side.answers for key in keys) else set()
        keys = [
            key
            for key in keys
            if key in side.answers
            or (side.bundle is not None and family_hash(normalised(key[0])) not in learnt)
        ]
        if not keys and learnt:
            raise StratosError(
                f"{side.path} has learnt what the other was tested on, so that its answers prove "
                "nothing. Give both runs one test: task.test_path=<file>."
            )
    if not keys:
        raise StratosError(
            f"{candidate.path} and {reference.path} have no item in common, and no bundle to "
            "ask. Name a bundle, or give both runs one task and one seed."
        )
    return Frozen.of(keys, len(whole) - len(keys))


def _learnt(side: Side) -> set[int]:
    """Return hashes of the questions that a bundle's student has learnt, or was chosen by."""
    if side.bundle is None or side.run_dir is None:
        return set()
    corpus = side.run_dir / "corpus" / "train.jsonl"
    questions = [row.question for row in corpus_rows(corpus)] if corpus.exists() else []
    task = task_of(side.run_dir, side.path).task
    if task.has_rows:
        questions += [item.question for item in task.items("validation", _MOST_ROWS)]
    return {family_hash(normalised(question)) for question in questions}


def _check_labels(candidate: Side, reference: Side) -> None:
    """Refuse sides whose data give an item different labels: a bundle that is asked has one, too.

    Raises:
        StratosError: it is so.
    """
    golds: dict[str, list[str]] = {}
    for question, gold in candidate.answers:
        golds.setdefault(question, []).append(gold)
    relabelled = [key for key in reference.answers if key[1] not in golds.get(key[0], [key[1]])]
    if not relabelled:
        return
    question, gold = relabelled[0]
    raise StratosError(
        f"{len(relabelled):,} of {counted(len(reference.answers), 'frozen item')} have another "
        f"label in {candidate.path} than in {reference.path}, such as {_short(question)}: "
        f"{_short(golds[question][0])} there, {_short(gold)} here. Answers are only compared on "
        "one label each. Train and evaluate both on one data file; or name, in place of the run, a "
        "copy of its evaluate/answers.jsonl without these items."
    )


def _short(text: str) -> str:
    one_line = " ".join(text.split())
    return f'"{one_line if len(one_line) <= _SHOWN else f"{one_line[: _SHOWN - 1]}…"}"'


def right_in_turn(
    side: Side, frozen: Frozen, reference: Side, tick: Callable[[int, int], None]
) -> Iterator[bool]:
    """Yield whether each item is answered right, asking the bundle only as far as one reads.

    Args:
        side: who answers.
        frozen: the items.
        reference: the other side, which may know the chats of the items and the task.
        tick: called with (done, total) of the items that the bundle is asked.

    Raises:
        StratosError: the bundle cannot be asked, or nobody knows the task that scores.
    """
    texts = _asked(side, frozen, reference, tick)
    for key in frozen.keys:
        answer = side.answers.get(key)
        yield next(texts) if answer is None else answer.score.exact >= 1


def _asked(
    side: Side, frozen: Frozen, reference: Side, tick: Callable[[int, int], None]
) -> Iterator[bool]:
    """Yield whether a bundle answers the items right whose answers are not kept, in their order.

    It is loaded for the first of them, and asked some at a time.
    """
    assert side.bundle is not None
    bundle = side.bundle.absolute()  # the task's paths are those of where its run was started
    config = task_of(side.run_dir or reference.run_dir, bundle)
    items = config.task.items("test", config.evaluate.n_items, config.seed)
    # As the run had them, with what a kept answer does not hold.
    by_id = {item.id: item for item in items}
    answers = answering(bundle)
    keys = [key for key in frozen.keys if key not in side.answers]
    for start in range(0, len(keys), BATCH):
        batch = [reference.answers[key] for key in keys[start : start + BATCH]]
        right = []
        for answer, text in zip(batch, answers([answer.messages for answer in batch]), strict=True):
            item = Item(answer.id, answer.slice, answer.question, answer.gold, origin=answer.origin)
            score = config.task.score(text, by_id.get(item.id, item))
            right.append(score.exact >= 1)
        tick(start + len(right), len(keys))
        yield from right


def task_of(run_dir: Path | None, typed: Path) -> Config:
    """Return the config of a run, whose task scores answers.

    Raises:
        StratosError: there is no run.
    """
    from stratos.run.stored_config import config_of

    if run_dir is None:
        raise StratosError(
            f"{typed} has to be asked, and nobody knows the task that scores its answers. Name the "
            "folder of a run in place of a bundle or a file."
        )
    return config_of(run_dir)


EXIT_CODES: dict[Outcome, int] = {"no worse": 0, "worse": 1, "cannot tell": 3}
DELTA, ALPHA = 0.02, 0.05
_WIDER = (0.03, 0.05, 0.1, 0.2)
"""Differences in which an open verdict may still be a clear one."""


class GateFront(ServerFront):
    """Lets no student replace a hosted one that it is not shown to be as good as."""

    @override
    def compare(self, bundle: Path, before: Path) -> str:
        if bundle == before:
            raise StratosError(f"{bundle} was made anew, and nothing is left to compare it with.")
        test, candidate, reference = ExactTest(DELTA, ALPHA), side_of(bundle), side_of(before)
        frozen = frozen_of(candidate, reference)
        compared = compare(candidate, reference, frozen, test, _tick)
        text = verdict_text(compared, frozen)
        if compared.outcome == "cannot tell":
            raise StratosError(f"{text}\n{_what_is_shown(compared)}")
        if compared.outcome != "no worse":
            raise StratosError(text)
        return f"{visible(text)}\n"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command and its arguments."""
    parser.description = (
        "Test whether a student is worse than another by more than DELTA, item by item on frozen "
        "test items. Kept answers are used where there are some; a bundle is asked for the others."
    )
    parser.epilog = (
        "exit code: 0 no worse, 1 worse, 2 cannot be compared, 3 cannot tell: more items are "
        "needed. example: stratos gate outputs/<run>/bundle --against "
        "reference.jsonl, a copy of evaluate/answers.jsonl of an earlier run"
    )
    help_text = "run, bundle, or copy of evaluate/answers.jsonl"
    parser.add_argument("candidate", type=Path, metavar="NEW", help=help_text)
    parser.add_argument("--against", type=Path, metavar="OLD", required=True, help=help_text)
    parser.add_argument(
        "--delta", type=float, default=DELTA, help="share it may be worse by (default 0.02)"
    )
    parser.add_argument(
        "--alpha", type=float, default=ALPHA, help="how often a verdict may be wrong (default 0.05)"
    )
    add_flag(parser)


def run(args: argparse.Namespace) -> int:
    """Compare two students on frozen items; return 0 where the new one is no worse.

    Raises:
        StratosError: they cannot be compared.
    """
    test = ExactTest(*_limits(args.delta, args.alpha))
    candidate, reference = side_of(args.candidate), side_of(args.against)
    frozen = frozen_of(candidate, reference)
    compared = compare(candidate, reference, frozen, test, _tick)
    outcome, test = compared.outcome, compared.test
    if args.json:
        plain = {
            "outcome": outcome,
            "passed": outcome == "no worse",
            "counts": compared.counts,
            "by_kind": compared.by_kind,
            "n_conversations": test.together.n_conversations,
            "design_effect": test.together.design_effect,
            "n_needed": test.n_needed(compared.counts) if outcome == "cannot tell" else None,
            "n_items": len(frozen.keys),
            "n_left_out": frozen.n_left_out,
            "items": frozen.digest,
            "delta": test.delta,
            "alpha": test.alpha,
        }
        print(json_line(plain))
    else:
        print(visible(verdict_text(compared, frozen)))
    return EXIT_CODES[outcome]


def _limits(delta: float, alpha: float) -> tuple[float, float]:
    if not 0 <= delta < 1:
        raise StratosError(f"--delta {delta:g}: type a share from 0 to below 1, such as 0.02.")
    if not 0 < alpha < 1:
        raise StratosError(f"--alpha {alpha:g}: type a share between 0 and 1, such as 0.05.")
    return delta, alpha


@dataclass(frozen=True)
class Compared:
    """What all items say."""

    counts: Counts
    test: ExactTest
    by_kind: dict[str, Counts] = field(default_factory=dict)
    """Slice to its counts, where items are turns of the model of several slices."""

    @cached_property
    def outcome(self) -> Outcome:
        """The verdict."""
        return self.test.outcome(self.counts)


def compare(
    candidate: Side,
    reference: Side,
    frozen: Frozen,
    test: ExactTest,
    tick: Callable[[int, int], None],
) -> Compared:
    """Compare the two on all items.

    Raises:
        StratosError: an item has to be asked, and cannot be.
    """
    counts, by_kind, differences = Counts(), dict[str, Counts](), list[int]()
    ours = right_in_turn(candidate, frozen, reference, tick)
    theirs = right_in_turn(reference, frozen, candidate, tick)
    # Which turns are of one conversation depends on the others: one side tells it of all.
    sides = sorted((reference.answers, candidate.answers), key=_n_turns, reverse=True)
    answers = [sides[0].get(key) or sides[1][key] for key in frozen.keys]
    for answer, is_right, was_right in zip(answers, ours, theirs, strict=True):
        counts = counts.plus(was_right, is_right)
        by_kind[answer.slice] = by_kind.get(answer.slice, Counts()).plus(was_right, is_right)
        differences.append(was_right - is_right)
    conversations = [answer.conversation for answer in answers]
    if not any(conversations) or len(by_kind) == 1:
        by_kind = {}
    together = Together.of(differences, conversations)
    return Compared(counts, replace(test, together=together), dict(sorted(by_kind.items())))


def _n_turns(answers: Mapping[Key, KeptAnswer]) -> int:
    return sum(bool(answer.conversation) for answer in answers.values())


def verdict_text(compared: Compared, frozen: Frozen) -> str:
    """Say the verdict with the numbers that decide it."""
    counts, test, outcome = compared.counts, compared.test, compared.outcome
    n, points = counts.n, f"{100 * test.delta:g} points"
    sure = percent(1 - test.alpha, 0)
    head = {
        "cannot tell": f"CANNOT TELL if it is worse by more than {points}: {_needed(counts, test)}",
        "worse": f"WORSE by more than {points} ({sure} sure)",
        "no worse": f"No worse by more than {points} ({sure} sure)",
    }[outcome]
    left_out = ""
    if frozen.n_left_out:
        items = counted(frozen.n_left_out, "item", spec=",")
        left_out = f" Left out: {items} that one side has learnt, or cannot be asked."
    together, digest = test.together, f" ({frozen.digest})"
    if together.n_conversations:
        left_out += (
            f" The items are of {counted(together.n_conversations, 'conversation', spec=',')}, and "
            f"worth {n / together.design_effect:,.0f} independent ones."
        )
    kinds = "".join(
        f"\n{kind}: {_change(of_kind, 'item')}." for kind, of_kind in compared.by_kind.items()
    )
    return f"{head}: {_change(counts, 'frozen item', digest)}.{left_out}{kinds}"


def _change(counts: Counts, noun: str, digest: str = "") -> str:
    n, change = counts.n, counts.only_candidate - counts.only_reference
    return (
        f"{100 * change / counts.n:+.1f} points on {counted(n, noun, spec=',')}{digest}; right "
        f"only in the old one {counts.only_reference:,}, only in the new one "
        f"{counts.only_candidate:,}"
    )


def _needed(counts: Counts, test: ExactTest) -> str:
    needed = test.n_needed(counts)
    if needed is None:
        return "they differ by about as much. Type another --delta"
    rounded = round(needed, 2 - len(str(needed)))  # what is projected has two digits at most
    return f"about {counted(rounded, 'item', spec=',')} are needed, or a larger --delta"


def _what_is_shown(compared: Compared) -> str:
    """Say what the items of an open verdict show all the same, and how to know more."""
    tests = (replace(compared.test, delta=delta) for delta in _WIDER)
    deltas = (test.delta for test in tests if test.outcome(compared.counts) == "no worse")
    delta = next(deltas, None)
    shown = (
        f"They do not even show that it is no worse by more than {100 * _WIDER[-1]:g} points."
        if delta is None
        else f"They show only that it is no worse by more than {100 * delta:g} points."
    )
    return f"{shown} To know more, label more rows, and run both again on them."


def _tick(done: int, total: int) -> None:
    if sys.stderr.isatty():
        end = "\n" if done == total else "\r"
        print(f"{done:,} of {total:,} items asked", end=end, file=sys.stderr, flush=True)


Outcome = Literal["worse", "no worse", "cannot tell"]
_N_SHARES = 200
"""Shares that are looked through."""
_BETWEEN = 1.001
"""By what factor a probability between two of them may be larger, at most."""
_NEGLIGIBLE = 1e-12
"""Probability of counts that are left out, in all."""
_MOST_ITEMS = 2**20


@dataclass(frozen=True)
class Counts:
    """Items by who answers them right."""

    only_reference: int = 0
    only_candidate: int = 0
    alike: int = 0
    """Both, or neither."""

    @property
    def n(self) -> int:
        """All items."""
        return self.only_reference + self.only_candidate + self.alike

    def plus(self, reference: bool, candidate: bool) -> Counts:
        """Return the counts with another item."""
        lost, won = reference and not candidate, candidate and not reference
        return Counts(
            self.only_reference + lost,
            self.only_candidate + won,
            self.alike + (not lost and not won),
        )


@dataclass(frozen=True)
class Together:
    """How far items of one conversation are answered alike."""

    design_effect: float = 1.0
    """How many of them are worth one that is drawn by itself."""
    n_conversations: int = 0
    """Conversations of all items; 0 where each item is one by itself."""

    @staticmethod
    def of(differences: Sequence[int], conversations: Sequence[str]) -> Together:
        """Return it of paired differences: -1, 0 or 1.

        Args:
            differences: of each item.
            conversations: that of each; "" of what is by itself.
        """
        names = [name or f" {k}" for k, name in enumerate(conversations)]
        n, n_conversations = len(names), len(set(names))
        if n_conversations == n:
            return Together()
        return Together(max(1.0, n / n_independent(differences, names)), n_conversations)

    def level(self, alpha: float) -> float:
        """Return the p-value up to which a verdict is wrong with a probability of `alpha`."""
        if not self.n_conversations:
            return alpha
        if self.n_conversations == 1:
            return 0.0  # nothing tells how far it is like others
        from scipy.stats import norm, t

        return float(norm.sf(t.isf(alpha, self.n_conversations - 1)))

    def worth(self, n: int, against: int, for_it: int) -> tuple[int, int, int]:
        """Return how many independent items count as much, rounded against a verdict.

        Args:
            n: items.
            against: of them, those that speak against the verdict.
            for_it: that speak for it.
        """
        if not self.n_conversations:
            return n, against, for_it
        n = max(1, floor(n / self.design_effect))
        against = min(n, ceil(against / self.design_effect))
        return n, against, min(n - against, floor(for_it / self.design_effect))


@dataclass(frozen=True)
class ExactTest:
    """What the candidate may be worse by, and how often a verdict may be wrong."""

    delta: float
    """Share of the items."""
    alpha: float
    together: Together = Together()

    def outcome(self, counts: Counts) -> Outcome:
        """Return the verdict of all items."""
        n, lost, won = counts.n, counts.only_reference, counts.only_candidate
        level, worth = self.together.level(self.alpha), self.together.worth
        if p_value(*worth(n, lost, won), self.delta) <= level:
            return "no worse"
        if p_value(*worth(n, won, lost), -self.delta) <= level:
            return "worse"
        return "cannot tell"

    def n_needed(self, counts: Counts) -> int | None:
        """Return about how many items tell, if they go on as these did; None if a million do not.

        It is so where the candidate is worse by just about `delta`.
        """
        lost, won = np.array([counts.only_reference]), np.array([counts.only_candidate])
        score = abs(float(_scores(counts.n, lost, won, self.delta)[0]))
        level = self.together.level(self.alpha)
        if not score or not level:
            return None
        # The score of the same shares grows with the root of the number of items.
        needed = counts.n * (NormalDist().inv_cdf(1 - level) / score) ** 2
        needed *= self.together.design_effect
        return None if needed > _MOST_ITEMS else max(counts.n + 1, ceil(needed))


def p_value(n: int, lost: int, won: int, margin: float) -> float:
    """Return the largest probability of such counts, or clearer ones, where p - q ≥ `margin`.

    Args:
        n: items.
        lost: of them, right only in the reference.
        won: right only in the candidate.
        margin: above -1 and below 1.
    """
    from scipy.stats import binom

    if n == 0:
        return 1.0
    seen = float(_scores(n, np.array([lost]), np.array([won]), margin)[0])
    fewest = _fewest_won(n, seen, margin)
    # Of the share of items that are won; where `margin` is below 0 it is no less than that.
    low, high = max(0.0, -margin), (1 - margin) / 2
    steps = np.linspace(0, 1, _N_SHARES + 1) ** 2  # closer together where few are won
    most = 0.0
    for share_won in low + (high - low) * steps:
        share_lost = min(1.0, max(0.0, share_won + margin))
        ends = binom.ppf([_NEGLIGIBLE, 1 - _NEGLIGIBLE], n, share_lost).astype(int)
        counts = np.arange(max(0, ends[0]), min(n, ends[1]) + 1)
        share = min(1.0, share_won / (1 - share_lost)) if share_lost < 1 else 0.0
        rest = binom.sf(fewest[counts] - 1, n - counts, share)
        most = max(most, float((binom.pmf(counts, n, share_lost) * rest).sum()))
    return min(1.0, _BETWEEN * most + 2 * _NEGLIGIBLE)


def _fewest_won(n: int, seen: float, margin: float) -> NDArray[np.int64]:
    """Return, for each number of lost items, from how many won ones on the score is `seen`.

    It rises with them; n + 1 where none are enough.
    """
    lost = np.arange(n + 1)
    low, high = np.zeros(n + 1, dtype=np.int64), n - lost + 1
    while (is_open := low < high).any():
        middle = (low + high) // 2
        is_enough = _scores(n, lost, np.minimum(middle, n - lost), margin) >= seen - 1e-9
        high = np.where(is_open & is_enough, middle, high)
        low = np.where(is_open & ~is_enough, middle + 1, low)
    return np.where(low > n - lost, n + 1, low)


def _scores(
    n: int, lost: NDArray[np.int64], won: NDArray[np.int64], margin: float
) -> NDArray[np.float64]:
    """Return how clearly counts speak against p - q ≥ `margin`, in standard errors (Tango 1998)."""
    # The likeliest share of won items where p - q is `margin`.
    linear = (2 * n - lost + won) * margin - lost - won
    constant = -won * margin * (1 - margin)
    root = np.sqrt(np.maximum(0.0, linear**2 - 8 * n * constant))
    share = (root - linear) / (4 * n)
    variance = n * np.maximum(0.0, 2 * share + margin * (1 - margin))
    distance = n * margin - (lost - won)
    with np.errstate(divide="ignore", invalid="ignore"):
        scores = np.where(variance > 0, distance / np.sqrt(variance), np.sign(distance) * inf)
    return np.where(distance == 0, 0.0, scores)
