"""The config schema: one dataclass per config group, with type, default and meaning of each key.

Groups whose choices differ in code (`task`, `teacher`, `strategy`) name their class with
`_target_`; that class is a dataclass too and lives beside the code it configures. All others have
their schema here. `stratos.cli.check` compares a composed config with these schemas, `build` turns
it into a `Config`; past that point there is no DictConfig.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from msgspec import Meta

from stratos.core.context import ENGINES
from stratos.core.values import OneOf
from stratos.deploy.engines.base import Engine
from stratos.executors.job import Executor
from stratos.models.kinds.student_kinds import KINDS
from stratos.records import CardRun

if TYPE_CHECKING:
    from stratos.core.reasons import Reason
    from stratos.records import Plan, Probe, TeacherProbe, Way
    from stratos.synthesize.strategy import Strategy
    from stratos.tasks.base import Task
    from stratos.teachers.base import Question, Teacher

Amount = Annotated[float, Meta(ge=0)]
Positive = Annotated[float, Meta(gt=0)]
Share = Annotated[float, Meta(ge=0, le=1)]
Count = Annotated[int, Meta(ge=1)]
Seed = Annotated[int, Meta(ge=0, le=2**32 - 1)]
CountOrZero = Annotated[int, Meta(ge=0)]
_TIME = Meta(
    pattern=r"^(?=.*[1-9])[0-9]+(:[0-9]+){3}$",
    description="DD:HH:MM:SS (such as 00:01:30:00 for 90 minutes)",
)

MIN_CONTEXT = 128
"""Least context of a student, in tokens."""

STAGES = ("probe", "plan", "synthesize", "distill", "evaluate", "deploy", "report")
STAGE_OF = {"accuracy": "distill", "usd": "plan", "hours": "plan", "latency_ms": "plan"}
"""The stage whose record each objective of a study is read from."""


@dataclass(frozen=True)
class CloudConfig:
    """Where servers may be rented (`cloud=`)."""

    name: str = "multi"
    """Name shown in tables."""
    providers: tuple[str, ...] = ()
    """Clouds to rent from; empty takes all clouds of the catalog except marketplaces."""
    marketplaces: bool = False
    """Include marketplaces (Vast), whose hosts are not verified. A marketplace in `providers` is
    always included."""
    residency: tuple[str, ...] = ()
    """Data residency: eu, eea, a country code such as us, several of these, or any. Empty keeps all
    servers of a plan in the US, or all in the EU."""
    countries: dict[str, str] = field(default_factory=dict)
    """Country codes of clouds of your own, by "cloud" or "cloud/region"."""
    catalog: tuple[str, ...] = ("builtin",)
    """Catalogs in the SkyPilot schema: "builtin", or any fsspec URL or path of a CSV or Parquet."""
    gpu_file: str | None = None
    """CSV of GPUs that the built-in specification table lacks, with the same columns."""
    regions: tuple[str, ...] = ()
    """Allowed regions; `*` and `?` are wildcards, as in us-*. Empty allows all."""
    spot: bool = False
    """Allow spot prices for teacher inference and training (never for serving)."""
    max_usd_per_hour: Amount | None = None
    """Maximum dollars an hour for all servers of a role together."""
    quotas: dict[str, int] = field(default_factory=dict)
    """Maximum servers that may run at once, by "cloud", "cloud/region",
    "cloud/region/instance_type" or "*/*/instance_type"; `*` is a wildcard."""
    max_nodes: Count = 8
    """Maximum servers of one role."""
    usd_per_gpu_hour: Amount = 0.0
    """Dollars that an hour of one GPU of a cluster's nodes costs (`cloud=slurm`, `cloud=ray`); 0
    lets hours decide."""
    usd_per_cpu_hour: Amount = 0.0
    """Dollars that an hour of one CPU costs, of a cluster's nodes in addition, and of this machine
    (`cloud=local`)."""
    ray_address: str | None = None
    """Dashboard of the Ray cluster (`cloud=ray`), such as http://10.0.0.1:8265; null takes
    RAY_API_SERVER_ADDRESS, else http://127.0.0.1:8265."""

    def __post_init__(self) -> None:
        for key, code in (
            *(("residency", area) for area in self.residency),
            *((f"countries.{name}", country) for name, country in self.countries.items()),
        ):
            areas = ("eu", "eea", "any") if key == "residency" else ()
            if code.lower() not in areas and not (len(code) == 2 and code.isalpha()):
                more = "eu, eea, any, or " if areas else ""
                raise ValueError(
                    f"{key}={code}: give {more}a country's code of two letters, such as de or us."
                )


@dataclass(frozen=True)
class ComplexityConfig:
    """How the task's complexity is determined (`complexity=`), and what a declared one sets."""

    level: Literal["measured", "low", "medium", "high"] = "measured"
    """measured, or declared: low, medium or high."""
    strategies: tuple[str, ...] = ()
    """Allowed strategies, at any coverage; `alignment` means its whole family. Empty allows all,
    and coverage decides."""
    n_samples: Count | None = None
    """Maximum answers per question, in place of `strategy.n_samples`."""
    path_tokens: Count | None = None
    """Tokens of an answer with its reasoning path, for the plan, in place of what the probe
    measured. Answers may be twice as long, in place of `strategy.max_tokens`."""
    min_student_params: CountOrZero = 0
    """Parameters of the smallest student that is considered."""
    coverage_low: Share = 0.7
    """Measured: complexity is low if the best teacher certainly answers at least this share."""
    coverage_high: Share = 0.3
    """Measured: complexity is high if it certainly answers less than this share."""
    completion_low: Count = 100
    """Measured: an answer with its path is short up to this many characters (median)."""
    completion_high: Count = 1000
    """Measured: an answer is long from this many characters."""

    @property
    def is_declared(self) -> bool:
        """Whether the user says how hard the task is, and nothing is measured."""
        return self.level != "measured"


@dataclass(frozen=True)
class FitConfig:
    """How a student that starts from a model is fitted to its task (`student.fit`)."""

    # Off by default: a text with tokens that were cut is read in others, and may be answered
    # otherwise (benchmarks/training/fit.py counts both).
    vocabulary: bool | Share | Literal["auto"] = False
    """true: train and serve it (of a static student, its table) with the tokens of the task's rows
    alone, and those that write every other text; a number: with this share of its other tokens
    too, the most frequent first; auto: the plan chooses between the whole and the cut model."""
    depth: bool | Share = False
    """true: once it is trained, remove layers until validation rows are surely answered worse;
    then the whole student teaches what is left. A number: at most this share of them."""
    max_loss_points: Amount = 1.0
    """Points of validation rows that the removed layers may cost in the end."""

    @property
    def share(self) -> float | None:
        """Share of the other tokens that stay; None where the whole vocabulary does."""
        if isinstance(self.vocabulary, bool | str):
            return 0.0 if self.vocabulary is True else None
        return self.vocabulary

    @property
    def cuts(self) -> bool:
        """Whether the model gets smaller."""
        return self.share is not None or bool(self.depth)


CUT = "_cut"
"""End of the name of a student that is offered with its vocabulary cut."""


@dataclass(frozen=True)
class StudentConfig:
    """One student (`student=`): a Llama-architecture config, or an existing model at `path`."""

    name: str
    """Name shown in tables and written into the card."""
    kind: Annotated[str, OneOf(KINDS)] = "lm"
    """lm: a language model. For tasks with labels: linear (TF-IDF and logistic regression), static
    (a table of token vectors), encoder (a pretrained encoder), tuned (an encoder whose upper layers
    learn from the rows). For tasks whose answers are JSON: tagger (values found in the text). For
    all rows: nearest (the answer of the nearest row), majority (the most frequent answer)."""
    path: str | None = None
    """Hugging Face folder or hub name to start from; None starts from random weights. Of a static
    student the folder of its table."""
    hidden_size: Count = 128
    """Width of the residual stream."""
    n_layers: Count = 4
    """Number of transformer blocks."""
    n_heads: Count = 4
    """Number of attention heads (key-value heads are as many)."""
    intermediate_size: Count = 384
    """Width of the gated MLP."""
    context_length: Annotated[int, Meta(ge=MIN_CONTEXT)] = 1024
    """Longest sequence in tokens, question and answer together."""
    vocab_size: Count = 1024
    """Size of a tokenizer trained on the corpus, if the task has no vocabulary of its own."""
    train_tokens: Count = 20_000_000
    """Training tokens of this student, unless `trainer.max_tokens` is set."""
    license: str = "Apache-2.0"
    """Licence of the starting weights (ours for random weights)."""
    runs: tuple[CardRun, ...] = ()
    """Recorded runs, for predicted accuracy and latency."""
    is_gguf: bool = False
    """Whether llama.cpp's file can hold the model at `path`, where the model is not here to tell:
    Llama, Mistral, Qwen2 or Qwen3 without scaled rotary embeddings."""
    facts: dict[str, Count] = field(default_factory=dict)
    """Facts of the model at `path` (n_params, n_layers, …, head_size), to plan before a
    download."""
    package: str | None = None
    """Python package that ships the weights of `path`; used if neither a folder nor the hub's
    cache has them."""
    gguf: str | None = None
    """GGUF file in that package."""
    fit: FitConfig = FitConfig()
    """What is cut from the model at `path` before it is trained."""
    only_if_here: bool = False
    """For automatic candidates: exclude it if its weights are not on this machine, or if training
    it here takes too long."""

    @property
    def is_lm(self) -> bool:
        """Whether it is a language model."""
        return self.kind == "lm"

    @property
    def has_vocabulary(self) -> bool:
        """Whether it starts from a vocabulary that can be cut."""
        return KINDS[self.kind].has_vocabulary and (not self.is_lm or self.path is not None)

    @property
    def offered(self) -> tuple[StudentConfig, ...]:
        """What a plan chooses from: itself, or whole and cut where `fit.vocabulary` leaves it."""
        if self.fit.vocabulary != "auto" or not self.is_lm or self.path is None:
            return (self,)
        whole, cut = (replace(self.fit, vocabulary=is_cut) for is_cut in (False, True))
        # Recorded runs are those of the whole model, and of its speed.
        return replace(self, fit=whole), replace(self, name=f"{self.name}{CUT}", runs=(), fit=cut)

    def is_cut_of(self, whole: StudentConfig) -> bool:
        """Return whether it differs from another student in its cut vocabulary alone."""
        fit = replace(whole.fit, vocabulary=self.fit.vocabulary)
        is_cut = self.fit.share is not None and whole.fit.share is None
        return is_cut and self == replace(whole, name=self.name, runs=self.runs, fit=fit)


@dataclass(frozen=True)
class LimitsConfig:
    """What a run may cost and must reach (`limits=`); None means no limit."""

    budget_usd: Amount | None = None
    """Dollars for everything: teacher, training, and serving for `serve_hours`."""
    deadline_hours: Amount | None = None
    """Hours until the student is trained: probe and pilot, teacher inference, training."""
    train_hours: Amount | None = 1.0
    """Maximum training hours on this machine: a longer training does not start."""
    latency_ms: Amount | None = None
    """95th percentile of one answer, in milliseconds."""
    accuracy: Share | None = None
    """Minimum predicted exact match on the task, 0 to 1."""
    model_mb: Amount | None = None
    """Megabytes of the student's weights in the format that is served, 10^6 bytes each."""
    server_memory_gb: Amount | None = None
    """Gigabytes of one server process, weights, cache and engine, as they are estimated."""
    confidence: Literal["low", "mean"] = "low"
    """Which value of the predicted interval must reach `accuracy`: the low end, or the mean."""
    serve_hours: Amount = 24.0
    """Serving time in hours; counted in the budget."""
    probe_usd: Amount = 5.0
    """Maximum dollars that the probe spends on paid teachers."""
    on_exhausted: Literal["stop", "next"] = "stop"
    """When the money for the planned teacher ends: stop, or continue with the next cheaper one."""


@dataclass(frozen=True)
class ObjectiveWeights:
    """What each of the four costs of a plan counts; the plan with the least sum is chosen."""

    accuracy: Amount = 0.0
    """Of the predicted accuracy, from 0 to 1: the more the better."""
    usd: Amount = 0.0
    """Of a dollar."""
    hours: Amount = 0.0
    """Of an hour until the student serves."""
    latency_ms: Amount = 0.0
    """Of a millisecond of p95 latency."""

    def __post_init__(self) -> None:
        """Check that something counts."""
        if not any((self.accuracy, self.usd, self.hours, self.latency_ms)):
            raise ValueError("nothing counts: give one of its weights more than 0.")


@dataclass(frozen=True)
class ObjectiveConfig:
    """The objective of the plan (`objective=`)."""

    name: str = "balanced"
    """Name shown in tables."""
    usd_per_accuracy_point: Amount | None = None
    """Dollars that one percentage point of accuracy is worth; null takes 5% of what is at stake:
    the budget, else the cheapest plan, and $10 at least."""
    usd_per_hour_of_waiting: Amount | None = None
    """Dollars that one hour less until the student serves is worth; null takes 10% of the stake, or
    a quarter of it for the whole of limits.deadline_hours."""
    usd_per_100ms: Amount | None = None
    """Dollars that 100 ms less of p95 latency are worth; null takes 2% of the stake, or a quarter
    of it for the whole of limits.latency_ms."""
    weights: ObjectiveWeights | None = None
    """What counts, and how much; null takes the net cost: dollars, with accuracy, hours and latency
    at the three rates above."""
    goal: str = ""
    """What the plan has of all that there are, in a sentence: "the lowest cost"; null names what
    `weights` counts."""

    def __post_init__(self) -> None:
        """Check the name: in tables and records it stands for what counts."""
        if self.weights is not None and self.name == ObjectiveConfig.name:
            raise ValueError(f"name={self.name} is the net cost: give this one a name of its own.")

    @property
    def counts_accuracy(self) -> bool:
        """Whether it counts accuracy at all."""
        if self.weights is None:
            return self.usd_per_accuracy_point != 0
        return self.weights.accuracy > 0


@dataclass(frozen=True)
class TrainerConfig:
    """How the student is trained (`trainer=`)."""

    max_tokens: Count | None = None
    """Maximum training tokens; None takes the student's own `train_tokens`."""
    max_epochs: Annotated[int, Meta(ge=-1)] | None = None
    """Maximum epochs; -1 sets no limit, so only tokens count. None sets no limit if `max_tokens` is
    set; otherwise it depends on the rows: 3 to 5 epochs for a pretrained student, 10 to 60 for
    random weights."""
    batch_tokens: Count = 4096
    """Maximum tokens of one gradient step (packed rows); an epoch has at least 16 steps."""
    optimizer: Literal["auto", "muon", "adamw"] = "auto"
    """muon (for the 2-D weights of the blocks, AdamW for the rest), adamw (for all), or auto: muon
    for random weights, adamw for a pretrained student."""
    lr_muon: Amount | None = None
    """Peak learning rate of Muon; None derives it from the student's kind and width."""
    lr_adamw: Amount | None = None
    """Peak learning rate of AdamW; None derives it from the student's kind and width."""
    weight_decay: Amount = 0.01
    """Decoupled weight decay of the 2-D weights of the blocks; other weights have none."""
    warmup_steps: CountOrZero = 50
    """Linear warm-up steps, at most a tenth of all steps, before a cosine decay to 0."""
    clip_norm: Amount = 1.0
    """Gradient clipping: the maximum norm."""
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    """auto (bf16 autocast if it is faster on this machine), bf16 or fp32."""
    accelerator: Literal["auto", "cpu", "gpu"] = "auto"
    """Lightning accelerator: auto, cpu, gpu."""
    devices: Count = 1
    """Lightning devices."""
    n_threads: Count | None = None
    """CPU threads of torch; None measures the fastest number."""
    accumulate: Count = 1
    """Gradient accumulation: rows into which each device divides its share of a step."""
    checkpointing: bool = False
    """Activation checkpointing: less memory, a third more time."""
    compile: bool = False
    """Use torch.compile. On a CPU that takes a minute or more, again for each number of padded
    batches in a row, and blocks in bfloat16 are faster without it."""
    ema: Annotated[float, Meta(ge=0, lt=1)] | None = None
    """Decay of an EMA of the weights, which is measured and kept in their place; None turns it
    off."""
    max_time: Annotated[str, _TIME] | None = None
    """Maximum training time, as DD:HH:MM:SS; counted across resumes."""
    final: Literal["all", "train"] = "all"
    """What the student that is served has learnt: all rows, once the test has measured it, or train
    (what the tested one learnt). A language model is always the tested one."""
    adapter: Literal["none", "lora", "qlora"] = "none"
    """none (train all weights), lora, or qlora (with 4-bit weights)."""
    lora_rank: Count = 16
    """Rank of each adapter."""
    lora_alpha: Count = 32
    """Scale of the adapters (alpha), divided by their rank."""
    strategy: str | dict[str, Any] = "auto"
    """Lightning strategy for several devices: auto, ddp, fsdp, deepspeed, or a `_target_`."""
    num_nodes: Count = 1
    """Servers that train together."""
    n_processes: Annotated[int, Meta(ge=1, le=64)] | None = None
    """Processes of one thread that share each step of a student of up to 50M parameters on a CPU; 1
    is none beside the first. None takes one for each core, unless threads are a tenth faster. More
    than 1 needs the extension `stratos/contrib/cpu`: without it, one process trains."""


@dataclass(frozen=True)
class CallbacksConfig:
    """Checkpoints, validation and early stopping (`callbacks=`)."""

    checkpoint_every_steps: Count = 400
    """Maximum steps between checkpoints."""
    checkpoint_every_minutes: Positive = 2.0
    """Maximum minutes between checkpoints; more if writing one takes over a twentieth of that."""
    validate_every_steps: CountOrZero | None = None
    """Steps between validations; 0 validates at the end only. None depends on the length: every
    1,000 steps, or 20 times if rows are read repeatedly, at most once an epoch."""
    patience: Count | None = 5
    """Early stopping: the training ends after this many validations in a row without improvement in
    exact match or loss on the gold answers; None turns it off."""
    n_validation_items: Count = 128
    """Validation items of each validation, which selects the weights to keep."""
    n_final_validation_items: Count | None = None
    """Validation items for the final measurement of the kept weights (other items if there are
    any), which later plans use; None takes four times as many."""
    stop_at_exact: Share | None = None
    """Stop at this validation exact match; None turns it off."""

    @property
    def n_final(self) -> int:
        """Validation items that the kept weights answer at the end, where there are as many."""
        return self.n_final_validation_items or 4 * self.n_validation_items

    @property
    def n_validation_read(self) -> int:
        """Validation items that a training reads in all."""
        return self.n_validation_items + self.n_final


@dataclass(frozen=True)
class LoggerConfig:
    """Where metrics go, several at once as in `logger=[wandb,csv]` (`logger=`)."""

    wandb: bool = False
    """Weights & Biases."""
    tensorboard: bool = False
    """Event files in the run folder, for `tensorboard --logdir outputs`."""
    mlflow: bool = False
    """An MLflow tracking server."""
    csv: bool = False
    """CSV files in the run folder."""
    project: str = "stratos"
    """W&B project, and MLflow experiment."""
    entity: str | None = None
    """W&B entity; None takes the account's default."""
    group: str | None = None
    """Group of the run; None takes the sweep's folder for the jobs of a sweep."""
    mode: Literal["auto", "online", "offline", "disabled"] = "auto"
    """Of W&B: auto (online with a key, else offline), online, offline or disabled."""
    tracking_uri: str | None = None
    """Of MLflow, such as http://127.0.0.1:5000; None takes MLFLOW_TRACKING_URI."""
    upload: bool = False
    """Whether corpus, student and bundle are uploaded, too, and not only named."""


@dataclass(frozen=True)
class DeployConfig:
    """How the student is served (`deploy=`)."""

    name: Literal["local", "none"] = "local"
    """local (serve and load-test here), or none (stop after evaluate)."""
    n_requests: Count = 32
    """Held-out questions sent over HTTP."""
    concurrency: Count = 1
    """Concurrent requests while the answers are compared (closed loop)."""
    load_seconds: Amount = 15.0
    """Seconds of load test with random arrivals (open loop) at most, at the plan's rate or the
    highest rate that this machine sustains: it ends when its numbers are known well; 0 turns it
    off."""
    port: Annotated[int, Meta(ge=0, le=65535)] = 0
    """Port of the loopback server; 0 takes a free one."""
    engine: Engine | None = None
    """What serves it; null takes the plan's engine where it runs here, else transformers."""
    engines: dict[str, Engine] = field(default_factory=dict)
    """Engines, with their formats, that the plan chooses from (`deploy=auto`); without any it takes
    vLLM on GPUs and transformers elsewhere."""
    n_export_items: Count = 400
    """Held-out items that each export for another engine is asked, at most."""
    export_minutes: Amount = 3.0
    """Minutes that each export is asked for, about: slow students are asked fewer items, unless
    limits.accuracy is set."""
    max_loss_points: Amount = 1.0
    """Points of accuracy that an export may lose; one that loses more is left out."""
    author: str | None = None
    """Who made the bundle, in its manifest; null takes git's user.name, or the login."""
    push_to: str | None = None
    """Where the bundle is published when the run has ended: a folder, s3://…, gs://…, az://…, or
    hf://OWNER/NAME."""
    keep: bool = False
    """Leave the student hosted on this machine when the run has ended, until
    `stratos serve stop <run>`."""

    @property
    def is_off(self) -> bool:
        """Whether the run stops after `evaluate`."""
        return self.name == "none"


@dataclass(frozen=True)
class PathsConfig:
    """Where files go (`paths=`)."""

    run_dir: str
    """Folder of this run: records, corpus, student, bundle, report."""
    cache_dir: str
    """Shared content-addressed cache: teacher answers, cleaned catalogs."""
    records_from: str | None = None
    """Folder of an earlier run, whose records replace the stages that do not run."""
    mirror: str | None = None
    """URL of a copy of the run folder, such as s3://bucket/runs/mahjong, that is kept while a run
    works, and gone on from where the folder is empty, on this machine or another."""
    mirror_minutes: Positive = 2.0
    """Longest time between two looks at what has to be copied; each finished stage is at once."""


@dataclass(frozen=True)
class ProbeConfig:
    """What the probe asks (top-level `probe.`)."""

    n_items: Count = 64
    """Validation items that each teacher answers with its best prompt."""
    max_items: Count = 256
    """Maximum items, if `n_items` do not decide whether a strategy may learn from the teacher:
    their number is doubled until it is decided."""
    n_trial_items: Count = 16
    """Validation items on which each prompt is tried first (the first of the same items)."""
    n_entropy_items: Count = 16
    """Answers of a local teacher whose next-token entropy is measured."""
    n_samples: CountOrZero = 4
    """Samples per question with the best prompt, to measure their agreement; 0 turns it off."""
    n_sample_items: CountOrZero = 8
    """Validation items that are sampled; 0 turns it off."""
    n_student_items: CountOrZero = 32
    """Validation items that each student with local weights answers before its training; 0 turns it
    off."""
    student_seconds: Amount = 60.0
    """Maximum seconds for each student; items not answered by then do not count."""
    max_tokens: Count | None = None
    """Maximum tokens of a teacher's answer; None derives it from the data or the first answers."""
    batch_size: Count = 48
    """Batch size of a local teacher."""

    def __post_init__(self) -> None:
        if self.n_samples == 1:
            raise ValueError("n_samples=1 leaves nothing to compare: give 0, or at least 2.")


@dataclass(frozen=True)
class SynthesizeConfig:
    """Where the corpus is made (top-level `synthesize.`); the corpus is the same in any case."""

    engine: Annotated[str, OneOf(ENGINES)] = "local"
    """local (this process), or ray (the CPUs and GPUs of a Ray cluster)."""
    ray_address: str | None = None
    """Address of a running cluster, such as auto or ray://head:10001; None starts one here."""


@dataclass(frozen=True)
class EvaluateConfig:
    """What is measured on the test split (top-level `evaluate.`)."""

    n_items: Count = 1000
    """Test items that the student answers, all slices together."""
    n_teacher_items: Count = 1000
    """Maximum test items that the teacher answers too, drawn at random, within time and money."""
    teacher_minutes: Positive = 2.0
    """Maximum minutes for the teacher's answers; a few dozen are asked in any case."""
    teacher_usd: Amount | None = None
    """Maximum dollars for the answers of a paid teacher; None takes a tenth of `limits.budget_usd`
    (without a budget, `limits.probe_usd`), and at least 128 answers."""
    n_untouched_items: Count = 128
    """Test items of the untouched student, if it starts from a model; the smaller subset is a part
    of the larger."""
    batch_size: Count = 128
    """Batch size of the student."""
    max_new_tokens: Count = 768
    """Maximum tokens of a student's answer."""
    decoder: Literal["auto", "transformers"] = "auto"
    """What computes the answers' tokens here, in training too: auto decodes students of up to 200M
    parameters on a CPU directly, checked against transformers in every batch, if the
    extension `stratos/contrib/cpu` is here, and any other by transformers; transformers decodes
    all."""
    constrained: bool = True
    """Where answers have a JSON Schema: measure the student with constrained decoding, too."""


@dataclass(frozen=True)
class BucketConfig:
    """Requests of one size, as a share of the traffic."""

    prompt_tokens: Count
    """Tokens of a question."""
    answer_tokens: Count
    """Tokens of its answer, the reasoning path included."""
    share: Positive
    """Part of all requests; shares are scaled to sum to 1."""


@dataclass(frozen=True)
class TrafficConfig:
    """The traffic of the served student (top-level `traffic.`)."""

    requests_per_s: Positive | None = None
    """Mean request rate; None plans for one request at a time, on one server."""
    buckets: tuple[BucketConfig, ...] = ()
    """Sizes of the requests; empty takes those that the probe or recorded runs measured."""
    requests_per_day: Positive | None = None
    """Requests a day in the first month. Then the plan serves for `months` (in place of
    `limits.serve_hours`) at the rate of the busiest hours of the last one, unless `requests_per_s`
    is set, and says after how many days distilling has paid."""
    months: Annotated[float, Meta(gt=0, le=120)] = 12.0
    """Horizon of the verdict: how long the student is to serve."""
    growth_per_month: Annotated[float, Meta(gt=-1, le=1)] = 0.0
    """Growth of the requests from month to month: 0.1 is 10% more."""
    peak_over_mean: Annotated[float, Meta(ge=1)] = 2.0
    """Rate of the busiest hours over the mean of the day: servers are planned for the former."""


@dataclass(frozen=True)
class PlanConfig:
    """How the plan is made (top-level `plan.`)."""

    explain: bool = False
    """Print the binding limits, what they cost, and the runner-up."""
    pilot: bool | Literal["auto"] = "auto"
    """Run a short training of each remaining student before the plan, and extrapolate its accuracy;
    auto does so if an unknown accuracy decides the choice and the pilot is cheap."""
    pilot_tokens: Count = 4_000_000
    """Tokens of each student's longest pilot training; auto may use fewer to save time."""
    pilot_share: Share = 0.1
    """Share of the limits on dollars and hours that an automatic pilot may use (`pilot=auto`)."""
    pilot_minutes: Amount = 4.0
    """Maximum minutes of an automatic pilot on this machine, other work not counted."""
    history: bool = True
    """Use past runs of this machine (`outputs/`, `sweeps/`) to predict a student's accuracy."""
    time_limit_s: Positive = 60.0
    """Time limit of one solve, in seconds; the plan says if it is not proven optimal by then."""
    gap: Share = 0.0
    """Relative optimality gap at which the solver may stop."""
    max_kinds: Count | None = 2
    """Maximum kinds of servers in a mix, unless more kinds cost at least 5% less; null removes the
    limit."""


class RoomConfig:
    """A config group that a room of contrib adds, and what the room changes in a run.

    A subclass is a frozen dataclass: its fields are the keys of the group, each with its default.
    The core calls the methods of every group there is; by default a room changes nothing.
    """

    validation_keys: ClassVar[tuple[str, ...]] = ()
    """Keys of the group that, where they are set, take validation items that no stage has read."""

    @property
    def takes_validation(self) -> bool:
        """Whether a stage of the room needs validation items that no other stage has read."""
        return any(getattr(self, key) is not None for key in self.validation_keys)

    def problems(self, config: Config) -> Iterable[Reason]:
        """Yield settings that cannot be run together.

        Args:
            config: of the run.
        """
        return ()

    def questions_after_deploy(
        self, config: Config, probe: Probe, probed: TeacherProbe, teacher: Teacher
    ) -> Sequence[Question]:
        """Return what a stage of the room asks a hosted teacher once the student is served.

        Args:
            config: of the run.
            probe: says which items are read.
            probed: what the probe saw of the teacher.
            teacher: the configured one.
        """
        return ()

    def alternatives(self, config: Config, plan: Plan, hosted: Sequence[Way]) -> Iterable[Way]:
        """Yield further ways to have the requests answered, shown beside the planned student.

        Args:
            config: of the run.
            plan: the planned student.
            hosted: the models that have a price by the token.
        """
        return ()

    def remedy(self, config: Config, records: Mapping[str, Any]) -> Reason | None:
        """Return what would help a student that falls short of `limits.accuracy`; None if nothing.

        Args:
            config: of the run, which has such a limit.
            records: stage name to its record.
        """
        return None


def _here() -> Executor:
    from stratos.executors.here import Here  # what only composes a config needs none

    return Here()


@dataclass(frozen=True)
class Config:
    """A run, checked and typed."""

    task: Task
    teachers: tuple[Teacher, ...]
    students: tuple[StudentConfig, ...]
    strategies: tuple[Strategy, ...]
    cloud: CloudConfig
    complexity: ComplexityConfig
    limits: LimitsConfig
    objective: ObjectiveConfig
    trainer: TrainerConfig
    callbacks: CallbacksConfig
    logger: LoggerConfig
    deploy: DeployConfig
    paths: PathsConfig
    probe: ProbeConfig
    synthesize: SynthesizeConfig
    evaluate: EvaluateConfig
    traffic: TrafficConfig
    plan: PlanConfig
    stages: tuple[str, ...]
    seed: int
    executor: Executor = field(default_factory=_here)
    rooms: Mapping[str, RoomConfig] = field(default_factory=dict)
    """Groups that rooms of contrib add, by name."""
    plain: dict[str, Any] = field(default_factory=dict)
    """The composed config as plain dicts, for fingerprints, W&B and the report."""

    @property
    def run_dir(self) -> Path:
        """Folder of this run."""
        return Path(self.paths.run_dir)

    @property
    def cache_dir(self) -> Path:
        """Folder of the caches that runs share."""
        return Path(self.paths.cache_dir).expanduser()
