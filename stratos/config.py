"""One dataclass per config group: what a YAML of the group may say, with type, default and meaning.

Groups whose choices differ in code (`task`, `teacher`, `strategy`) name their class with
`_target_`; that class is a dataclass too and lives beside the code it configures. All others have
their schema here. `stratos.cli.check` compares a composed config with these schemas, `build` turns
it into a `Config`; past that point there is no DictConfig.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from msgspec import Meta

from stratos.records import CardRun

if TYPE_CHECKING:
    from stratos.synthesize.strategy import Strategy
    from stratos.tasks.base import Task
    from stratos.teachers.base import Teacher

Amount = Annotated[float, Meta(ge=0)]
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


@dataclass(frozen=True)
class CloudConfig:
    """Where servers may be rented (`cloud=`)."""

    name: str = "multi"
    """Name shown in tables."""
    providers: tuple[str, ...] = ()
    """Clouds whose offers are taken; empty takes all that the catalog has, but no marketplace."""
    marketplaces: bool = False
    """Take servers of marketplaces (Vast) too, which belong to hosts that nobody vouches for. One
    that `providers` names is taken in any case."""
    residency: tuple[str, ...] = ()
    """Where servers may stand, and data move: eu, eea, a country's code such as us, several of
    these, or any. Empty takes the US or the EU, each alone, so that data cross no border."""
    countries: dict[str, str] = field(default_factory=dict)
    """Country codes of clouds of your own, by "cloud" or "cloud/region"."""
    catalog: tuple[str, ...] = ("builtin",)
    """Catalogs in the SkyPilot schema: "builtin", or any fsspec URL or path of a CSV or Parquet."""
    gpu_file: str | None = None
    """CSV of GPUs that the built-in table of specifications lacks, with its columns."""
    regions: tuple[str, ...] = ()
    """Regions that may be used; `*` and `?` stand for any letters, as in us-*. Empty allows all."""
    spot: bool = False
    """Allow spot prices for teacher inference and training (never for serving)."""
    max_usd_per_hour: Amount | None = None
    """Most dollars an hour that all servers of a role together may cost."""
    quotas: dict[str, CountOrZero] = field(default_factory=dict)
    """Most servers that may run at once, by "cloud", "cloud/region", "cloud/region/instance_type"
    or "*/*/instance_type"; a `*` stands for any."""
    max_nodes: Count = 8
    """Most servers that one role may use together."""

    def __post_init__(self) -> None:
        """Check the country codes."""
        for key, code in (
            *(("residency", one) for one in self.residency),
            *((f"countries.{name}", one) for name, one in self.countries.items()),
        ):
            areas = ("eu", "eea", "any") if key == "residency" else ()
            if code.lower() not in areas and not (len(code) == 2 and code.isalpha()):
                more = "eu, eea, any, or " if areas else ""
                raise ValueError(
                    f"{key}={code}: give {more}a country's code of two letters, such as de or us."
                )


@dataclass(frozen=True)
class ComplexityConfig:
    """How the task's complexity is judged (`complexity=`), and what a declared one sets."""

    level: Literal["measured", "low", "medium", "high"] = "measured"
    """measured, or declared: low, medium or high."""
    strategies: tuple[str, ...] = ()
    """Strategies that are left, whatever the teachers cover; `alignment` stands for its whole
    family. Empty leaves all, and coverage decides."""
    n_samples: Count | None = None
    """Most answers that a teacher gives to a question, in place of `strategy.n_samples`."""
    path_tokens: Count | None = None
    """Tokens of an answer with its reasoning path: what the plan counts with in place of what the
    probe saw. Answers may be twice as long, in place of `strategy.max_tokens`."""
    min_student_params: CountOrZero = 0
    """Parameters of the smallest student that is considered."""
    coverage_low: Share = 0.7
    """Measured: low complexity where the best teacher surely answers at least this share."""
    coverage_high: Share = 0.3
    """Measured: high complexity where it surely answers less than this share."""
    completion_low: Count = 100
    """Measured: an answer with its path of up to so many characters (the median) is short."""
    completion_high: Count = 1000
    """Measured: one of at least so many characters is long."""


@dataclass(frozen=True)
class StudentConfig:
    """One student (`student=`): a Llama-architecture config, or an existing model at `path`."""

    name: str
    """Name shown in tables and written into the card."""
    path: str | None = None
    """Hugging Face folder or hub name to start from; None starts from random weights."""
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
    """Size of a tokenizer trained on the corpus, where the task brings none of its own."""
    train_tokens: Count = 20_000_000
    """Tokens that this student is trained on, unless `trainer.max_tokens` says otherwise."""
    license: str = "Apache-2.0"
    """Licence of the starting weights (ours, where they are random)."""
    runs: tuple[CardRun, ...] = ()
    """Recorded runs: what predicted accuracy and latency rest on."""
    facts: dict[str, Count] = field(default_factory=dict)
    """Facts of the model at `path` by the names of a model card (n_params, n_layers, …, head_size):
    with them it can be planned before it is downloaded."""
    package: str | None = None
    """Python package that ships the weights of `path`; taken where neither a folder nor the hub's
    cache has them."""
    gguf: str | None = None
    """GGUF file in that package."""
    only_if_here: bool = False
    """Leave it out of the choice where its weights are not on this machine, or where training it
    here takes too long: for candidates that nobody named."""


@dataclass(frozen=True)
class LimitsConfig:
    """What a run may cost and must reach (`limits=`); None means no limit."""

    budget_usd: Amount | None = None
    """Dollars for everything: teacher, training, and serving for `serve_hours`."""
    deadline_hours: Amount | None = None
    """Hours until the student is served: teacher inference plus training."""
    train_hours: Amount | None = 1.0
    """Hours that the training may take on this machine: one that takes longer is not begun."""
    latency_ms: Amount | None = None
    """95th percentile of one answer, in milliseconds."""
    accuracy: Share | None = None
    """Least predicted exact match on the task, 0 to 1."""
    confidence: Literal["low", "mean"] = "low"
    """What of the predicted interval must reach `accuracy`: its low end, or its mean."""
    serve_hours: Amount = 24.0
    """How long the student is to be served, in hours; counted in the budget."""
    probe_usd: Amount = 5.0
    """Dollars that the probe may spend on paid teachers."""
    on_exhausted: Literal["stop", "next"] = "stop"
    """Where the money for the planned teacher ends: stop asking, or ask the next cheaper one."""


@dataclass(frozen=True)
class ObjectiveConfig:
    """What the plan is the best of (`objective=`)."""

    name: Literal["balanced", "cheapest", "fastest", "most_accurate", "lowest_latency"] = "balanced"
    """balanced, cheapest, fastest, most_accurate or lowest_latency."""
    usd_per_accuracy_point: Amount | None = None
    """Dollars that one percentage point of accuracy is worth; null takes 5% of what is at stake:
    the budget, else the cheapest plan, and $10 at least."""
    usd_per_hour_of_waiting: Amount | None = None
    """Dollars that one hour less until the student serves is worth; null takes 10% of the stake, or
    a quarter of it for the whole of limits.deadline_hours."""
    usd_per_100ms: Amount | None = None
    """Dollars that 100 ms less of p95 latency are worth; null takes 2% of the stake, or a quarter
    of it for the whole of limits.latency_ms."""


@dataclass(frozen=True)
class TrainerConfig:
    """How the student is trained (`trainer=`)."""

    max_tokens: Count | None = None
    """Most tokens to train on; None takes the student's own `train_tokens`."""
    max_epochs: Annotated[int, Meta(ge=-1)] | None = None
    """Most times that each row is read; -1 lets tokens alone count. None does so beside
    `max_tokens`, and else fits the rows: 3 to 10 times for a student that starts from a model, 10
    to 60 for one of random weights."""
    batch_tokens: Count = 4096
    """Most tokens of one gradient step (packed rows); an epoch has 16 steps at least."""
    optimizer: Literal["auto", "muon", "adamw"] = "auto"
    """muon (for the 2-D weights of the blocks, AdamW for the rest), adamw (for all), or auto: muon
    for random weights, adamw for a student that starts from a model."""
    lr_muon: Amount | None = None
    """Peak learning rate of Muon; None takes what suits the student's kind and width."""
    lr_adamw: Amount | None = None
    """Peak learning rate of AdamW; None takes what suits the student's kind and width."""
    weight_decay: Amount = 0.01
    """Decoupled weight decay of the 2-D weights of the blocks; all else has none."""
    warmup_steps: CountOrZero = 50
    """Steps of linear warm-up, a tenth of all at most, before a cosine that ends at 0."""
    clip_norm: Amount = 1.0
    """Largest gradient norm."""
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    """auto (bf16 autocast where the machine gains from it), bf16 or fp32."""
    accelerator: Literal["auto", "cpu", "gpu"] = "auto"
    """Lightning accelerator: auto, cpu, gpu."""
    devices: Count = 1
    """Lightning devices."""
    n_threads: Count | None = None
    """CPU threads of torch; None leaves torch's own choice."""
    accumulate: Count = 1
    """Rows that each device makes of its share of a gradient step, one after the other."""
    checkpointing: bool = False
    """Keep the blocks' inputs alone and compute the rest again: less memory, a third more time."""
    compile: bool = False
    """Compile the body with torch.compile: about a fifth faster, after half a minute or more."""
    ema: Annotated[float, Meta(ge=0, lt=1)] | None = None
    """Decay of an average of the weights, which is measured and kept in their place; None: none."""
    max_time: Annotated[str, _TIME] | None = None
    """Longest training, as DD:HH:MM:SS; counted on through resumes."""
    adapter: Literal["none", "lora", "qlora"] = "none"
    """none (all weights are trained), lora, or qlora (beside weights in 4 bits)."""
    lora_rank: Count = 16
    """Rank of each adapter."""
    lora_alpha: Count = 32
    """Scale of the adapters, before it is divided by their rank."""
    strategy: str | dict[str, Any] = "auto"
    """Lightning strategy of several devices: auto, ddp, fsdp, deepspeed, or `_target_` of one."""
    num_nodes: Count = 1
    """Servers that train together."""


@dataclass(frozen=True)
class CallbacksConfig:
    """What watches a training (`callbacks=`)."""

    checkpoint_every_steps: Count = 400
    """Most steps between checkpoints that a killed run goes on from."""
    checkpoint_every_minutes: Annotated[float, Meta(gt=0)] = 2.0
    """Most minutes between them; more where writing one takes over a twentieth of that."""
    validate_every_steps: CountOrZero | None = None
    """Steps between measurements on validation items; 0 measures at the end only. None fits the
    length: every 1,000 steps, or 20 times where rows are read again, once an epoch at most."""
    patience: Count | None = 5
    """Measurements in a row, none better than all before, after which the training ends; None never
    ends it so. Better is more exact matches, or a lower loss on the gold answers."""
    n_validation_items: Count = 128
    """Validation items of each measurement; the best of them says which weights are kept."""
    n_final_validation_items: Count | None = None
    """Validation items, others if there are any, that the kept weights answer at the end, which
    later plans rest on; None takes four times as many."""
    stop_at_exact: Share | None = None
    """End early at this validation exact match; None does not."""

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
    """Where metrics go (`logger=`)."""

    name: Literal["wandb", "none"] = "wandb"
    """wandb, or none (records and report alone)."""
    project: str = "stratos"
    """W&B project."""
    entity: str | None = None
    """W&B entity; None takes the account's default."""
    group: str | None = None
    """W&B group; a sweep sets it to the sweep's folder."""
    mode: Literal["auto", "online", "offline", "disabled"] = "auto"
    """auto (online with a key, else offline), online, offline or disabled."""


@dataclass(frozen=True)
class DeployConfig:
    """How the student is served (`deploy=`)."""

    name: Literal["local", "none"] = "local"
    """local (serve and load-test here), or none (stop after evaluate)."""
    n_requests: Count = 32
    """Held-out questions asked over HTTP."""
    concurrency: Count = 1
    """Requests in flight at once while the answers are compared (closed loop)."""
    load_seconds: Amount = 15.0
    """Seconds of requests that come at random moments (open loop), at the rate of the plan or the
    highest that this machine keeps up with; 0 leaves them out."""
    port: Annotated[int, Meta(ge=0, le=65535)] = 0
    """Port of the loopback server; 0 takes a free one."""


@dataclass(frozen=True)
class PathsConfig:
    """Where files go (`paths=`)."""

    run_dir: str
    """Folder of this run: records, corpus, student, bundle, report."""
    cache_dir: str
    """Content-addressed cache that runs share: teacher answers, cleaned catalogs."""
    records_from: str | None = None
    """Folder of an earlier run, whose records stand in for stages that are not asked for."""


@dataclass(frozen=True)
class ProbeConfig:
    """What the probe asks (top-level `probe.`)."""

    n_items: Count = 64
    """Validation items that each teacher answers with its best prompt."""
    max_items: Count = 256
    """Most of them, where it is open after `n_items` whether a strategy may learn from the teacher:
    their number is doubled until it is settled."""
    n_trial_items: Count = 16
    """Validation items that each prompt is tried on first (the first of the same items)."""
    n_entropy_items: Count = 16
    """Answers of a local teacher whose next-token entropy is measured, if it may be learnt from."""
    n_samples: CountOrZero = 4
    """Answers drawn to the same question with the best prompt, to see how far they agree; 0 draws
    none."""
    n_sample_items: CountOrZero = 8
    """Validation items to which so many answers are drawn; 0 draws none."""
    n_student_items: CountOrZero = 32
    """Validation items that each student with weights in a local folder answers before its
    training; 0 asks none."""
    student_seconds: Amount = 60.0
    """Longest time for that, in seconds, each; what is not answered by then does not count."""
    max_tokens: Count | None = None
    """Longest answer of a teacher, in tokens; None takes it from the data or the first answers."""
    batch_size: Count = 48
    """Chats that a local teacher answers at once."""

    def __post_init__(self) -> None:
        """Check the numbers."""
        if self.n_samples == 1:
            raise ValueError("n_samples=1 leaves nothing to compare: give 0, or at least 2.")


@dataclass(frozen=True)
class SynthesizeConfig:
    """Where the corpus is made (top-level `synthesize.`); it is the same wherever that is."""

    engine: Literal["local", "ray"] = "local"
    """local (this process), or ray (the CPUs and GPUs of a Ray cluster)."""
    ray_address: str | None = None
    """Of a running cluster, such as auto or ray://head:10001; None starts one of this machine."""


@dataclass(frozen=True)
class EvaluateConfig:
    """What is measured on the test split (top-level `evaluate.`)."""

    n_items: Count = 1000
    """Test items that the student answers, all slices together."""
    n_teacher_items: Count = 1000
    """Most of them that the teacher answers too, drawn at random: as many as time and money
    allow."""
    teacher_minutes: Annotated[float, Meta(gt=0)] = 2.0
    """Longest time for the teacher's answers; a few dozen are asked whatever it takes."""
    teacher_usd: Amount | None = None
    """Most dollars for the answers of a paid teacher; None takes a tenth of `limits.budget_usd`
    (without one `limits.probe_usd`), and 128 answers at least."""
    n_untouched_items: Count = 128
    """The same for the untouched student; the smaller subset is a part of the larger."""
    batch_size: Count = 128
    """Questions that the student answers at once."""
    max_new_tokens: Count = 768
    """Longest answer of the student, in tokens."""


@dataclass(frozen=True)
class BucketConfig:
    """Requests of one size, as a share of the traffic."""

    prompt_tokens: Count
    """Tokens of a question."""
    answer_tokens: Count
    """Tokens of its answer, the reasoning path included."""
    share: Annotated[float, Meta(gt=0)]
    """Part of all requests; shares are scaled to sum to 1."""


@dataclass(frozen=True)
class TrafficConfig:
    """What the served student has to answer (top-level `traffic.`)."""

    requests_per_s: Annotated[float, Meta(gt=0)] | None = None
    """Mean rate; None asks for one answer at a time, which one server gives."""
    buckets: tuple[BucketConfig, ...] = ()
    """Sizes of the requests; empty takes the task's own, as the probe or recorded runs saw it."""


@dataclass(frozen=True)
class PlanConfig:
    """How the plan is made (top-level `plan.`)."""

    explain: bool = False
    """Print what binds, what it is worth, and the runner-up."""
    pilot: bool | Literal["auto"] = "auto"
    """Train each student that is left shortly before the plan, and extrapolate its accuracy; auto
    does so where an unknown accuracy decides the choice and it takes little."""
    pilot_tokens: Count = 4_000_000
    """Tokens of each student's longest pilot training; auto takes a part of them to save time."""
    pilot_share: Share = 0.1
    """Part of the limits on dollars and hours that a pilot may take by itself (`pilot=auto`)."""
    pilot_minutes: Amount = 3.0
    """Longest time on this machine of a pilot that is made by itself."""
    history: bool = True
    """Let past runs of this machine (`outputs/`, `sweeps/`) speak for a student's accuracy."""
    solver: str | None = None
    """PuLP's name of the solver; None takes HiGHS or CBC, whichever is there."""
    time_limit_s: Annotated[float, Meta(gt=0)] = 60.0
    """Longest time of one solve, in seconds; a plan not proven optimal by then says so."""
    gap: Share = 0.0
    """Relative gap to the optimum at which the solver may stop."""
    max_kinds: Count | None = 2
    """Kinds of servers that answer a rate of requests together, unless more of them cost at least
    5% less; null for any number."""


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
