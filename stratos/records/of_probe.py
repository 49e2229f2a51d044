"""What the probe found, and what short trainings have shown before the plan."""

from __future__ import annotations

from dataclasses import dataclass, field

from stratos.records.base import Interval, ModelCard, is_cut_short
from stratos.records.of_training import ModelScore


@dataclass(frozen=True)
class PromptTrial:
    """One prompt tried on validation items, before the best is taken on."""

    prompt: str
    n_items: int
    exact: float
    choice: float
    """Multiple choice on the same items; it is asked with one prompt only."""
    f1: float = 0.0
    parsable: float = 0.0
    max_tokens: int = 0
    """Longest answer, in tokens, as it was asked for last; 0 where it was not recorded."""
    n_truncated: int = 0
    """Answers that were cut there."""


@dataclass(frozen=True)
class ConfusedLabels:
    """Two labels that a teacher takes for each other."""

    labels: tuple[str, str]
    """In alphabetical order."""
    n: int
    """Wrong answers that are one of them where the other is right."""


@dataclass(frozen=True)
class PromptRepair:
    """A prompt that shows how confused labels differ, tried on items that did not name them."""

    prompt: str
    """Its name."""
    base: str
    """Name of the prompt that it adds to."""
    pairs: tuple[tuple[str, str], ...]
    """The labels that it tells apart."""
    n_items: int
    """Validation items that were answered with both prompts."""
    n_right_before: int
    n_right: int
    only_repaired: int
    """Items that the repaired prompt alone answers right."""
    only_base: int
    """Items that the other alone answers right."""
    p_value: float
    """Two-sided, of McNemar's exact test."""
    is_taken: bool


@dataclass(frozen=True)
class SampledAnswers:
    """Several answers drawn to the same question, and how far they agree."""

    n_items: int
    n_samples: int
    """Answers to each item."""
    temperature: float
    agreement: float | None = None
    """Share of pairs of answers to one item that are the same; None where none were drawn. An
    answer that cannot be read agrees with none."""
    entropy_bits: float | None = None
    """Mean entropy of the answers to one item."""
    reason: str = ""
    """Why none were drawn."""


@dataclass(frozen=True)
class StudentProbe:
    """What a student that starts from existing weights can do before its training."""

    student: str
    n_items: int = 0
    """Validation items that it answered in its time."""
    exact: Interval | None = None
    """None where it was not measured."""
    seconds: float = 0.0
    """Loading included."""
    reason: str = ""
    """Why it was not measured."""


@dataclass(frozen=True)
class KindProbe:
    """What a student that is no language model reaches on the rows by cross-validation."""

    student: str
    kind: str
    accuracy: Interval
    """Share of the rows that a model answers right which has not learnt them. The optimism of
    choosing the best of several kinds by it is taken off, and of few rows what is known of kinds
    beforehand counts, too."""
    measured: float
    """The same share as it was measured, without either."""
    n_rows: int
    calibration_error: float
    """Expected calibration error of its probabilities on these rows."""
    seconds: float
    """By the clock: to train it on all rows, as its cross-validation tells."""
    ms_per_answer: float
    """Of one text alone on one core of this machine, median."""
    n_params: int
    curve: tuple[tuple[float, float], ...] = ()
    """Learning curve: rows learnt, and accuracy; of the best kind alone."""
    known: float | None = None
    """Where `accuracy` is that of wordings which no row shows, as in the test: the same of wordings
    that rows show; None where no wording has several rows, or one has most of all."""
    new: float | None = None
    """Of a tagger, where the wordings of validation rows stand in training rows, and so those of
    test rows: its accuracy on new ones, where `accuracy` is that of wordings that rows show."""
    fields: dict[str, float] = field(default_factory=dict)
    """Of a tagger: share of the rows in which each field is right."""
    micro_f1: Interval | None = None
    """Where a text has several labels: F1 over all labels of the rows, by which the kind is chosen;
    `accuracy` counts answers of which all labels are right."""
    gain: tuple[float, float] | None = None
    """95% interval of what twice the rows would add to the accuracy; None where that was not
    measured."""
    n_bytes: int = 0
    """Of the student on disk, about; 0 where that is not known."""

    @property
    def score(self) -> float:
        """What kinds are compared by: micro-F1 where a text has several labels, else accuracy."""
        return self.measured if self.micro_f1 is None else self.micro_f1.mean


@dataclass(frozen=True)
class AnswerSpread:
    """How much the answers of a probe differ from each other: standard deviations."""

    input_tokens: float
    output_tokens: float
    seconds: float


@dataclass(frozen=True)
class SliceAnswers:
    """Of the answers of a probe those to the questions of one slice."""

    n_items: int
    input_tokens: int
    """Of all of them."""
    output_tokens: int
    spread: AnswerSpread | None = None
    """None where there is but one."""
    cached_input_tokens: int = 0
    """Of the input tokens those that the endpoint had read before."""


@dataclass(frozen=True)
class LoggedProof:
    """What the log of a model proves of it."""

    model: str
    """As the log has it."""
    is_checked: bool
    """False where nothing in the log could show that an answer is wrong."""
    doubts: dict[str, int]
    """Why to how many of the answers that were looked at are doubtful."""
    are_counted: bool
    """False where the log does not say tokens, so that they are told by the length of the texts."""


@dataclass(frozen=True)
class TeacherProbe:
    """What one reachable teacher showed on labelled validation items."""

    teacher: str
    card: ModelCard
    prompt: str
    """Name of the prompt that was taken on: the best of `trials`."""
    n_items: int
    exact: Interval
    choice: Interval
    """Multiple choice of four; 0.25 is chance, and nothing is known where none was asked."""
    exact_by_slice: dict[str, Interval]
    parsable: float
    """Share of answers that could be read as an answer at all."""
    echoes: float
    """Share of answers that only repeat an example of the prompt, and are wrong."""
    input_tokens: int
    """Of the `n_items` answers under `prompt`, without trials and multiple choice."""
    output_tokens: int
    seconds: float
    """What these answers took when they were made, cached or not; each on its own if hosted."""
    cpu_seconds: float
    """CPU time that probing this teacher took now, trials and multiple choice included."""
    usd: float
    """Dollars that probing this teacher took now, trials and multiple choice included."""
    n_cached: int
    """How many of these answers came from the cache, and so cost nothing."""
    trials: tuple[PromptTrial, ...] = ()
    has_weights: bool = False
    """Its weights are on this machine, so that it can tell how likely it finds every token."""
    agreement: float | None = None
    """Share of pairs of answers to one question, asked with different prompts, that are the same;
    None where only one prompt was tried. An answer that cannot be read agrees with none."""
    entropy_bits: float | None = None
    """Mean entropy of the answers to one question, asked with different prompts."""
    entropy_nats: float | None = None
    """Mean entropy of the teacher's next token over its own answers, in nats a token; None where
    its weights are not here, or it answers too little to be learnt from."""
    samples: SampledAnswers | None = None
    """How far answers to one question agree that are drawn with the same prompt; None where the
    complexity is declared."""
    max_tokens: int = 0
    """Longest answer under `prompt`, in tokens, as it was asked for last; 0 where it was not
    recorded."""
    n_truncated: int = 0
    """How many of the `n_items` answers were cut there."""
    spread: AnswerSpread | None = None
    """Of the `n_items` answers; None where it was not recorded, or there is but one."""
    most_at_once: int = 1
    """Answers that are asked for at once where there are enough of them."""
    at_once: float | None = None
    """Answers that were under way at once on average, pauses included; None where none was asked
    for now, or not through an endpoint."""
    logged: LoggedProof | None = None
    """Of the model of a log, which was asked nothing: then `exact` is the share of its answers
    that nothing in the log speaks against, which its accuracy is at most."""
    by_slice: dict[str, SliceAnswers] = field(default_factory=dict)
    """The `n_items` answers, by slice; empty for a log."""
    confused: tuple[ConfusedLabels, ...] = ()
    """Labels that it takes for each other on the `n_items`, the most frequent pair first."""
    repair: PromptRepair | None = None
    """None where no repaired prompt was tried."""
    is_nobody: bool = False
    """True where the run has no teacher: all is learnt from the answers of the rows."""
    cached_input_tokens: int = 0
    """Of the `input_tokens` those that the endpoint had read before."""

    @property
    def usd_per_input_token(self) -> float:
        """Mean price of an input token, as many read before as in the `n_items` answers."""
        if not self.input_tokens:
            return self.card.input_usd(1)
        return self.card.input_usd(self.input_tokens, self.cached_input_tokens) / self.input_tokens

    @property
    def is_cut_short(self) -> bool:
        """Whether so many answers were cut that the accuracy may be higher than is measured."""
        return is_cut_short(self.n_truncated, self.n_items)

    @property
    def max_tokens_by_prompt(self) -> dict[str, int]:
        """Longest answer under each prompt that was tried, in tokens."""
        tried = {trial.prompt: trial.max_tokens for trial in self.trials}
        limits = {**tried, self.prompt: self.max_tokens}
        return {prompt: n_tokens for prompt, n_tokens in limits.items() if n_tokens}


@dataclass(frozen=True)
class Measure:
    """One number that speaks for a task's complexity."""

    name: str
    value: Interval | None
    """Without a range where it has none that is known; None where it was not measured."""
    unit: str
    """share, bits, nats a token, tokens or characters."""
    of: str
    """Whose it is: a teacher, a student, or the task."""
    level: str = ""
    """low, medium or high; "" where no threshold is set on it."""
    note: str = ""
    """What it was measured on, or why it was not."""


@dataclass(frozen=True)
class Complexity:
    """How hard the task is: `level` with the evidence for it."""

    level: str
    """low, medium or high."""
    declared: bool
    """True if the user said so, and nothing was measured."""
    evidence: tuple[str, ...] = ()
    measures: tuple[Measure, ...] = ()
    """The same in numbers; none where it is declared."""


@dataclass(frozen=True)
class Probe:
    """Outcome of the first stage: what each reachable teacher can do."""

    task: str
    teachers: tuple[TeacherProbe, ...]
    unreachable: dict[str, str]
    """Teacher name to the reason why it was left out."""
    complexity: Complexity
    answers_path: str
    """JSON lines with every prompt and raw answer, inside the run folder."""
    seconds: float
    students: tuple[StudentProbe, ...] = ()
    """Those that start from existing weights."""
    kinds: tuple[KindProbe, ...] = ()
    """Those that are no language models, the cheapest first."""
    cut_at_usd: float | None = None
    """Cap on the money at which questions were left out; None where none were."""
    baselines: tuple[ModelScore, ...] = ()
    """What needs no model, on all validation items; none where the task has no rows of its own."""
    logged: TeacherProbe | None = None
    """The model of the task's log, if its price is known: among `teachers` or not."""
    shares: dict[str, float] = field(default_factory=dict)
    """Share of each slice among the validation rows, as requests come; empty without rows. A task
    of one slice has none."""

    @property
    def real_teachers(self) -> tuple[TeacherProbe, ...]:
        """The teachers that there are."""
        return tuple(teacher for teacher in self.teachers if not teacher.is_nobody)

    def of_kind(self, student: str) -> KindProbe | None:
        """Return what a student showed that is no language model; None of any other."""
        return next((kind for kind in self.kinds if kind.student == student), None)

    @property
    def best_kind(self) -> KindProbe | None:
        """The most accurate of these kinds, of equals the cheapest; None without any."""
        return max(self.kinds, key=lambda kind: kind.accuracy.mean, default=None)

    def of_teacher(self, name: str) -> TeacherProbe:
        """Return what was seen of a reachable teacher."""
        return next(probed for probed in self.teachers if probed.teacher == name)


@dataclass(frozen=True)
class PilotPoint:
    """One short training: the planned one with tokens, items and warm-up scaled down alike."""

    train_tokens: int
    accuracy: float
    """Exact match on validation items after the last step."""
    n_items: int
    n_corpus_items: int
    seconds: float
    cpu_seconds: float
    train_seconds: float
    """Of `seconds`, those of the training without its corpus."""


@dataclass(frozen=True)
class PilotRun:
    """The learning curve of one student by one strategy."""

    student: str
    strategy: str
    teacher: str
    points: tuple[PilotPoint, ...]
    path: str
    """Folder of its trainings, inside the run folder."""
    usd: float = 0.0
    """Dollars that its teacher was paid."""


@dataclass(frozen=True)
class Pilot:
    """Short trainings before the plan: what accuracies are extrapolated from."""

    task: str
    runs: tuple[PilotRun, ...]
    left_out: dict[str, str]
    """Pair to the reason why it was not trained."""
    seconds: float
    cpu_seconds: float
    usd: float
    """Dollars that teachers were paid; they count in the budget."""
    why: str = ""
    """The open question that it was made for by itself; "" where it was asked for."""
