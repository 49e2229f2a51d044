"""Reasons of a training, as values and as sentences."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from stratos.core.errors import did_you_mean
from stratos.core.formats import about, counted, duration, exact_usd, percent
from stratos.core.pairs import paired_difference
from stratos.core.reasons import Reason


class NoGradientWorkers(Reason):
    """Why no processes share the steps: nothing here has them."""

    says = "no extension that shares steps among processes is installed (stratos.contrib.cpu)"


class ProcessesUnused(Reason):
    """Why one process trains although the config asks for several."""

    n_processes: int
    reason: Reason

    says = "trainer.n_processes={n_processes} is not used: {reason}."


class ProcessesGone(Reason):
    """Why a training that several processes began goes on otherwise."""

    n_processes: int
    reason: Reason

    says = (
        "The training began on {n_processes} processes and goes on in one, so that sums "
        "are rounded otherwise: {reason}."
    )


class ProcessesBeyondCores(Reason):
    """Why the processes that the config asks for wait for each other."""

    n_processes: int
    n_cores: int

    def __str__(self) -> str:
        cores = counted(self.n_cores, "core")
        return f"trainer.n_processes={self.n_processes}: this machine has {cores} for them."


class BeginningsShared(Reason):
    """How much of a step is computed where rows begin alike."""

    n_tokens: int
    n_computed: int
    n_turns: int = 0
    """Rows that are read with other turns of their conversation."""

    def __str__(self) -> str:
        more = f"; {self.n_turns:,} rows are turns that are read together" if self.n_turns else ""
        shared = f"of the {self.n_tokens:,} tokens of a step {self.n_computed:,} are computed{more}"
        return f"Rows begin alike: {shared}."


class BeginningsApart(Reason):
    """Why what rows begin with is computed for each of them."""

    model_class: str
    is_compiled: bool

    def __str__(self) -> str:
        cause = "it is compiled" if self.is_compiled else f"{self.model_class} cannot share it"
        return f"What rows begin with is computed for each of them: {cause}."


# --- tokenizers and the teacher's signal ----------------------------------------------------------


class OtherToken(Reason):
    """Why two tokenizers differ: one id means two things."""

    id: int
    student: str
    teacher: str

    says = "Id {id} is {student!r} to the student and {teacher!r} to the teacher."


class OtherSplit(Reason):
    """Why two tokenizers differ: they make other tokens of one text."""

    text: str

    def __str__(self) -> str:
        return f"The text {self.text[:40]!r} is tokenized differently."


class OtherEnd(Reason):
    """Why two tokenizers differ: the teacher lacks what ends the student's texts."""

    id: int | None

    says = "The student ends a text with id {id}, which the teacher does not have."


class AlignedPlaces(Reason):
    """What a teacher with another tokenizer cannot score: every place."""

    says = "it scores the places where both tokenizers begin a token at the same character"


class NotServed(Reason, Enum):
    """What no served teacher gives."""

    WHOLE_DISTRIBUTION = "a served teacher gives only a part of its distribution, in its own tokens"
    HIDDEN_STATES = "a served teacher gives no hidden states to match"


class ServedTemperature(Reason):
    """Why no served teacher gives a distribution at another temperature than 1."""

    temperature: float

    says = "a served teacher gives its distribution at temperature 1, not {temperature:g}"


class OnlyAnswers(Reason):
    """Why a teacher gives its text alone: its kind does."""

    kind: str

    says = "{kind} only answers chats"


class ScoringRefused(Reason):
    """Why an endpoint does not score given text: it refuses the request."""

    url: str
    cause: str

    says = (
        "{url} refuses to score given text with prompt_logprobs ({cause}; vLLM has "
        "them, transformers serve does not)"
    )


class ScoringIgnored(Reason):
    """Why an endpoint does not score given text: it drops the setting without a word."""

    url: str

    says = "{url} ignores prompt_logprobs (vLLM has them; transformers serve does not)"


class OtherTokensScored(Reason):
    """Why the scores of an endpoint are of no use."""

    url: str

    says = "{url} scores other tokens than those sent"


class FewerTokens(Reason):
    """What an endpoint gives less of than the strategy has of each place."""

    n_given: int
    n_wanted: int

    def __str__(self) -> str:
        return f"it gives {counted(self.n_given, 'token')} a place instead of {self.n_wanted}"


class SignalTooDear(Reason):
    """Why a paid teacher is not asked to score the documents."""

    n_documents: int
    usd: float
    left_usd: float
    n_fitting: int

    def __str__(self) -> str:
        return (
            f"that it scores {counted(self.n_documents, 'document', spec=',')} is expected to cost "
            f"{exact_usd(self.usd)}, and {exact_usd(self.left_usd)} is left, enough for about "
            f"{self.n_fitting:,} of them"
        )


class ServedTopK(Reason):
    """Why a cache is of the likeliest tokens although sampled ones are configured."""

    teacher: str

    says = (
        "Teacher {teacher} is served and gives its most likely tokens, not sampled ones: "
        "the cache is topk."
    )


class PaidEachTime(Reason):
    """Why a cache would be cheaper."""

    teacher: str

    says = (
        "Teacher {teacher} is paid each time the student reads a text. To pay once: "
        "strategy.cache=topk"
    )


class NoDistributions(Reason):
    """Why a student learns from the text alone."""

    teacher: str
    reason: Reason

    says = (
        "Teacher {teacher} gives no distributions: {reason}. "
        "The student learns from its verified text."
    )


class LessSignal(Reason):
    """What a teacher's signal lacks."""

    teacher: str
    reason: Reason

    says = "Teacher {teacher}: {reason}."


class ShardAbsent(Reason):
    """Why a shard of the signal cache has to be computed: it is not there."""

    says = "it is not there"


class ShardCorrupt(Reason):
    """Why a shard of the signal cache has to be computed anew."""

    shard: int
    url: str
    cause: str

    says = "Shard {shard} of the signal cache {url} is corrupt ({cause})."


# --- objectives -----------------------------------------------------------------------------------


class UnknownParameter(Reason):
    """Why a parameter is refused: its divergence has none of that name."""

    divergence: str
    name: str
    known: tuple[str, ...]

    def __str__(self) -> str:
        has = f"It has {', '.join(self.known)}." if self.known else "It has none."
        near = did_you_mean(self.name, self.known)
        return f"{self.divergence} has no parameter {self.name}.{near} {has}"


class ParameterOutOfRange(Reason):
    """Why the value of a parameter is refused."""

    name: str
    value: float
    low: float
    high: float

    says = "{name}={value} is not between {low:g} and {high:g}."


# --- checkpoints ----------------------------------------------------------------------------------


class EmptyCheckpoint(Reason):
    """Why the folder of a checkpoint cannot be loaded."""

    says = "it is empty"


class WrongChecksum(Reason):
    """Why the file of a checkpoint cannot be loaded."""

    part: str
    """Name of the damaged file in it."""

    says = "{part} in it has a wrong checksum"


class CheckpointUnreadable(Reason):
    """Why a training resumes from an earlier checkpoint."""

    path: str
    reason: Reason

    says = (
        "The checkpoint {path} cannot be read ({reason}): the training resumes from "
        "the one before it, or starts again if there is none."
    )


class OtherInputs(Reason, Enum):
    """Why the checkpoints in a folder are of another training."""

    CONFIG_OR_CORPUS = "by another config or corpus"
    NO_SIGNAL = "from the text alone, because the budget was too small"


class CheckpointsAside(Reason):
    """Why a training starts again beside checkpoints."""

    checkpoints: str
    aside: str
    reason: OtherInputs

    says = (
        "The checkpoint in {checkpoints} was made {reason}: it lies in {aside} "
        "now, and the training starts again"
    )


# --- rows, and why a training ends ----------------------------------------------------------------


class RowsTooLong(Reason):
    """Why training items are left out."""

    n: int

    def __str__(self) -> str:
        items = counted(self.n, "training item is", "training items are")
        return f"{items} longer than the student's context: left out"


class VocabularyCut(Reason):
    """What the vocabulary of a student is cut to."""

    n_tokens: int
    n_before: int

    def __str__(self) -> str:
        return (
            f"The vocabulary is cut to {self.n_tokens:,} of {self.n_before:,} tokens: those of the "
            "task's rows, and those that write any other text."
        )


class LayersRemoved(Reason):
    """How many layers of a trained student went."""

    n_layers: int
    n_before: int
    n_right: int
    n_right_before: int
    n_rows: int

    def __str__(self) -> str:
        rows = counted(self.n_rows, "validation row")
        if self.n_layers == self.n_before:
            return (
                f"All {self.n_before} layers stay: without the least of them fewer of {rows} are "
                f"right than the {self.n_right_before} of the trained student."
            )
        return (
            f"{self.n_before - self.n_layers} of {self.n_before} layers are removed: once it is "
            f"trained {self.n_right} of {rows} are right without them, {self.n_right_before} with "
            "all."
        )


class LayersUnknown(Reason):
    """Why nothing tells which layers may go."""

    n_before: int
    n_right: int
    n_rows: int
    n_by_chance: int

    says = (
        "All {n_before} layers stay: once it is trained the student is right of {n_right} of "
        "{n_rows} validation rows, and their most frequent answer of {n_by_chance}. So no trial "
        "tells what a layer is for."
    )


class OfShallow(Reason):
    """A warning of the training that follows the removal of layers."""

    text: str

    says = "Learning again without the removed layers: {text}"


class LayersHealed(Reason):
    """What a student without layers answers once it has learnt from the whole one."""

    n_layers: int
    n_right_before: int
    n_rows: int
    n_lost: int
    """Rows that the whole one alone is right of."""
    n_won: int
    """Rows that the one without layers alone is right of."""
    max_loss_points: float
    is_kept: bool
    n_next: int | None = None
    """Layers of the next attempt."""

    def __str__(self) -> str:
        loss = self.n_lost - self.n_won
        p_value, low, high = paired_difference(self.n_lost, self.n_won, self.n_rows)
        ends = f"{100 * low:.1f} to {100 * high:.1f}"
        rights = (
            f"With {self.n_layers} layers, and taught by the whole student, "
            f"{self.n_right_before - loss} of {counted(self.n_rows, 'validation row')} are right, "
            f"{self.n_right_before} with all (95% interval of the loss: {ends} points)"
        )
        if self.is_kept:
            return f"{rights}: it is the student."
        then = "the whole student stays"
        if self.n_next is not None:
            then = f"next with {self.n_next} layers"
        too_much = f"more than student.fit.max_loss_points={self.max_loss_points:g}"
        if 100 * loss <= self.max_loss_points * self.n_rows:
            too_much = f"p = {p_value:.2g}"
        return f"{rights}, which is worse ({too_much}): {then}."


class End(Reason):
    """Why a training ends before its last step."""

    step: int
    n_steps: int

    @property
    def _ended(self) -> str:
        return f"The training ended at step {self.step} of {self.n_steps}"


class OutOfTime(End):
    """Its time limit was reached."""

    says = "{_ended}: its time limit was reached (trainer.max_time)."


class AccurateEnough(End):
    """The student is as accurate as the config asks for."""

    exact: float

    says = "{_ended}: {exact:.1%} of the validation items are right (callbacks.stop_at_exact)."


class NoBetter(End):
    """Measurements in a row were no better than the best before."""

    n_measurements: int
    best_step: int

    def __str__(self) -> str:
        times = counted(self.n_measurements, "measurement")
        return (
            f"{self._ended}: {times} in a row were no better (callbacks.patience). The weights "
            f"of step {self.best_step} are kept."
        )


# --- how long a training takes --------------------------------------------------------------------


@dataclass(frozen=True)
class PassedLimit:
    """A limit of the run that a training would pass."""

    key: str
    hours: float
    enough_hours: int
    """What it would have to be."""


class FewPasses(Reason):
    """That rows are read so seldom that little may be learnt."""

    epochs: float
    enough_tokens: int
    enough_epochs: int
    reason: str
    """What sets the length of the training."""

    def __str__(self) -> str:
        return (
            f"Each row is read {self.epochs:.2g} times, by {self.reason}: "
            f"trainer.max_tokens={self.enough_tokens} reads it {self.enough_epochs} times. What "
            "all rows begin with, such as an instruction, counts in each of them, although a step "
            "computes it once."
        )


class TooLong(Reason):
    """Why a training is not begun, and what would make it fit."""

    student: str
    seconds: float
    n_steps: int
    tokens_per_step: float
    step_seconds: float
    limits: tuple[PassedLimit, ...]
    passed_hours: float = 0.0
    """What the stages before took of one of the limits."""
    max_tokens: int | None = None
    max_epochs: int | None = None
    smaller: str | None = None
    """A student that would be done in time."""

    def __str__(self) -> str:
        keys = " and ".join(f"{limit.key}={limit.hours:g}" for limit in self.limits)
        before = ""
        if self.passed_hours:
            before = f" (the stages before it took {about(3600 * self.passed_hours)})"
        changes = {
            "trainer.max_tokens": self.max_tokens,
            "trainer.max_epochs": self.max_epochs,
            "student": self.smaller,
        }
        shorter = ", ".join(f"{key}={value}" for key, value in changes.items() if value is not None)
        shorter += " to stay below, or " if shorter else ""
        longer = " ".join(f"{limit.key}={limit.enough_hours}" for limit in self.limits)
        return (
            f"The training of {self.student} would take about {about(self.seconds)} on this "
            f"machine ({counted(self.n_steps, 'step', spec=',')} of {self.tokens_per_step:,.0f} "
            f"tokens, measured at {duration(self.step_seconds)} each), more than {keys} "
            f"allows{before}. Nothing was trained. Type "
            f"{shorter}{longer} to wait for it; the same command resumes from here."
        )


class TeacherRowsLearnt(Reason):
    """How rows that a teacher labelled are learnt beside gold ones, and what decided that."""

    n_rows: int
    n_gold: int
    weight: float
    is_corrected: bool
    reached: dict[str, float]
    """Accuracy on gold rows by cross-validation: of gold rows alone, of the teacher's labels as
    they are (the best weight), and of corrected ones; empty where too few decide nothing."""

    def __str__(self) -> str:
        rows = counted(self.n_rows, "row", spec=",")
        if not self.reached:
            return f"{rows} with a teacher's labels are learnt as they are: too few rows are gold."
        how = "with corrected labels" if self.is_corrected else "with its own labels"
        weighed = f"{how}, each at {self.weight:g} of a gold row" if self.weight else "not learnt"
        reached = ", ".join(f"{name} {percent(share)}" for name, share in self.reached.items())
        gold = counted(self.n_gold, "gold row", spec=",")
        return f"{rows} of the teacher: {weighed}. Cross-validation on {gold}: {reached}."
