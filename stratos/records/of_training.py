"""What was measured on test items, and who is better.

The training data that were made, and the student that was trained on them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from stratos.records.base import Interval, is_cut_short


@dataclass(frozen=True)
class SliceScore:
    """One model on one slice of the test split ("all" for every slice together)."""

    slice: str
    n_items: int
    exact: Interval
    f1: float
    choice: float | None = None
    micro_f1: Interval | None = None
    """Where a text has several labels: F1 over all labels of all items; None elsewhere."""
    n_groups: int = 0
    """Groups of near duplicates that the items are of, by which intervals are; 0 where no item is a
    near duplicate of another."""
    n_independent: int = 0
    """Independent items that they are worth, as far as a group is answered right together."""


NO_LABEL = "(none of them)"
"""What stands in `ModelScore.labels` for an answer that is no label, or could not be read."""


@dataclass(frozen=True)
class Replay:
    """Whole conversations, each turn answered behind the model's own earlier answers."""

    n_conversations: int
    whole: Interval
    """Share without an error."""
    mean_right: float
    """Turns of a conversation before the first error, on average."""
    mean_turns: float
    """Turns that a conversation has."""
    whole_calls: Interval
    """Share without an error where any text passes for a text."""


@dataclass(frozen=True)
class ModelScore:
    """One model, or one baseline, on the test split."""

    role: str
    """student, constrained, untouched, teacher, majority, lookup, linear or chance."""
    name: str
    slices: tuple[SliceScore, ...]
    input_tokens: int = 0
    output_tokens: int = 0
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    usd_per_1000: float | None = None
    """Dollars for 1,000 answers on the planned server."""
    max_tokens: int = 0
    """Longest answer, in tokens; 0 where it was not recorded, or the model writes none."""
    n_truncated: int = 0
    """Answers that were cut there, all slices together."""
    n_too_long: int = 0
    """Items that were left out, since they are longer than the teacher's context."""
    fields: dict[str, Interval] = field(default_factory=dict)
    """Where answers are JSON objects: field to the share of items in which it is right."""
    fields_wrong: dict[str, int] = field(default_factory=dict)
    """The same of a model: field to the number of items in which it is not wholly right."""
    n_params: int = 0
    """Parameters of a model; 0 where nobody tells."""
    wall_seconds: float | None = None
    """From the first question to the last answer; None where it was not recorded. `seconds` are
    those that each answer took, many of them at once where an endpoint gives them."""
    n_cached: int = 0
    """Answers that were kept from before, and took none of the `wall_seconds`."""
    labels: dict[str, dict[str, int]] = field(default_factory=dict)
    """Where answers are labels: right label to answered label to number of items."""
    calibration_error: float | None = None
    """Expected calibration error of its probabilities; None where it gives none."""
    decoder: str = ""
    """What decoded a local model: direct, transformers, or both; "" where none did, or nobody
    tells."""
    replay: Replay | None = None
    """Of a task of conversations; None of others, and of language models."""
    only_answer: str | None = None
    """What it answers to every item although the right answers differ; None where its own do."""

    @property
    def errors(self) -> dict[str, int]:
        """Field, or right label, to the number of items in which it is wrong, the most first."""
        of_labels = {a: sum(row.values()) - row.get(a, 0) for a, row in self.labels.items()}
        wrong = self.fields_wrong or of_labels
        return {name: wrong[name] for name in sorted(wrong, key=lambda n: -wrong[n]) if wrong[name]}

    @property
    def is_light(self) -> bool:
        """Whether it is a student that is no language model: these tell their calibration."""
        return self.calibration_error is not None

    @property
    def rows(self) -> tuple[SliceScore, ...]:
        """What tables show: each slice where there are several, and the row of all of them."""
        several = len({row.slice for row in self.slices} - {"all"}) > 1
        return tuple(row for row in self.slices if several or row.slice == "all")

    def slice(self, name: str = "all") -> SliceScore:
        """Return the score of one slice."""
        return next(score for score in self.slices if score.slice == name)

    @property
    def is_cut_short(self) -> bool:
        """Whether so many answers were cut that the accuracy may be higher than is measured."""
        return is_cut_short(self.n_truncated, self.slice().n_items)


@dataclass(frozen=True)
class Comparison:
    """Student against teacher on the items that both answered."""

    n_items: int
    student_exact: Interval
    teacher_exact: Interval
    ratio: float | None
    """Student over teacher; None where the teacher has no right answer."""
    ratio_at_least: float
    """Lower end of the student's 95% interval over the upper end of the teacher's."""
    only_student: int
    only_teacher: int
    p_value: float
    """Exact McNemar test, two-sided."""
    ratio_low: float = 0.0
    """Lower end of the 95% score interval of the ratio, for matched pairs."""
    ratio_high: float | None = None
    """Upper end of it; None where the teacher has no right answer, and there is none."""

    @property
    def least_ratio(self) -> float | None:
        """`ratio_at_least`; None where the teacher has no right answer: it is of no share then."""
        return None if self.ratio is None else self.ratio_at_least

    @property
    def ratio_bound(self) -> float:
        """Highest `ratio_at_least` that so many items can show, all of the student's right.

        After none right of n the upper end of the teacher's interval is z²/(n + z²), and after all
        right the lower end of the student's is n/(n + z²) (Wilson).
        """
        return self.n_items / 1.959964**2


@dataclass(frozen=True)
class Versus:
    """Student against one baseline on the items that both answered."""

    role: str
    """Of the baseline, as in `ModelScore`."""
    name: str
    n_items: int
    student_exact: Interval
    other_exact: Interval
    only_student: int
    """Items that the student alone answers right."""
    only_other: int
    p_value: float
    """Exact McNemar test, two-sided; of `micro_f1` a paired permutation test."""
    micro_f1: tuple[float, float] | None = None
    """Where a text has several labels: of the student and of the baseline."""
    hosted_by: str = ""
    """Student that is this baseline, where one does the task."""

    @property
    def student(self) -> float:
        """What the student is judged by: its micro-F1 where there is one, else its accuracy."""
        return self.student_exact.mean if self.micro_f1 is None else self.micro_f1[0]

    @property
    def baseline(self) -> float:
        """The same of the baseline."""
        return self.other_exact.mean if self.micro_f1 is None else self.micro_f1[1]

    @property
    def ahead(self) -> float:
        """By how much the baseline is better than the student on these items."""
        return self.baseline - self.student


@dataclass(frozen=True)
class LoggedVersus:
    """The student against the model that wrote the log.

    By agreement the logged model is always right, and by the checks any text of the right form is.
    So an answer counts to a request whose logged answer holds if it is that answer, and to a
    doubtful one if it passes the checks. None of this says which model is more often right.
    """

    model: str
    n_items: int
    n_doubtful: int
    """Requests whose logged answer is doubtful; the student was asked them beside the test."""
    student_passes: Interval
    """Share of all requests to which the student's answer counts."""
    logged_passes: Interval
    """Share of all requests whose logged answer holds."""
    only_student: int
    """Doubtful requests to which the student's answer passes the checks."""
    only_logged: int
    """Requests whose logged answer holds and that the student answers otherwise."""
    p_value: float
    """Exact McNemar test, two-sided."""
    agrees: Interval
    """Share of the test items, whose logged answers hold, to which the student answers the same."""
    student_doubts: dict[str, int] = field(default_factory=dict)
    """Why to how many of the student's answers are doubtful."""


FREE_ROLES = ("majority", "situation", "lookup", "linear")
"""Baselines that need no model and cost nothing, the simplest first."""


@dataclass(frozen=True)
class EarlierReads:
    """How often test items were read on this machine before."""

    n_runs: int
    """Earlier runs that have read any of them."""
    n_seen: int
    """Items that any of these runs has read."""
    n_items: int
    """Items in all."""


@dataclass(frozen=True)
class Scorecard:
    """Everyone on the same held-out items, which no earlier stage has read."""

    task: str
    metric: str
    scores: tuple[ModelScore, ...]
    comparison: Comparison | None
    examples_path: str
    """JSON lines: question, gold, and the raw answer of each model."""
    seconds: float
    against: tuple[Versus, ...]
    """The student against each baseline."""
    earlier_reads: EarlierReads
    """Runs of this machine that had read the test items before."""
    answers_path: str
    """JSON lines: every answer of the student, with the chat that led to it."""
    seed: int = 0
    """Of the draw of the test items."""
    logged: LoggedVersus | None = None
    """The student against the model of the task's log; None without a log, or where its answers
    are trusted."""
    known: float | None = None
    """Share of rows that the student has right in cross-validation which are worded as others are
    that it learnt; None where the test asks in such wordings, too."""

    def score(self, role: str) -> ModelScore | None:
        """Return the score of one role, None if it was not measured."""
        return next((score for score in self.scores if score.role == role), None)

    @property
    def best_baseline(self) -> Versus | None:
        """The comparison with the best baseline; of equals, with the simplest.

        It is the one that is farthest ahead of the student, each on the items that both answered:
        baselines answer different numbers of items, and a few may be easier than all.
        """
        return max(self.against, key=lambda comparison: comparison.ahead, default=None)

    @property
    def best_free(self) -> Versus | None:
        """The same of those that need no model, all of which answer every item."""
        free = (comparison for comparison in self.against if comparison.role in FREE_ROLES)
        return max(free, key=lambda comparison: comparison.ahead, default=None)


FROM_FILE = "of the file"
"""Source of a row that no teacher made or labelled."""


@dataclass(frozen=True)
class CorpusRow:
    """One verified row that a student learns from."""

    id: str = ""
    family: str = ""
    slice: str = ""
    question: str = ""
    rationale: str = ""
    answer: str = ""
    completion: str = ""
    source: str = FROM_FILE
    """How a teacher made or labelled it, if any did."""
    agreement: float = 1.0
    """Share of a teacher's answers to it that are its answer."""


def corpus_rows(path: str | Path) -> Iterator[CorpusRow]:
    """Yield the rows of a corpus file."""
    read = msgspec.json.Decoder(CorpusRow).decode
    with Path(path).open("rb") as file:
        yield from map(read, file)


@dataclass(frozen=True)
class Corpus:
    """Verified training data on disk, and what was refused."""

    task: str
    strategy: str
    path: str
    """JSON lines, each a `CorpusRow`."""
    n_items: int
    n_by_slice: dict[str, int]
    refused: dict[str, int]
    """Reason to count: duplicates, held out, unverified …"""
    answer_sizes: dict[str, dict[str, int]]
    """Slice to a table: size of the answer to the number of items."""
    items_per_s: float
    """By the clock, waiting for the teacher included."""
    sha256: str
    seconds: float
    cpu_seconds: float
    teacher_tokens: int = 0
    usd: float = 0.0
    cut_at_usd: float | None = None
    """Budget at which questions were left out; None where none were."""
    n_answers: int = 0
    """Answers of the teacher, those that were refused too."""
    n_truncated: int = 0
    """Those of them that were cut at the longest length."""
    n_by_source: dict[str, int] = field(default_factory=dict)
    """Where a teacher added rows to those of a file: how each came about, to how many there are."""
    rows_to_label: str | None = None
    """File that lists rows worth labelling by hand; None where there are none."""
    n_rows_to_label: int = 0
    drawn_in_vain: dict[str, int] = field(default_factory=dict)
    """Draws that made no item (of a tools task: by tool and reason), which cost nothing."""


@dataclass(frozen=True)
class CurvePoint:
    """One row of the training curve."""

    step: int
    tokens: int
    loss: float
    exact: float | None = None
    """Exact match on validation items, where it was measured."""
    validation_loss: float | None = None
    """Cross-entropy of the validation items' gold answers in nats a token, measured with it."""
    learning_rate: float | None = None
    """Of the last step: that of Muon where there is one, else AdamW's."""
    grad_norm: float | None = None
    """Norm of the gradient before clipping, in the last step."""
    tokens_per_s: float | None = field(default=None, compare=False)
    """Since the point before, measurements left out: of the machine, not of the training."""


@dataclass(frozen=True)
class Student:
    """The trained student and its untouched twin.

    A language model is an ordinary Hugging Face folder; any other kind a folder that
    `stratos.models.kinds.load_predictor` reads, whose accuracy is that of cross-validation.
    """

    name: str
    path: str
    untouched_path: str
    """"" for a kind that has no language model to start from."""
    n_params: int
    steps: int
    train_tokens: int
    best_step: int
    validation_exact: float
    """Exact match of the kept weights on validation items, measured once the training was over."""
    n_validation_items: int
    """Items of `validation_exact`."""
    n_validation_reused: int
    """How many of them also chose the weights, because there were no others."""
    n_choosing_items: int
    """Validation items by which the kept weights were chosen."""
    best_exact: float
    """What these weights had on the items that chose them: the best of several measurements."""
    curve: tuple[CurvePoint, ...]
    weights_sha256: str
    seconds: float
    cpu_seconds: float
    n_resumed: int = 0
    """How many times the training went on from a checkpoint."""
    cut_at_usd: float | None = None
    """Budget that did not suffice for the teacher's signal, so that its text alone was learnt."""
    validation_loss: float | None = None
    """Cross-entropy of the validation items' gold answers at the best step, in nats a token."""
    epochs: float | None = None
    """How often each row was read."""
    threads: tuple[tuple[int, int], ...] = ()
    """From which step on how many CPU threads: their number decides how sums are rounded."""
    expected_seconds: float | None = None
    """What the training was expected to take, measured before it began."""
    content: dict[str, str] = field(default_factory=dict)
    """Digests of what it was trained and validated with, and of what it started from, where the
    config names files (`stratos.models.students.content_of`)."""
    setup_seconds: float = 0.0
    """Around the `seconds` of the training, in the process that ended it: to load rows and model,
    to measure the speed, to save and validate."""
    processes: int = 1
    """Processes of one thread that shared each step: on their number the rounding depends, too."""
    vocabulary: tuple[int, int] | None = None
    """Tokens of its vocabulary and of the one that it was cut from; None where it is whole."""
    computed: float = 1.0
    """Share of the tokens that a step computes: what its rows begin with alike is read once."""
    layers: tuple[int, int] | None = None
    """Its layers and those of the model that it was cut from; None where all stay."""
    depth_curve: tuple[tuple[int, int, int], ...] = ()
    """Layers left, validation rows right, and their number, after each removed layer; empty where
    none was tried."""
    kind: str = "lm"
    """lm, or the kind that it is (`StudentConfig.kind`)."""
    calibration_error: float | None = None
    """Expected calibration error by cross-validation; None for a language model."""

    @property
    def is_lm(self) -> bool:
        """Whether it is a language model."""
        return self.kind == "lm"
