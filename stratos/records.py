"""What passes between stages: frozen dataclasses with a JSON round trip, and no torch.

Every stage takes records and returns one. `save` writes a record atomically, `load` reads it back
with its types checked, so that a record which was cut short or edited by hand is refused and the
stage that made it runs again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

import msgspec

from stratos.core.atomic_files import write_atomically
from stratos.core.redact import redact_text

T = TypeVar("T")


# --- what everything is said in ------------------------------------------------------------------


@dataclass(frozen=True)
class Tried:
    """What a training showed that was too short to predict from."""

    n_right: int
    """Validation items with the right answer."""
    n_items: int
    train_tokens: int

    @property
    def share(self) -> float:
        """Share of the items with the right answer."""
        return self.n_right / self.n_items if self.n_items else 0.0


@dataclass(frozen=True)
class Interval:
    """A quantity with the range that it may be trusted to (95% unless `source` says otherwise)."""

    mean: float
    low: float
    high: float
    source: str = ""
    """Where it comes from, as a phrase: "64 validation items, Wilson"."""
    is_known: bool = True
    """False where nothing was measured that it could rest on: its ends are bounds then, and its
    mean is no estimate."""
    tried: Tried | None = None
    """Of an unknown accuracy, what a short training showed nevertheless."""

    @property
    def is_share_known(self) -> bool:
        """Return False for a share that may be anything, as after no trials."""
        return (self.low, self.high) != (0.0, 1.0)


MOST_TRUNCATED = 0.05
"""Share of a model's answers that may end at the longest length before its accuracy is doubted."""


def is_cut_short(n_truncated: int, n_answers: int) -> bool:
    """Return whether so many answers were cut that what was measured of them is doubtful."""
    return n_truncated > MOST_TRUNCATED * n_answers


@dataclass(frozen=True)
class ModelCard:
    """The facts of a model that the estimate and the plan need; weights are not among them."""

    name: str
    n_params: int
    n_layers: int
    hidden_size: int
    n_heads: int
    n_kv_heads: int
    intermediate_size: int
    vocab_size: int
    context_length: int
    license: str = "unknown"
    usd_per_million_input_tokens: float | None = None
    """Price of a hosted model; None for one that runs on a server of the plan."""
    usd_per_million_output_tokens: float | None = None
    max_requests_per_minute: float | None = None
    max_tokens_per_minute: float | None = None
    """Rate limit of a hosted model, tokens in and out together."""
    usd_per_million_batch_input_tokens: float | None = None
    """Price of a batch that may take `batch_hours`; None for a model without."""
    usd_per_million_batch_output_tokens: float | None = None
    batch_hours: float = 24.0
    """Window within which a batch is answered."""
    runs: tuple[CardRun, ...] = ()
    """Recorded runs of this model as a student."""
    head_size: int | None = None
    """Width of one attention head; None for hidden_size / n_heads."""
    price_date: str = ""
    """Day of a hosted model's prices."""
    price_source: str = ""
    retires: str = ""
    """Day from which a hosted model answers no more, as YYYY-MM-DD; "" where none is known."""
    retires_source: str = ""
    is_gguf: bool = False
    """Whether llama.cpp's file can hold the model: its architecture, and how positions are told."""


@dataclass(frozen=True)
class CardRun:
    """One recorded training of a student: what a card's accuracy and latency rest on."""

    task: str
    strategy: str
    accuracy: float
    """Exact match on the test split, all slices together: for show, no plan rests on it."""
    n_items: int
    """Test items."""
    train_tokens: int
    tokens_per_answer: float
    """Mean completion tokens of one answer, the reasoning path included."""
    ms_per_answer: float
    """Median latency of one answer at batch 1 on `machine`."""
    train_cpu_seconds: float
    seed: int
    date: str
    machine: str
    accuracy_by_slice: dict[str, float] = field(default_factory=dict, hash=False)
    student: str = ""
    """Name of the student, where the run stands elsewhere than on its own card."""
    validation_accuracy: float | None = None
    """Exact match of the kept weights on validation items: what plans rest on."""
    n_validation_items: int = 0
    task_version: int = 1
    """`task.version` that the run was made with."""


# --- probe ---------------------------------------------------------------------------------------


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
class AnswerSpread:
    """How much the answers of a probe differ from each other: standard deviations."""

    input_tokens: float
    output_tokens: float
    seconds: float


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

    @property
    def is_cut_short(self) -> bool:
        """Whether so many answers were cut that the accuracy may be higher than is measured."""
        return is_cut_short(self.n_truncated, self.n_items)

    @property
    def max_tokens_by_prompt(self) -> dict[str, int]:
        """Longest answer under each prompt that was tried, in tokens."""
        tried = {trial.prompt: trial.max_tokens for trial in self.trials}
        found = {**tried, self.prompt: self.max_tokens}
        return {prompt: n_tokens for prompt, n_tokens in found.items() if n_tokens}


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
    cut_at_usd: float | None = None
    """Cap on the money at which questions were left out; None where none were."""
    baselines: tuple[ModelScore, ...] = ()
    """What needs no model, on all validation items; none where the task has no rows of its own."""
    logged: TeacherProbe | None = None
    """The model of the task's log, if its price is known: among `teachers` or not."""

    def of_teacher(self, name: str) -> TeacherProbe:
        """Return what was seen of a reachable teacher."""
        return next(one for one in self.teachers if one.teacher == name)


# --- pilot ---------------------------------------------------------------------------------------


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
    train_seconds: float = 0.0
    """Of `seconds`, those of the training without its corpus; 0 in records of older versions."""


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


# --- plan ----------------------------------------------------------------------------------------


OWN_CLOUDS = frozenset(("local", "slurm", "ray"))
"""Clouds whose servers run already: this machine, and the nodes of a cluster."""


@dataclass(frozen=True)
class Offer:
    """A server that can be rented: one instance type in one region at one price."""

    cloud: str
    region: str
    instance_type: str
    accelerator: str | None
    """Canonical GPU name such as "A100-80GB"; None for a CPU server."""
    accelerator_count: int
    vcpus: float
    memory_gib: float
    vram_gib: float
    """Memory of ONE accelerator; 0 for a CPU server."""
    usd_per_hour: float
    usd_per_hour_spot: float | None = None
    price_date: str = ""
    source: str = ""

    @property
    def name(self) -> str:
        """Short name for tables and error messages."""
        gpu = f" ({self.accelerator_count}x{self.accelerator})" if self.accelerator else ""
        return f"{self.cloud}/{self.region} {self.instance_type}{gpu}"

    @property
    def is_rented(self) -> bool:
        """Whether it has to be ordered and booted before it works."""
        return self.cloud not in OWN_CLOUDS


@dataclass(frozen=True)
class ServingSetting:
    """How a server that answers requests is run, and what is expected of it."""

    engine: str
    """Name of the program: transformers, transformers-batching, vllm or llamacpp."""
    slots: int = 1
    """Answers that one replica gives at once."""
    tensor_parallel: int = 1
    """GPUs that one replica is cut over."""
    utilisation: float = 0.0
    """Share of its capacity that it is planned to be busy to; 0 for requests one at a time."""
    requests_per_s: tuple[float, ...] = ()
    """What one server answers of each size of requests alone, at that utilisation."""
    format: str = ""
    """Export that is served; "" for the bundle's own weights."""
    alone: tuple[float, ...] = ()
    """By size: share of its seconds with all slots busy that an answer alone takes, where answers
    share a processor; else none."""

    @property
    def name(self) -> str:
        """Short name, by which ties are broken too."""
        cut = f", {self.tensor_parallel} GPUs a replica" if self.tensor_parallel > 1 else ""
        busy = f", {self.utilisation:.0%} busy" if self.utilisation else ""
        form = f" {self.format}" if self.format else ""
        return f"{self.engine}{form}, {self.slots} at once{cut}{busy}"


@dataclass(frozen=True)
class Price:
    """One price that a plan rests on, and where it is from."""

    kind: str
    """server, teacher or egress."""
    what: str
    """What is paid for: an offer, a teacher, a cloud's egress."""
    usd: float
    unit: str
    """What the dollars are for, such as "an hour"."""
    date: str = ""
    """Day of the price, "" where the source has none."""
    source: str = ""


@dataclass(frozen=True)
class Assumption:
    """A number that a plan rests on and that nobody has measured for it."""

    name: str
    value: float
    unit: str
    why: str
    """Where the number is from."""
    replaced_by: str
    """What would take its place: a key to set, or a measurement."""


@dataclass(frozen=True)
class RoleChoice:
    """The server of one role, how long it is held, and what that costs."""

    role: str
    """teacher, train or serve."""
    offer: Offer | None
    """None where the role needs no server (a hosted teacher, a strategy that asks none)."""
    count: int
    spot: bool
    hours: float
    usd: float
    note: str = ""
    hours_range: tuple[float, float] | None = None
    """Low and high end of `hours`, by the error of the estimate."""
    usd_range: tuple[float, float] | None = None
    traffic: tuple[float, ...] = ()
    """For serving: share of each bucket of requests that these servers answer."""
    as_batch: bool = False
    """For a hosted teacher: its answers are bought through the provider's batch API."""
    last_call_usd: float = 0.0
    """For a hosted teacher: how much more than a call costs is set aside for it. The last call
    needs so much beyond `usd`, and does not spend it."""
    run: ServingSetting | None = None
    """For serving: how the server is run; None in plans of earlier versions."""
    wait_hours: float | None = None
    """For a node of a cluster: hours until it would be handed out, beside `hours`; None where that
    is not known."""


@dataclass(frozen=True)
class WhatIf:
    """What one limit is worth: the plan with it lifted or moved, found by solving again."""

    limit: str
    """Key of the config, such as "limits.budget_usd" or "cloud.regions"."""
    value: float | None
    """The limit as it is; None where it is not a number."""
    other_value: float | None
    """The limit that the other plan was solved under; None lifts it."""
    point: PlanPoint
    """The plan under the other limit; the chosen one again, if the limit does not bind."""
    text: str
    """The same as a sentence."""
    binds: bool = True
    """False if the plan would be the same without the limit."""


@dataclass(frozen=True)
class PlanPoint:
    """One complete plan as a row of the frontier or of the comparison of objectives."""

    teacher: str
    student: str
    strategy: str
    accuracy: float
    """Mean of the prediction; 0 where it is unknown."""
    usd: float
    hours: float
    latency_ms: float
    """Predicted p95 of one answer."""
    servers: dict[str, str]
    """Role to the offer's short name."""
    accuracy_known: bool = True
    """False if nothing was measured that it can be predicted from."""
    accuracy_low: float = 0.0
    accuracy_high: float = 1.0
    """Ends of the predicted interval; of an unknown accuracy what bounds it."""
    net_usd: float | None = None
    """Net cost in dollars, accuracy, hours and latency counted at the plan's exchange rates: what
    differences of it say counts. None in records of earlier versions."""
    accuracy_tried: Tried | None = None
    """Of an unknown accuracy, what a short training showed nevertheless."""


@dataclass(frozen=True)
class Way:
    """A way to have the task's requests answered: the planned student, or another model."""

    name: str
    is_student: bool
    accuracy: Interval
    usd_per_answer: Interval | None
    """Of a hosted model; of a cascade what its teacher's part costs. None for one whose servers are
    paid by the hour."""
    latency_ms: float | None
    """Mean of a hosted model, as the probe saw it; of one on servers its 95th percentile."""
    why_not: str = ""
    """Why it is no alternative; "" where it is one."""
    retires: str = ""
    """Day from which it answers no more, as YYYY-MM-DD; "" where none is known."""
    is_logged: bool = False
    """The model of the task's log: its accuracy is the share of its answers that nothing speaks
    against, an upper bound."""
    kind: Literal["student", "hosted", "prompt", "open", "cascade"] = "hosted"
    """prompt: a hosted model with another prompt; open: a model as it is, on rented servers;
    cascade: the student, and its teacher where it is unsure. In records of earlier versions it is
    hosted for the student, too."""
    usd_per_day: float | None = None
    """Of the servers of an open model or of a cascade's student, idle or not."""
    servers: str = ""
    """On which an open model would run."""
    prompt: str = ""
    """With which a hosted model is asked; "" in records of earlier versions."""


@dataclass(frozen=True)
class ScaledToZero:
    """The student's server when it is given back while nobody asks."""

    usd_per_day: float
    """Mean over the horizon."""
    share_on: float
    """Of the time."""
    share_waiting: float
    """Of the requests: those that come while it starts."""
    start_s: float
    """Seconds until it answers."""
    keep_s: float
    """Seconds without a request after which it is given back."""


@dataclass(frozen=True)
class Worth:
    """Whether distilling pays, against the cheapest hosted model that does the task as well."""

    outcome: Literal["distil", "stay", "open"]
    text: str
    """The same in words, with the numbers that decide it."""
    ways: tuple[Way, ...]
    reference: str
    """The hosted model that it is compared with; "" where there is none."""
    once_usd: Interval
    """Of teacher, training and data, from now on."""
    servers_usd_per_day: float
    """Of the student's servers, idle or not."""
    months: float
    requests_per_day: float | None = None
    """In the first month; None where it was not said."""
    growth_per_month: float = 0.0
    payback_days: Interval | None = None
    """After which the student stays cheaper; None where it is not by the end of the horizon. Its
    high end is infinite where it may not be."""
    break_even_per_day: Interval | None = None
    """Requests a day from which on it is cheaper over the whole horizon."""
    scaled: ScaledToZero | None = None
    """What its server costs if it is given back while nobody asks; None where that saves nothing,
    is not told, or breaks the latency limit."""


@dataclass(frozen=True)
class Plan:
    """Teacher, student, strategy and servers, chosen together, and why."""

    status: str
    """optimal, or the solver's word for a plan that it could not prove optimal."""
    solver: str
    teacher: str
    student: str
    strategy: str
    roles: tuple[RoleChoice, ...]
    accuracy: Interval
    usd: float
    hours: float
    latency_ms: float
    objective: str
    frontier: tuple[PlanPoint, ...]
    n_frontier: int
    """Size of the whole frontier, of which `frontier` may show a part."""
    alternatives: dict[str, PlanPoint]
    """What accuracy-first, cost-first, fastest and lowest latency would have chosen."""
    reasons: tuple[str, ...]
    left_out: dict[str, str]
    """Candidate to the reason why it was not considered."""
    warnings: tuple[str, ...]
    n_offers: int
    price_dates: tuple[str, str]
    """Oldest and newest of the prices that the plan uses."""
    seconds: float
    prompt: str = ""
    """The task's prompt that the teacher did best with in the probe; "" takes the task's first."""
    train_tokens: int = 0
    """Tokens that the training is expected to take."""
    max_tokens: dict[str, int] = field(default_factory=dict)
    """Longest answer of the teacher under each prompt that the probe tried, in tokens."""
    usd_range: tuple[float, float] | None = None
    """Low and high end of `usd`, by the error of the estimate."""
    hours_range: tuple[float, float] | None = None
    egress_usd: float = 0.0
    """Part of `usd` that moves data, checkpoints and bundle between regions and clouds."""
    spent_usd: float = 0.0
    """Dollars that were gone before the plan and count in its budget."""
    spent_hours: float = 0.0
    """Hours that probe and pilot took before the plan. They count in its deadline; `hours` are
    those that come after."""
    what_if: tuple[WhatIf, ...] = ()
    history: tuple[CardRun, ...] = ()
    """Past runs of this machine that predicted accuracies rest on, copied so that a resumed run
    sees the same ones."""
    history_recipe: str = ""
    """Digest of what a past run had to share with this one to be among them; "" in records of
    earlier versions."""
    prices: tuple[Price, ...] = ()
    """Every price that the plan uses; none in records of earlier versions."""
    assumptions: tuple[Assumption, ...] = ()
    """Every number that the plan uses and nobody measured; none in records of earlier versions."""
    net_usd: float | None = None
    """Net cost as in `PlanPoint`; None in records of earlier versions."""
    exchange: dict[str, float] = field(default_factory=dict)
    """Dollars that a point of accuracy, an hour of waiting and 100 ms count, by key of
    `objective`."""
    teacher_retires: str = ""
    """Day from which the teacher answers no more, as YYYY-MM-DD; "" where none is known."""
    worth: Worth | None = None
    """Whether it pays; None where no hosted model was probed, and in older records."""
    is_late: bool = False
    """Whether the student that it chose was trained before it was made."""

    @property
    def servers_usd_per_day(self) -> float:
        """Dollars a day of the student's servers, idle or not."""
        return sum(24 * role.usd / role.hours for role in self.roles_of("serve") if role.hours > 0)

    @property
    def once_usd(self) -> float:
        """Dollars of all but serving, from when it was made on."""
        return max(0.0, self.usd - sum(role.usd for role in self.roles_of("serve")))

    def roles_of(self, name: str) -> tuple[RoleChoice, ...]:
        """Return every choice for one role: serving may mix servers."""
        return tuple(role for role in self.roles if role.role == name)

    def role(self, name: str) -> RoleChoice:
        """Return the choice for one role."""
        return next(role for role in self.roles if role.role == name)


# --- synthesize ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Corpus:
    """Verified training data on disk, and what was refused."""

    task: str
    strategy: str
    path: str
    """Parquet file with columns id, family, slice, question, rationale, answer, completion."""
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


# --- distill -------------------------------------------------------------------------------------


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
    """The trained student and its untouched twin, both ordinary Hugging Face folders."""

    name: str
    path: str
    untouched_path: str
    n_params: int
    steps: int
    train_tokens: int
    best_step: int
    validation_exact: float
    """Exact match of the kept weights on validation items, measured once the training was over."""
    curve: tuple[CurvePoint, ...]
    weights_sha256: str
    seconds: float
    cpu_seconds: float
    n_resumed: int = 0
    """How many times the training went on from a checkpoint."""
    cut_at_usd: float | None = None
    """Budget that did not suffice for the teacher's signal, so that its text alone was learnt."""
    n_validation_items: int = 0
    """Items of `validation_exact`; 0 in records of versions that measured on the items alone that
    chose the weights."""
    n_validation_reused: int = 0
    """How many of them also chose the weights, because there were no others."""
    n_choosing_items: int = 0
    """Validation items by which the kept weights were chosen."""
    best_exact: float = 0.0
    """What these weights had on the items that chose them: the best of several measurements."""
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
    config names files (`stratos.core.digest.content_of`); none in records of earlier versions."""
    setup_seconds: float = 0.0
    """Around the `seconds` of the training, in the process that ended it: to load rows and model,
    to measure the speed, to save and validate. 0 in records of earlier versions."""


# --- evaluate ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class SliceScore:
    """One model on one slice of the test split ("all" for every slice together)."""

    slice: str
    n_items: int
    exact: Interval
    f1: float
    choice: float | None = None


NO_LABEL = "(none of them)"
"""What stands in `ModelScore.labels` for an answer that is no label, or could not be read."""


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
    n_params: int = 0
    """Parameters of a model; 0 where nobody tells."""
    wall_seconds: float | None = None
    """From the first question to the last answer; None where it was not recorded. `seconds` are
    those that each answer took, many of them at once where an endpoint gives them."""
    n_cached: int = 0
    """Answers that were kept from before, and took none of the `wall_seconds`."""
    labels: dict[str, dict[str, int]] = field(default_factory=dict)
    """Where answers are labels: right label to answered label to number of items."""

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
    """Exact McNemar test, two-sided."""

    @property
    def ahead(self) -> float:
        """By how much the baseline is more accurate than the student on these items."""
        return self.other_exact.mean - self.student_exact.mean


@dataclass(frozen=True)
class LoggedVersus:
    """The student against the model that wrote the log: by the checks that find doubtful answers.

    By agreement the logged model is always right. So both are judged by the same checks, on all
    requests of the test time: those whose logged answer holds, and those where it is doubtful.
    """

    model: str
    n_items: int
    n_doubtful: int
    """Requests whose logged answer is doubtful; the student was asked them beside the test."""
    student_passes: Interval
    logged_passes: Interval
    only_student: int
    """Requests to which the student's answer alone passes."""
    only_logged: int
    p_value: float
    """Exact McNemar test, two-sided."""
    agrees: Interval
    """Share of the test items, whose logged answers hold, to which the student answers the same."""
    student_doubts: dict[str, int] = field(default_factory=dict)
    """Why to how many of the student's answers are doubtful."""


FREE_ROLES = ("majority", "lookup", "linear")
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
    against: tuple[Versus, ...] = ()
    """The student against each baseline; none in records of older runs."""
    seed: int = 0
    """Of the draw of the test items."""
    earlier_reads: EarlierReads | None = None
    """Runs of this machine that had read them before; None in records of older versions."""
    answers_path: str = ""
    """JSON lines: every answer of the student, with the chat that led to it; "" in records of older
    versions."""
    logged: LoggedVersus | None = None
    """The student against the model of the task's log; None without a log, or where its answers
    are trusted."""

    def score(self, role: str) -> ModelScore | None:
        """Return the score of one role, None if it was not measured."""
        return next((score for score in self.scores if score.role == role), None)

    @property
    def best_baseline(self) -> Versus | None:
        """The comparison with the best baseline; of equals, with the simplest.

        It is the one that is farthest ahead of the student, each on the items that both answered:
        baselines answer different numbers of items, and a few may be easier than all.
        """
        return max(self.against, key=lambda one: one.ahead, default=None)

    @property
    def best_free(self) -> Versus | None:
        """The same of those that need no model, all of which answer every item."""
        free = (one for one in self.against if one.role in FREE_ROLES)
        return max(free, key=lambda one: one.ahead, default=None)


# --- deploy --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Prediction:
    """A quantity that was predicted for this machine before it was measured here."""

    predicted: Interval
    measured: float

    @property
    def is_inside(self) -> bool:
        """Whether what was measured lies in the predicted interval."""
        return self.predicted.low <= self.measured <= self.predicted.high


@dataclass(frozen=True)
class TriedRate:
    """One rate of a load test, and what the server showed."""

    requests_per_s: float
    n_requests: int
    n_errors: int
    """Requests that failed."""
    latency_p95_ms: float
    kept_up: bool


@dataclass(frozen=True)
class LoadResult:
    """What the server here showed while requests came at random moments (open loop, Poisson)."""

    requests_per_s: float
    """Mean rate at which they came."""
    n_requests: int
    seconds: float
    """From the first moment to the last answer."""
    kept_up: bool
    """Whether the server kept up with that rate."""
    gap_variation: float
    """Standard deviation over mean of the gaps between requests as they were sent: 1 for a Poisson
    process, of few requests about as much."""
    latest_ms: float
    """By how much the load generator was late at most; it counts in the latency."""
    latency_p50_ms: float
    latency_p95_ms: float
    """Of an answer, the wait before it included."""
    capacity_per_s: float
    """Requests per second that the server gave with all its slots busy (closed loop)."""
    queue_p95_ms: float | None
    """95th percentile that the queue model gives for this rate from the seconds of an answer that
    were measured; None for a rate above the capacity."""
    p95_ms: Prediction | None = None
    """95th percentile under this rate; None where the estimate would be overrun by it."""
    capacity: Prediction | None = None
    """Requests per second at most."""
    planned_per_s: float | None = None
    """Rate that the plan has for one of its servers; None where requests come one at a time."""
    latency_p99_ms: float | None = None
    first_token_ms: tuple[float, ...] = ()
    """To the first token with the wait before it, of a streamed test at the same rate: 50th, 95th
    and 99th percentile."""
    token_ms: tuple[float, ...] = ()
    """The same of the time per token after the first."""
    n_errors: int = 0
    """Requests that failed."""
    tokens_per_s: float = 0.0
    usd_per_1000: float | None = None
    """Dollars of 1,000 answers, if the planned server gave as many as this machine; None where
    that did not keep up with the rate."""
    planned_usd_per_1000: float | None = None
    """The same at the plan's rate."""
    holds_limit: bool = True
    """Whether it kept up with the rate within the latency limit, without an error."""
    servers_here: int | None = None
    """Servers like this machine that hold the plan's rate within the limit; None where no rate is
    planned, or none was sustained."""
    servers_planned: int | None = None
    """The same of the planned offer, which is faster or slower than this machine as the estimate
    has it."""
    is_sure: bool = True
    """Whether the requests were enough to tell if it kept up."""
    utilisation: float | None = None
    """The rate over that of its answers while all slots were busy; None where they never were."""
    tries: tuple[TriedRate, ...] = ()
    """All rates that were tried, in order; none in records of earlier versions."""
    limit_ms: float | None = None
    """95th percentile that the user allows."""
    stream_kept_up: bool | None = None
    """Whether it kept up in the streamed test, too; None where there was none, and in records of
    earlier versions."""


@dataclass(frozen=True)
class Export:
    """One format of the student for another engine, and how it answered held-out items."""

    format: str
    n_bytes: int
    n_items: int
    n_equal: int
    """Answers that are those of the evaluation to the letter."""
    exact: Interval
    """Share right of these items."""
    evaluated: Interval
    """The same in the evaluation."""
    loss_points: Interval
    """Points of accuracy lost; below 0 where it is better (Tango's interval)."""
    p_value: float
    """McNemar's exact test."""
    latency_p50_ms: float
    latency_p95_ms: float
    """Of one request at a time."""
    requests_per_s: float
    at_once: int
    """Requests in flight for the rate."""
    memory_mib: float
    """Resident memory of the server."""
    known: tuple[str, ...] = ()
    """Its answers to the bundle's known questions."""
    is_kept: bool = True
    """False for one that lost too much: it is not in the bundle."""
    max_loss_points: float | None = None
    """Points that it might lose; None in records of earlier versions."""


@dataclass(frozen=True)
class Exports:
    """What a bundle holds for another engine."""

    engine: str
    version: str
    """Of the engine's package."""
    note: str
    """What has to be known about the files."""
    formats: tuple[Export, ...]
    served: str = ""
    """Format that the run served; "" where the bundle's own weights were."""


@dataclass(frozen=True)
class Deployment:
    """The bundle, and what the server that served it showed under load."""

    bundle_path: str
    server: str
    """Command that serves the bundle."""
    n_requests: int
    n_equal: int
    """Answers that equal those of the evaluation."""
    latency_p50_ms: float
    latency_p95_ms: float
    tokens_per_s: float
    service_path: str
    """Service file for the planned server."""
    bundle_bytes: int
    seconds: float
    meets_latency_limit: bool | None = None
    """None where no limit was given."""
    run: ServingSetting | None = None
    """How the bundle was served here; None in records of earlier versions."""
    answer_ms: Prediction | None = None
    """Mean milliseconds of an answer; predicted for an answer alone."""
    load: LoadResult | None = None
    """None where no open loop was run, for the reason in `load_note`."""
    load_note: str = ""
    others_cores: float | None = None
    """Cores that other work on this machine took while answers were timed; None: not known."""
    was_busy: bool = False
    """Whether that slowed the server: next to no core was idle. Nothing is judged then."""
    exports: Exports | None = None
    """None where the server's engine loads the bundle as it is."""
    memory_gib: Prediction | None = None
    """Of the server's processes after the load test, in GiB; predicted is the most that a plan
    counts with. None where the system does not tell, and in records of earlier versions."""

    @property
    def served(self) -> Export | None:
        """What the format that is served answered; None for the bundle's own weights."""
        form = self.run.format if self.run is not None else ""
        formats = self.exports.formats if form and self.exports is not None else ()
        return next((one for one in formats if one.format == form), None)


# --- cascade -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class CascadeAt:
    """The traffic of the first month answered by the student, by the teacher, or by both."""

    requests_per_day: float
    student_usd: float
    """Dollars of the month: the student's servers, idle or not."""
    teacher_usd: float
    cascade_usd: float
    """The student's servers and the teacher's tokens."""


@dataclass(frozen=True)
class Escalation:
    """How the endpoint of a cascade judges and asks, as it was measured."""

    measure: Literal["probability", "agreement"]
    """What tells how sure the student is."""
    n_samples: int
    """Answers that are drawn for each request; 0 where its probability is told."""
    run: ServingSetting
    """How the student was served: another format is otherwise sure of its answers."""
    teacher: str
    prompt: str
    """With which the teacher is asked."""
    student_tokens: int
    """Longest answer."""
    teacher_tokens: int
    is_bare: bool
    """Whether the student writes the answer alone: then the teacher's answer is given so, too."""
    bundle_sha256: str = ""
    """Of the manifest of the bundle that was measured: the threshold is of no other student. "" in
    records of earlier versions."""

    @property
    def n_answers(self) -> int:
        """Answers of the student that one request takes."""
        return 1 + self.n_samples


@dataclass(frozen=True)
class Cascade:
    """A student that asks its teacher where it is unsure, and what that comes to."""

    text: str
    """The verdict in words."""
    is_promised: bool
    """False where nothing can be promised, for the reason in `text`."""
    accuracy: float
    """That is promised."""
    confidence: float
    """With which."""
    n_choosing: int
    """Items that chose the threshold."""
    student: float
    """Shares right of the items that both answered."""
    teacher: float
    probability: float | None = None
    """The teacher is asked below this probability of the student's answer; None where nothing is
    promised. 0 asks it only where the answer is refuted."""
    is_always: bool = False
    """Whether the teacher is asked whatever the student answers."""
    escalated: Interval | None = None
    """Share of requests that go to the teacher, on items that did not choose."""
    measured: Interval | None = None
    """Accuracy of the cascade on these items."""
    usd_per_1000: float | None = None
    """Student's server and teacher together; None where a price is not known."""
    student_usd_per_1000: float | None = None
    teacher_usd_per_1000: float | None = None
    n_needed: int | None = None
    """Items both would have to answer; None where no number is enough."""
    chosen_on: Literal["validation", "test"] = "test"
    """Whose items chose: validation items, or one half of the test items."""
    student_ms: float | None = None
    """Mean milliseconds of an answer."""
    teacher_ms: float | None = None
    cascade_ms: float | None = None
    month: CascadeAt | None = None
    """Of the first month; None where the requests or a price are not known."""
    endpoint: Escalation | None = None
    """None where it was worked out of the evaluation alone, and nothing was served."""
    pairs_path: str = ""
    """JSON lines: for each item how sure the student was, and who was right."""
    seconds: float = 0.0
    look: int = 1
    """How many sets of items the run has tried to promise something by, with this one."""
    n_answers: int = 1
    """Answers of the student that one request takes."""
    n_too_long: int = 0
    """Items that neither choose nor measure, since they are longer than the teacher's context."""
    left_out: float = 0.0
    """Share of requests in slices too rare to be drawn: they count as wrong."""


@dataclass(frozen=True)
class Report:
    """Where the page of the run lies."""

    path: str
    n_bytes: int
    seconds: float


# --- on disk -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class FileMark:
    """By which a file is known again."""

    n_bytes: int
    mtime_ns: int
    """Time of its last change."""
    sha256: str


@dataclass(frozen=True)
class Envelope:
    """A stage record as it lies on disk: with the fingerprint of everything it was made from."""

    stage: str
    fingerprint: str
    record: msgspec.Raw
    files: dict[str, int | FileMark] = field(default_factory=dict)
    """Mark of every file that the record names, or that lies in a folder it names; in folders of
    older versions its size."""
    inputs: dict[str, str] = field(default_factory=dict)
    """What it was made from, by name, each a short digest; empty in folders of older versions."""
    folder: str = ""
    """Where it was written; "" in folders of older versions."""
    sha256: str = ""
    """Of all the rest; "" in folders of older versions."""


class EditedError(msgspec.ValidationError):
    """A record is not as it was written: somebody has edited it, or a disk has spoilt it."""


def to_json(record: Any) -> bytes:
    """Return a record as indented JSON."""
    return msgspec.json.format(msgspec.json.encode(record), indent=1)


def from_json(data: bytes, record_type: type[T]) -> T:
    """Read a record back, its types checked.

    Raises:
        msgspec.DecodeError: the text is no JSON, or does not fit the record.
    """
    return msgspec.json.decode(data, type=record_type)


def to_plain(record: Any) -> Mapping[str, Any]:
    """Return a record as plain dicts and lists, for W&B and templates."""
    plain: Mapping[str, Any] = msgspec.to_builtins(record)
    return plain


def save(
    path: Path,
    stage: str,
    fingerprint: str,
    record: Any,
    files: Mapping[str, FileMark] | None = None,
    inputs: Mapping[str, str] | None = None,
) -> None:
    """Write a stage record with its fingerprint and without secrets, atomically."""
    envelope = {
        "stage": stage,
        "fingerprint": fingerprint,
        "record": _redacted(msgspec.to_builtins(record)),
        "files": msgspec.to_builtins(files or {}),
        "inputs": dict(inputs or {}),
        "folder": str(path.parent),
    }
    write_atomically(path, to_json({**envelope, "sha256": _digest(envelope)}))


def opened(data: bytes) -> Envelope:
    """Read the envelope of a record.

    Raises:
        EditedError: it is not as it was written.
        msgspec.DecodeError: it is no envelope.
    """
    envelope = from_json(data, Envelope)
    if envelope.sha256:
        plain = msgspec.json.decode(data)
        del plain["sha256"]
        if _digest(plain) != envelope.sha256:
            raise EditedError("it was changed after it was written")
    return envelope


def _digest(envelope: Mapping[str, Any]) -> str:
    """Return the hash of an envelope that spacing leaves alone."""
    plain = msgspec.json.decode(msgspec.json.encode(envelope))
    return hashlib.sha256(msgspec.json.encode(plain)).hexdigest()


def _redacted(node: Any, name: str = "") -> Any:
    """Return plain dicts and lists without secrets; where files lie stays as it is."""
    if isinstance(node, dict):
        return {key: _redacted(value, key) for key, value in node.items()}
    if isinstance(node, list):
        return [_redacted(item, name) for item in node]
    if isinstance(node, str) and not (name == "path" or name.endswith("_path")):
        return redact_text(node)
    return node


def load(path: Path, fingerprint: str | None, record_type: type[T]) -> T | None:
    """Read a stage record; None if it is not there or was made from other inputs.

    `fingerprint=None` takes the record whatever it was made from.

    Raises:
        msgspec.DecodeError: the file is corrupt.
    """
    if not path.exists():
        return None
    envelope = opened(path.read_bytes())
    if fingerprint is not None and envelope.fingerprint != fingerprint:
        return None
    return from_json(bytes(envelope.record), record_type)
