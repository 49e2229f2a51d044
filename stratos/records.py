"""What passes between stages: frozen dataclasses with a JSON round trip, and no torch.

Every stage takes records and returns one. `save` writes a record atomically, `load` reads it back
with its types checked, so that a record which was cut short or edited by hand is refused and the
stage that made it runs again.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import msgspec

T = TypeVar("T")


# --- what everything is said in ------------------------------------------------------------------


@dataclass(frozen=True)
class Interval:
    """A quantity with the range that it may be trusted to (95% unless `source` says otherwise)."""

    mean: float
    low: float
    high: float
    source: str = ""
    """Where it comes from, as a phrase: "64 validation items, Wilson" or "unknown"."""

    @property
    def is_share_known(self) -> bool:
        """Return False for a share that may be anything, as after no trials."""
        return (self.low, self.high) != (0.0, 1.0)


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


@dataclass(frozen=True)
class CardRun:
    """One recorded training of a student: what a card's accuracy and latency rest on."""

    task: str
    strategy: str
    accuracy: float
    """Exact match on the test split, all slices together."""
    n_items: int
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


# --- plan ----------------------------------------------------------------------------------------


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


@dataclass(frozen=True)
class WhatIf:
    """What one limit is worth: the plan with it lifted or moved, found by solving again."""

    limit: str
    """Key of the config, such as "limits.budget_usd" or "cloud.regions"."""
    value: float | None
    """The limit as it is; None where it is no number."""
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
    usd: float
    hours: float
    latency_ms: float
    """Predicted p95 of one answer."""
    score: float
    """Deployment score under the configured weights, 0 to 1."""
    servers: dict[str, str]
    """Role to the offer's short name."""
    accuracy_known: bool = True
    """False if nothing was measured for it; `accuracy` is 0 then, as limits count it."""


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
    score: float
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
    """Oldest and newest price used."""
    seconds: float
    prompt: str = ""
    """The task's prompt that the teacher did best with in the probe; "" takes the task's first."""
    usd_range: tuple[float, float] | None = None
    """Low and high end of `usd`, by the error of the estimate."""
    hours_range: tuple[float, float] | None = None
    egress_usd: float = 0.0
    """Part of `usd` that moves data, checkpoints and bundle between regions and clouds."""
    spent_usd: float = 0.0
    """Dollars that were gone before the plan and count in its budget."""
    what_if: tuple[WhatIf, ...] = ()
    history: tuple[CardRun, ...] = ()
    """Past runs of this machine that predicted accuracies rest on, copied so that a resumed run
    sees the same ones."""

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


# --- distill -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class CurvePoint:
    """One row of the training curve."""

    step: int
    tokens: int
    loss: float
    exact: float | None = None
    """Exact match on validation items, where it was measured."""


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
    curve: tuple[CurvePoint, ...]
    weights_sha256: str
    seconds: float
    cpu_seconds: float
    n_resumed: int = 0
    """How many times the training went on from a checkpoint."""
    cut_at_usd: float | None = None
    """Budget that did not suffice for the teacher's signal, so that its text alone was learnt."""


# --- evaluate ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class SliceScore:
    """One model on one slice of the test split ("all" for every slice together)."""

    slice: str
    n_items: int
    exact: Interval
    f1: float
    choice: float | None = None


@dataclass(frozen=True)
class ModelScore:
    """One model, or one baseline, on the test split."""

    role: str
    """student, untouched, teacher, lookup or chance."""
    name: str
    slices: tuple[SliceScore, ...]
    input_tokens: int = 0
    output_tokens: int = 0
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    usd_per_1000: float | None = None
    """Dollars for 1,000 answers on the planned server."""

    def slice(self, name: str = "all") -> SliceScore:
        """Return the score of one slice."""
        return next(score for score in self.slices if score.slice == name)


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

    def score(self, role: str) -> ModelScore | None:
        """Return the score of one role, None if it was not measured."""
        return next((score for score in self.scores if score.role == role), None)


# --- deploy --------------------------------------------------------------------------------------


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


@dataclass(frozen=True)
class Report:
    """Where the page of the run lies."""

    path: str
    n_bytes: int
    seconds: float


# --- on disk -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Envelope:
    """A stage record as it lies on disk: with the fingerprint of everything it was made from."""

    stage: str
    fingerprint: str
    record: msgspec.Raw
    files: dict[str, int] = field(default_factory=dict)
    """Size in bytes of every file that the record names, or that lies in a folder it names."""


def write_atomically(path: Path, data: bytes) -> None:
    """Write `data` so that a reader sees the old file or the new one, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


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
    path: Path, stage: str, fingerprint: str, record: Any, files: Mapping[str, int] | None = None
) -> None:
    """Write a stage record with its fingerprint, atomically."""
    envelope = {
        "stage": stage,
        "fingerprint": fingerprint,
        "record": record,
        "files": files or {},
    }
    write_atomically(path, to_json(envelope))


def load(path: Path, fingerprint: str | None, record_type: type[T]) -> T | None:
    """Read a stage record; None if it is not there or was made from other inputs.

    `fingerprint=None` takes the record whatever it was made from.

    Raises:
        msgspec.DecodeError: the file is corrupt.
    """
    if not path.exists():
        return None
    envelope = from_json(path.read_bytes(), Envelope)
    if fingerprint is not None and envelope.fingerprint != fingerprint:
        return None
    return from_json(bytes(envelope.record), record_type)
