"""The paper's deployment score: plans that maximise it, and ours, beside simpler choices.

    python benchmarks/planner/scenarios.py --catalog <folder with */vms.csv> [--n 250] [--keep]

A scenario is a task (its teachers and students), a cloud, a residency, spot or not, hours of
serving, a request rate and limits, all drawn with one fixed seed. Limits are drawn as multiples of
the best value that any plan of the scenario has, so that tight and loose ones both occur; a
scenario that no plan meets is counted and left out of the gains. The deployment score of a plan is

    Σ w_k · (worst_k - value_k) / (worst_k - best_k)  /  Σ w_k

over accuracy (0.4), latency (0.2), time (0.2) and cost (0.2), weights that were fixed before any
scenario was run; best and worst are taken over the frontier before the limits.

Gain = score of a plan / score of another - 1, both under the same limits. The other plan is the
best of its objective, ties broken by dollars, then by the score: the strongest form of
accuracy-first and cost-first. Two plans are compared with it: the one that has the highest score,
whose gain is therefore at least 0 in every scenario, and says how far apart the choices are; and
the one that `objective=balanced` takes, which has the lowest net cost in dollars and maximises no
score. A score of 0 has no gain; those are counted apart.

Accuracies of students on GSM8K and MATH are those of their instruct models as they are remembered
from the Qwen2.5 blog and technical report and the Llama 3.2 model cards, stand-ins for what a
distilled student would reach; on mahjong they are the recorded runs of conf/student. How many
scenarios rest on which is counted. Model shapes are those of their config.json.
"""

from __future__ import annotations

import json
import random
import statistics
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import record
from scale import BenchTask, config, probe_record, teacher_probe

from stratos import config as schema
from stratos.catalog import load_catalog
from stratos.core.errors import StratosError
from stratos.plan.explain.whatif import shipped_students
from stratos.plan.objective import COSTS, Linear, best, exchange_rates
from stratos.plan.options.candidates import build_problem
from stratos.plan.solve.frontier import frontier, within
from stratos.records import CardRun, ModelCard, Probe
from stratos.synthesize.alignment import Alignment
from stratos.synthesize.injection import Injection
from stratos.tasks.mahjong import MahjongTask

SEED = 20261125
WEIGHTS = (0.4, 0.2, 0.2, 0.2)
"""Of accuracy, dollars, hours and latency in the deployment score."""
FROM_MEMORY = ("gsm8k", "math")
"""Tasks whose accuracies nobody measured here."""
ENOUGH = 0.22
"""The paper's gain."""

# name: parameters, blocks, width, heads, key-value heads, MLP width, vocabulary, tied embeddings
SHAPES = {
    "qwen2.5-0.5b": (494_032_768, 24, 896, 14, 2, 4864, 151_936, True),
    "llama-3.2-1b": (1_235_814_400, 16, 2048, 32, 8, 8192, 128_256, True),
    "qwen2.5-1.5b": (1_543_714_304, 28, 1536, 12, 2, 8960, 151_936, True),
    "qwen2.5-3b": (3_085_938_688, 36, 2048, 16, 2, 11_008, 151_936, True),
    "llama-3.2-3b": (3_212_749_824, 28, 3072, 24, 8, 8192, 128_256, True),
    "qwen2.5-7b": (7_615_616_512, 28, 3584, 28, 4, 18_944, 152_064, False),
    "qwen2.5-32b": (32_763_876_352, 64, 5120, 40, 8, 27_648, 152_064, False),
    "qwen2.5-72b": (72_706_203_648, 80, 8192, 64, 8, 29_568, 152_064, False),
    "smollm2-135m": (134_515_008, 30, 576, 9, 3, 1536, 49_152, True),
}
STUDENTS = tuple(SHAPES)[:5]
PUBLISHED = {
    "gsm8k": dict(zip(STUDENTS, (0.496, 0.444, 0.732, 0.867, 0.777), strict=True)),
    "math": dict(zip(STUDENTS, (0.359, 0.306, 0.552, 0.659, 0.480), strict=True)),
}
TEACHERS = {
    "gsm8k": {"qwen2.5-7b": 0.916, "qwen2.5-32b": 0.959, "qwen2.5-72b": 0.958},
    "math": {"qwen2.5-7b": 0.755, "qwen2.5-32b": 0.831, "qwen2.5-72b": 0.831},
    "mahjong": {"smollm2-135m": 0.016},
}
TOKENS = {"gsm8k": (100, 250), "math": (120, 500), "mahjong": (340, 25)}
"""Tokens of a question and of its answer, as a teacher sees and gives them."""

RESIDENCY = {
    "anywhere": (),
    "us": ("us-", "eastus", "westus", "centralus", "southcentralus", "northcentralus"),
    "eu": ("eu-", "europe", "westeurope", "northeurope", "france", "germany", "sweden"),
}


@dataclass(frozen=True)
class Scenario:
    """One draw."""

    task: str
    clouds: tuple[str, ...]
    residency: str
    spot: bool
    serve_hours: float
    requests_per_s: float | None
    factors: tuple[float | None, float | None, float | None, float | None]
    """Budget, deadline and latency over their best values, accuracy as a share of the best."""


def draw(rng: random.Random) -> Scenario:
    """Return one scenario; every field is drawn whatever the others are."""

    def maybe(low: float, high: float) -> float | None:
        value = low * (high / low) ** rng.random()
        return round(value, 3) if rng.random() < 0.5 else None

    return Scenario(
        task=rng.choice(("mahjong", "gsm8k", "math")),
        clouds=rng.choice((("aws",), ("gcp",), ("azure",), ("lambda",), ("aws", "gcp"), ())),
        residency=rng.choice(("anywhere", "anywhere", "us", "eu")),
        spot=rng.random() < 0.5,
        serve_hours=rng.choice((24.0, 168.0, 720.0)),
        requests_per_s=rng.choice((None, None, 1.0, 10.0)),
        factors=(maybe(1.05, 10), maybe(1.05, 5), maybe(1.05, 5), maybe(0.6, 1.0)),
    )


@dataclass(frozen=True)
class Named(BenchTask):
    """The same by another name, which cannot build questions from answers."""

    name: str = "named"
    can_reverse: bool = False


def students_of(task: str, folder: Path) -> tuple[schema.StudentConfig, ...]:
    """Return a task's students; those of published shape lie as config.json in the folder."""
    if task == "mahjong":
        return tuple(student for student in shipped_students() if student.runs)
    students = []
    for name, accuracy in PUBLISHED[task].items():
        _, n_layers, width, heads, kv_heads, mlp, vocabulary, tied = SHAPES[name]
        home = folder / name
        home.mkdir(exist_ok=True)
        facts = {
            "vocab_size": vocabulary, "hidden_size": width, "num_hidden_layers": n_layers,
            "num_attention_heads": heads, "num_key_value_heads": kv_heads,
            "intermediate_size": mlp, "tie_word_embeddings": tied,
            "max_position_embeddings": 32_768,
        }  # fmt: skip
        (home / "config.json").write_text(json.dumps(facts))
        run = CardRun(
            task=task, strategy="alignment", accuracy=accuracy, n_items=1319,
            train_tokens=20_000_000, tokens_per_answer=float(TOKENS[task][1]), ms_per_answer=0.0,
            train_cpu_seconds=0.0, seed=0, date="2026-11-25", machine="published",
            validation_accuracy=accuracy, n_validation_items=1319,
        )  # fmt: skip
        students.append(
            schema.StudentConfig(
                name=name, path=str(home), context_length=2048, train_tokens=20_000_000, runs=(run,)
            )
        )
    return tuple(students)


def probe_of(task: str) -> Probe:
    """Return what a probe of the task's teachers would have measured."""
    prompt, answer = TOKENS[task]
    teachers = []
    for name, accuracy in TEACHERS[task].items():
        n_params, n_layers, width, heads, kv_heads, mlp, vocabulary, _ = SHAPES[name]
        card = ModelCard(name, n_params, n_layers, width, heads, kv_heads, mlp, vocabulary, 32_768)
        teachers.append(teacher_probe(card, round(64 * accuracy), 64 * prompt, 64 * answer))
    return probe_record(task, teachers)


def config_of(
    scenario: Scenario,
    cloud: schema.CloudConfig,
    students: tuple[schema.StudentConfig, ...],
    folder: Path,
) -> schema.Config:
    """Return the run of a scenario, without its limits."""
    is_mahjong = scenario.task == "mahjong"
    task: Any = MahjongTask() if is_mahjong else Named(scenario.task)
    return config(
        folder,
        task=task,
        students=students,
        strategies=(Injection(n_items=20_000) if is_mahjong else Alignment(n_items=20_000),),
        cloud=cloud,
        limits=schema.LimitsConfig(serve_hours=scenario.serve_hours),
        trainer=schema.TrainerConfig(max_epochs=-1),
        traffic=schema.TrafficConfig(requests_per_s=scenario.requests_per_s),
        plan=schema.PlanConfig(history=False, max_kinds=None),
    )


class Market:
    """The catalogs that scenarios ask for, each loaded once."""

    def __init__(self, folder: Path) -> None:
        """Find the files."""
        self.files = tuple(str(path) for path in sorted(folder.glob("*/vms.csv")))
        if not self.files:
            raise SystemExit(f"{folder} has no */vms.csv.")
        self.loaded: dict[Any, tuple[schema.CloudConfig, Any]] = {}

    def of(self, scenario: Scenario) -> tuple[schema.CloudConfig, Any]:
        """Return the cloud of a scenario, its regions filled in, and the offers it has."""
        key = (scenario.clouds, scenario.residency, scenario.spot)
        if key not in self.loaded:
            cloud = schema.CloudConfig(
                name="multi", catalog=self.files, providers=scenario.clouds, spot=scenario.spot,
                marketplaces=True, residency=("any",),
            )  # fmt: skip
            catalog = load_catalog(cloud)
            prefixes = RESIDENCY[scenario.residency]
            if prefixes:
                regions = {offer.region for offer in catalog.offers}
                chosen = tuple(sorted(r for r in regions if r.lower().startswith(prefixes)))
                cloud = replace(cloud, regions=chosen)
                catalog = load_catalog(cloud) if chosen else None
            self.loaded[key] = (cloud, catalog)
        return self.loaded[key]


def limits_of(scenario: Scenario, everything: list[Any]) -> schema.LimitsConfig:
    """Return the limits of a scenario, from the best values that its plans have."""
    budget, deadline, latency, accuracy = scenario.factors

    def at(factor: float | None, best: float) -> float | None:
        return None if factor is None else factor * best

    return schema.LimitsConfig(
        budget_usd=at(budget, min(choice.usd for choice in everything)),
        deadline_hours=at(deadline, min(choice.hours for choice in everything)),
        latency_ms=at(latency, min(choice.latency_ms for choice in everything)),
        accuracy=at(accuracy, max(choice.accuracy for choice in everything)),
        serve_hours=scenario.serve_hours,
    )


def run(scenario: Scenario, market: Market, folder: Path) -> tuple[str, dict[str, float] | None]:
    """Plan one scenario; return what became of it, and the scores by objective."""
    try:
        cloud, catalog = market.of(scenario)
        if catalog is None:
            return "no region", None
        run_config = config_of(scenario, cloud, students_of(scenario.task, folder), folder)
        problem = build_problem(run_config, probe_of(scenario.task), catalog)
        everything = frontier(problem) if problem.candidates else []
    except StratosError as error:
        return type(error).__name__, None
    if not everything:
        return "no server", None
    limits = limits_of(scenario, everything)
    feasible = within(everything, limits)
    if not feasible:
        return "infeasible", None
    loss = score_loss(everything)
    scores = {"highest_score": 1 - min(loss(choice) for choice in feasible)}
    net = exchange_rates(schema.ObjectiveConfig(), limits, everything).net_cost
    scores["balanced"] = 1 - loss(best(feasible, net, net))
    for cost in COSTS:
        # Ties go to the cheaper plan, then to the better score.
        scores[cost.alternative] = 1 - loss(best(feasible, cost.alone, loss))
    return "feasible", {**scores, "n_frontier": len(feasible)}


def score_loss(reference: list[Any]) -> Linear:
    """Return 1 minus the paper's deployment score, whose scale is that of `reference`."""
    costs = np.array([choice.costs for choice in reference])
    lows, highs = costs.min(axis=0), costs.max(axis=0)
    varies = highs - lows > 1e-12 * np.maximum(1.0, np.abs(highs))
    weights = np.where(varies, WEIGHTS, 0.0)
    weights /= max(weights.sum(), 1e-12)
    weights /= np.where(varies, highs - lows, 1.0)
    a, b, c, d = weights.tolist()
    return Linear((a, b, c, d), -float(weights @ lows))


def gains(rows: list[dict[str, Any]], plan: str, other: str) -> dict[str, Any]:
    """Return how much higher the score of one plan is than that of another, over all scenarios."""
    changes = sorted(row[plan] / row[other] - 1 for row in rows if row[other] > 1e-9)
    quartiles = statistics.quantiles(changes, n=4)
    return {
        "n": len(changes),
        "lower": sum(gain < -1e-9 for gain in changes),
        "median": round(quartiles[1], 4),
        "lower_quartile": round(quartiles[0], 4),
        "upper_quartile": round(quartiles[2], 4),
        "worst": round(changes[0], 4),
        "at_least_22_percent": round(sum(gain >= ENOUGH for gain in changes) / len(changes), 4),
    }


def summed(rows: list[dict[str, Any]], fates: Counter[str]) -> dict[str, Any]:
    """Return how many scenarios have a plan, and the gains of both plans over the others."""
    others = [cost.alternative for cost in COSTS]
    return {
        "n": fates.total(),
        "fates": dict(fates),
        "from_memory": sum(row["task"] in FROM_MEMORY for row in rows),
        **{
            plan: {other: gains(rows, plan, other) for other in others}
            for plan in ("highest_score", "balanced")
        },
    }


def main() -> None:
    """Run all scenarios, and sum up what the plans gain."""
    parser = record.arguments(__doc__)
    parser.add_argument("--catalog", type=Path, required=True)
    parser.add_argument("--n", type=int, default=250)
    options = parser.parse_args()
    rng, market = random.Random(SEED), Market(options.catalog)
    rows, fates = [], Counter[str]()
    with tempfile.TemporaryDirectory() as folder:
        for number in range(options.n):
            scenario = draw(rng)
            fate, scores = run(scenario, market, Path(folder))
            fates[fate] += 1
            if scores is not None:
                rows.append({"scenario": number, "task": scenario.task, **scores})
    result = {"summary": summed(rows, fates), "rows": rows}
    record.finish("planner/scenarios", result, options, seed=SEED)


if __name__ == "__main__":
    main()
