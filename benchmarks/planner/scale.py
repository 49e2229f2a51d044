"""How long the plan takes at scale, in CPU seconds and memory, each case in a process of its own.

    python benchmarks/planner/scale.py --catalog ../shared/catalog
    python benchmarks/planner/scale.py --case real-rate --catalog ../shared/catalog

Cases: the real rows of a folder of SkyPilot catalogs with 12 students (135M to 8B) and 8 teachers,
with the catalog's cache cold and warm, one request at a time and at a rate of requests in three
sizes; a million synthetic offers; 3,700 nodes of a private cloud bound by quotas. Measured are CPU
seconds (user and system, of all threads) of reading the catalog, building the problem, the frontier
and the solver's plan, seconds by the clock from first to last, and the peak memory of the process.
"""

from __future__ import annotations

import json
import resource
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

import record

from stratos import config as schema
from stratos.catalog import Catalog, load_catalog
from stratos.catalog.table import UNLIMITED, Table, Words
from stratos.config import BucketConfig, CloudConfig, StudentConfig, TrafficConfig, TrainerConfig
from stratos.core.intervals import wilson
from stratos.plan.options.candidates import build_problem
from stratos.plan.solve.frontier import frontier
from stratos.plan.stage import solve
from stratos.records import CardRun, Complexity, ModelCard, Probe, TeacherProbe
from stratos.synthesize.alignment import Alignment
from stratos.synthesize.injection import Injection
from stratos.tasks.base import Item, Message, Score, Split, Task

SEED = 0
TARGETS = {
    "real-cold": 10.0,
    "real-warm": 2.0,
    "real-rate": 2.0,
    "million": 15.0,
    "private": 5.0,
}
"""Seconds from the config to the plan; the whole frontier of the real rows within 5."""

SHAPES = (
    ("135m", 576, 30, 1536),
    ("200m", 768, 24, 2048),
    ("360m", 960, 32, 2560),
    ("500m", 1024, 28, 3072),
    ("700m", 1280, 28, 3840),
    ("1b", 2048, 16, 5632),
    ("1.7b", 2048, 24, 8192),
    ("2b", 2304, 26, 7168),
    ("3b", 3072, 24, 8192),
    ("4b", 3072, 32, 9216),
    ("6b", 4096, 28, 11264),
    ("8b", 4096, 32, 14336),
)
"""Students: name, width, blocks, MLP width."""

TEACHERS = (
    ModelCard("smollm2_135m", 134_515_008, 30, 576, 9, 3, 1536, 49152, 8192),
    ModelCard("smollm2_1.7b", 1_711_376_384, 24, 2048, 32, 32, 8192, 49152, 8192),
    ModelCard("qwen2.5_7b", 7_615_616_512, 28, 3584, 28, 4, 18944, 152064, 32768),
    ModelCard("llama3.1_8b", 8_030_261_248, 32, 4096, 32, 8, 14336, 128256, 131072),
    ModelCard("qwen2.5_14b", 14_770_033_664, 48, 5120, 40, 8, 13824, 152064, 32768),
    ModelCard("qwen2.5_32b", 32_763_876_352, 64, 5120, 40, 8, 27648, 152064, 32768),
    ModelCard("llama3.1_70b", 70_553_706_496, 80, 8192, 64, 8, 28672, 128256, 131072),
    ModelCard(
        "hosted", 0, 1, 1, 1, 1, 1, 1, 1,
        usd_per_million_input_tokens=2.5, usd_per_million_output_tokens=10.0,
        max_requests_per_minute=500.0, usd_per_million_batch_input_tokens=1.25,
        usd_per_million_batch_output_tokens=5.0,
    ),
)  # fmt: skip

BUCKETS = (BucketConfig(64, 128, 0.6), BucketConfig(256, 256, 0.3), BucketConfig(1024, 512, 0.1))

PRIVATE_STUDENTS = ("135m", "1b", "8b")
"""Of the 12, those of the private cloud, each at 2,000 requests a second."""


class BenchTask(Task):
    """As much of a task as planning reads: without items, a usual length is assumed."""

    name = "bench"
    can_reverse = True

    def items(self, split: Split, n: int, seed: int = 0, slice: str | None = None) -> list[Item]:
        """Return none."""
        return []

    def messages(self, item: Item, prompt: str = "default") -> list[Message]:
        """Return the bare question."""
        return self.student_messages(item)

    def parse(self, text: str) -> str | None:
        """Return the text."""
        return text

    def score(self, text: str, item: Item) -> Score:
        """Return whether the text is the answer."""
        right = float(text == item.answer)
        return Score(right, right, True)


def students() -> tuple[StudentConfig, ...]:
    """Return the 12 students, each with a recorded run by both strategies."""

    def run(accuracy: float, strategy: str) -> CardRun:
        return CardRun(
            task="bench", strategy=strategy, accuracy=accuracy, n_items=1000,
            train_tokens=20_000_000, tokens_per_answer=150.0, ms_per_answer=0.0,
            train_cpu_seconds=0.0, seed=0, date="2026-11-20", machine="",
            validation_accuracy=accuracy, n_validation_items=1000,
        )  # fmt: skip

    return tuple(
        StudentConfig(
            name=name, hidden_size=width, n_layers=layers, n_heads=width // 64,
            intermediate_size=mlp, vocab_size=32768, context_length=1024,
            runs=(run(0.5 + 0.04 * i, "injection"), run(0.48 + 0.042 * i, "alignment")),
        )
        for i, (name, width, layers, mlp) in enumerate(SHAPES)
    )  # fmt: skip


def probe() -> Probe:
    """Return what the 8 teachers showed on 64 items: the larger, the more."""
    teachers = tuple(
        TeacherProbe(
            teacher=card.name, card=card, prompt="default", n_items=64,
            exact=wilson(20 + 6 * i, 64), choice=wilson(16, 64), exact_by_slice={}, parsable=1.0,
            echoes=0.0, input_tokens=400 * 64, output_tokens=120 * 64, seconds=60.0,
            cpu_seconds=60.0, usd=0.0, n_cached=0,
        )
        for i, card in enumerate(TEACHERS)
    )  # fmt: skip
    return Probe("bench", teachers, {}, Complexity("high", False), "", 60.0)


def config(folder: Path, **changes: Any) -> schema.Config:
    """Return a run that is planned alone."""
    return schema.Config(
        teachers=(), complexity=schema.ComplexityConfig(), limits=schema.LimitsConfig(),
        objective=schema.ObjectiveConfig(), callbacks=schema.CallbacksConfig(),
        logger=schema.LoggerConfig(), deploy=schema.DeployConfig(),
        synthesize=schema.SynthesizeConfig(), probe=schema.ProbeConfig(),
        paths=schema.PathsConfig(run_dir=str(folder), cache_dir=str(folder)),
        evaluate=schema.EvaluateConfig(), plan=schema.PlanConfig(history=False),
        stages=("plan",), seed=SEED, **changes,
    )  # fmt: skip


GPUS = ("", "T4", "L4", "A10G", "V100", "A100", "A100-80GB", "H100", "H200", "B200")
VRAM_GIB = np.array([0.0, 16, 24, 24, 16, 40, 80, 80, 141, 180])
BASE_USD = np.array([0.02, 0.3, 0.7, 1.0, 2.0, 1.8, 2.5, 3.5, 4.5, 6.5])


def million() -> Catalog:
    """Return a million synthetic offers: 40 clouds of 50 regions, 500 instance types each."""
    random = np.random.default_rng(SEED)
    n_clouds, n_regions, n_types = 40, 50, 500
    n = n_clouds * n_regions * n_types
    gpu = random.integers(0, len(GPUS), n_types)
    count = np.where(gpu > 0, 2 ** random.integers(0, 4, n_types), 0)
    vcpus = 2.0 ** random.integers(1, 8, n_types)
    memory = vcpus * 2.0 ** random.integers(1, 4, n_types)
    listed = BASE_USD[gpu] * np.maximum(count, 1) + 0.02 * vcpus + 0.003 * memory
    kind = np.tile(np.arange(n_types), n_clouds * n_regions)
    region = np.repeat(np.arange(n_clouds * n_regions), n_types)
    price = listed[kind] * random.uniform(0.6, 1.6, n_clouds * n_regions)[region]
    price *= random.uniform(0.9, 1.1, n)
    return catalog_of(
        n,
        cloud=Words.coded(region // n_regions, [f"cloud{i:02}" for i in range(n_clouds)]),
        region=Words.coded(region % n_regions, [f"region{i:02}" for i in range(n_regions)]),
        instance_type=Words.coded(kind, [f"type{i:03}" for i in range(n_types)]),
        accelerator=Words.coded(gpu[kind], GPUS),
        accelerator_count=count[kind],
        vcpus=vcpus[kind],
        memory_gib=memory[kind],
        vram_gib=VRAM_GIB[gpu][kind],
        usd_per_hour=price,
        usd_per_hour_spot=price * random.uniform(0.3, 0.8, n),
        max_count=np.full(n, UNLIMITED),
    )


def private() -> Catalog:
    """Return 3,700 nodes in 37 pools of a private cloud, each pool of its own kind and price."""
    random = np.random.default_rng(SEED)
    n, n_gpus = 37, 8
    gpu = np.arange(n) % n_gpus
    count = np.where(gpu > 0, 2 ** random.integers(0, 4, n), 0)
    vcpus = 2.0 ** random.integers(3, 8, n)
    price = (BASE_USD[gpu] * np.maximum(count, 1) + 0.03 * vcpus) * random.uniform(0.8, 1.2, n)
    sizes = random.multinomial(3_700 - n, np.ones(n) / n) + 1
    return catalog_of(
        n,
        cloud=Words.fill("private", n),
        region=Words.fill("site", n),
        instance_type=Words.coded(np.arange(n), [f"pool{i:02}" for i in range(n)]),
        accelerator=Words.coded(gpu, GPUS[:n_gpus]),
        accelerator_count=count,
        vcpus=vcpus,
        memory_gib=vcpus * 4.0,
        vram_gib=VRAM_GIB[gpu],
        usd_per_hour=np.round(price, 3),
        usd_per_hour_spot=np.full(n, np.nan),
        max_count=sizes.astype(np.int64),
    )


def catalog_of(n: int, **columns: Any) -> Catalog:
    """Return a catalog of synthetic offers."""
    dated = {"price_date": Words.fill("2026-11-01", n), "source": Words.fill("synthetic", n)}
    return Catalog(Table.build(**columns, **dated), {}, ())


MADE = {"million": million, "private": private}
"""Cases whose offers are made here."""


@contextmanager
def timed(into: dict[str, Any], name: str) -> Iterator[None]:
    """Put the CPU seconds of a block into a dict."""
    start = time.process_time()
    yield
    into[name] = round(time.process_time() - start, 3)


def catalog_for(case: str, folder: Path, cloud: CloudConfig, cache: Path) -> tuple[Any, Catalog]:
    """Return the cloud of a case, and its offers."""
    if case in MADE:
        return cloud, MADE[case]()
    files = tuple(str(path) for path in sorted(folder.glob("*/vms.csv")))
    cloud = replace(cloud, catalog=files)
    return cloud, load_catalog(cloud, cache_dir=cache)


def run(case: str, folder: Path, cache: Path) -> dict[str, Any]:
    """Run one case in this process and return what it took."""
    seconds: dict[str, float] = {}
    started = time.perf_counter()
    rate = {"real-rate": 20.0, "private": 2000.0}.get(case)
    cloud = CloudConfig(
        spot=True, max_nodes=3_700 if case == "private" else 8, marketplaces=True,
        residency=("any",),
    )  # fmt: skip
    chosen = PRIVATE_STUDENTS if case == "private" else tuple(name for name, *_ in SHAPES)
    with timed(seconds, "imports of the solver"):
        import pulp  # noqa: F401

    with timed(seconds, "catalog"):
        cloud, catalog = catalog_for(case, folder, cloud, cache)
    run_config = config(
        cache, task=BenchTask(), cloud=cloud, strategies=(Injection(), Alignment()),
        students=tuple(student for student in students() if student.name in chosen),
        trainer=TrainerConfig(batch_tokens=65536, max_epochs=-1),
        traffic=TrafficConfig(rate, BUCKETS) if rate else TrafficConfig(),
    )  # fmt: skip
    with timed(seconds, "problem"):
        problem = build_problem(run_config, probe(), catalog)
    with timed(seconds, "frontier"):
        points = frontier(problem)
    with timed(seconds, "plan"):
        plan = solve(problem)
    total = sum(seconds.values()) - (seconds["catalog"] if case in MADE else 0.0)
    return {
        **seconds,
        "total": round(total, 2),
        "target": TARGETS[case],
        "by the clock": round(time.perf_counter() - started, 2),
        "rows": len(catalog.table),
        "pairs": len(problem.candidates),
        "points": len(points),
        "chosen": f"{plan.teacher} → {plan.student}, ${plan.usd:.2f}",
        "peak MiB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }


def main() -> None:
    """Run the cases, each in a process of its own."""
    parser = record.arguments(__doc__)
    parser.add_argument("--catalog", type=Path, default=Path("../shared/catalog"))
    parser.add_argument("--case", choices=tuple(TARGETS), help="one case, in this process")
    parser.add_argument("--cache", type=Path, help="cache folder of --case")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        cache = options.cache or Path(folder)
        if options.case:
            print(json.dumps(run(options.case, options.catalog, cache), ensure_ascii=False))
            return
        result = {}
        for case in TARGETS:
            command = [sys.executable, __file__, "--case", case, "--cache", str(cache)]
            done = record.measured_process([*command, "--catalog", str(options.catalog)])
            result[case] = json.loads(done["printed"].splitlines()[-1])
    record.finish("planner/scale", result, options, seed=SEED)


if __name__ == "__main__":
    main()
