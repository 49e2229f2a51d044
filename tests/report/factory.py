"""Records of a Mahjong run as they come out of the stages, for tests of what shows them."""

from __future__ import annotations

import json
import math
import random
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from stratos import config as schema
from stratos.core.context import Context
from stratos.core.intervals import wilson
from stratos.ledger import Ledger
from stratos.records import (
    Assumption,
    Comparison,
    Complexity,
    Corpus,
    CurvePoint,
    Deployment,
    EarlierReads,
    Interval,
    Measure,
    ModelCard,
    ModelScore,
    Offer,
    Plan,
    PlanPoint,
    Price,
    Probe,
    PromptTrial,
    RoleChoice,
    Scorecard,
    ServingSetting,
    SliceScore,
    Student,
    TeacherProbe,
    WhatIf,
)
from tests.stub_task import StubTask

TEACHER = "SmolLM2-135M-Instruct"
HOSTILE = (
    "<script>window.hacked = 1</script></script>\x1b[31mred\x1b[0m \u202eevil\ud83d"
    "<img src=x onerror=hacked=1>"
)


@dataclass(frozen=True)
class NamedTask(StubTask):
    """As much of a task as a page shows."""

    name: str = "mahjong"
    metric: str = "exact match of the set of tiles"


def share(right: int, n: int) -> Interval:
    return wilson(right, n)


def make_config(run_dir: Path, **groups: Any) -> schema.Config:
    values: dict[str, Any] = {
        "task": NamedTask(),
        "teachers": (),
        "students": (schema.StudentConfig(name="llama-1m"),),
        "strategies": (),
        "cloud": schema.CloudConfig(name="aws", providers=("aws",)),
        "complexity": schema.ComplexityConfig(),
        "limits": schema.LimitsConfig(budget_usd=25.0, latency_ms=800.0),
        "objective": schema.ObjectiveConfig(),
        "trainer": schema.TrainerConfig(),
        "callbacks": schema.CallbacksConfig(),
        "logger": schema.LoggerConfig(),
        "deploy": schema.DeployConfig(),
        "paths": schema.PathsConfig(run_dir=str(run_dir), cache_dir=str(run_dir / "cache")),
        "probe": schema.ProbeConfig(),
        "evaluate": schema.EvaluateConfig(),
        "synthesize": schema.SynthesizeConfig(),
        "traffic": schema.TrafficConfig(),
        "plan": schema.PlanConfig(),
        "stages": schema.STAGES,
        "seed": 0,
        "plain": {
            "task": {"name": "mahjong"},
            "cloud": {"name": "aws", "catalog": ["s3://me:hunter22@bucket/prices.csv"]},
            "teacher": {"api_key": "sk-abcdefghijklmnopqrstuv", "max_tokens": 32},
        },
    }
    return schema.Config(**(values | groups))


def make_context(run_dir: Path) -> Context:
    return Context(
        run_dir=run_dir, cache_dir=run_dir / "cache", ledger=Ledger(run_dir / "ledger.jsonl")
    )


def make_probe() -> Probe:
    card = ModelCard(TEACHER, 134_515_008, 30, 576, 9, 3, 1536, 49152, 8192, license="Apache-2.0")
    teacher = TeacherProbe(
        teacher=TEACHER,
        card=card,
        prompt="worked_example",
        n_items=64,
        exact=share(1, 64),
        choice=share(15, 64),
        exact_by_slice={"general": share(1, 32), "full_flush": share(0, 32)},
        parsable=0.906,
        echoes=0.344,
        input_tokens=21_734,
        output_tokens=1_622,
        seconds=71.3,
        cpu_seconds=138.0,
        usd=0.0,
        n_cached=16,
        trials=(
            PromptTrial("default", 16, 0.0, 0.25),
            PromptTrial("terse", 16, 0.0, 0.1875),
            PromptTrial("worked_example", 16, 0.0625, 0.25),
            PromptTrial("rules", 16, 0.0, 0.3125),
        ),
    )
    return Probe(
        task="mahjong",
        teachers=(teacher,),
        unreachable={"gpt-4o": "OPENAI_API_KEY is not set", "Qwen2.5-7B": "no GPU with 16 GiB"},
        complexity=Complexity(
            "high",
            False,
            ("exact match 1.6% of the teacher", "answers have 1 to 9 parts"),
            (
                Measure("coverage", wilson(1, 64), "share", "smollm2_135m", "high"),
                Measure("answer alone", Interval(6, 6, 6), "characters", "task"),
            ),
        ),
        answers_path="probe/answers.jsonl",
        seconds=83.9,
    )


G5 = Offer("aws", "us-east-1", "g5.xlarge", "A10G", 1, 4, 16, 24, 1.006, 0.4213, "2026-05-20",
           "aws.amazon.com/ec2/pricing")  # fmt: skip
C7 = Offer("aws", "us-east-2", "c7a.large", None, 0, 2, 4, 0, 0.10264, None, "2026-05-20",
           "aws.amazon.com/ec2/pricing")  # fmt: skip


def make_plan() -> Plan:
    generator = random.Random(7)
    frontier = []
    for index in range(26):
        student, top = (("llama-03m", 0.93), ("llama-1m", 0.984), ("llama-3m", 0.991))[index % 3]
        usd = 1.3 * math.exp(index * 0.145)
        frontier.append(
            PlanPoint(
                teacher=TEACHER,
                student=student,
                strategy="injection",
                accuracy=top - 0.05 * math.exp(-index / 6) * generator.uniform(0.4, 1.2),
                usd=usd,
                hours=0.9 * math.exp(-index * 0.11) + 0.03,
                latency_ms=140 + 60 * (index % 3) + 300 * math.exp(-index / 8),
                servers={"train": C7.name if index < 9 else G5.name, "serve": C7.name},
                net_usd=usd - 46 + 3 * generator.random(),
            )
        )
    chosen = PlanPoint(TEACHER, "llama-1m", "injection", 0.981, 2.552, 0.141, 212.0,
                       {"train": G5.name, "serve": C7.name}, net_usd=-45.93)  # fmt: skip
    return Plan(
        status="optimal",
        solver="HiGHS",
        teacher=TEACHER,
        student="llama-1m",
        strategy="injection",
        roles=(
            RoleChoice("teacher", None, 0, False, 0.0, 0.0, "injection asks no teacher"),
            RoleChoice("train", G5, 1, True, 0.141, 0.0594),
            RoleChoice("serve", C7, 1, False, 24.0, 2.4634, "served for 24 h"),
        ),
        accuracy=Interval(0.981, 0.969, 0.990, "3 recorded runs, 2026-05-28"),
        usd=2.552,
        hours=0.141,
        latency_ms=212.0,
        objective="balanced",
        frontier=(*frontier, chosen),
        n_frontier=41,
        alternatives={
            "most_accurate": frontier[23],
            "cheapest": frontier[0],
            "fastest": frontier[25],
            "lowest_latency": chosen,
        },
        reasons=(
            f"Injection, not alignment: {TEACHER} is right on 1 of 64 validation items "
            "(upper end 8.3%), too few to learn from.",
            "llama-1m rather than llama-3m: 0.7 points less predicted accuracy, 39% of the time.",
            "One A10G on spot trains for $0.06; the cheapest CPU server would take 52 minutes.",
        ),
        left_out={
            "teacher gpt-4o": "OPENAI_API_KEY is not set",
            "strategy alignment": "needs at least 20% of the teacher's answers to be right",
        },
        warnings=("3 of 412 offers had a price of zero and were dropped.",),
        n_offers=409,
        price_dates=("2025-11-02", "2026-05-20"),
        seconds=0.84,
        net_usd=-45.93,
        exchange={
            "usd_per_accuracy_point": 0.5,
            "usd_per_hour_of_waiting": 1.0,
            "usd_per_100ms": 0.2,
        },
        teacher_retires="2027-01-14",
        prices=(
            Price("server", C7.name, 0.0893, "an hour", "2025-11-02", "a list of <prices>"),
            Price("egress", "egress of aws", 0.09, "a GB to the internet", "2025-01-01", "aws"),
        ),
        assumptions=(
            Assumption(
                "p95 latency over the mean",
                1.5,
                "times",
                "answers differ in length",
                "the load test of deploy",
            ),
        ),
        usd_range=(2.31, 2.98),
        hours_range=(0.11, 0.2),
        what_if=(
            WhatIf(
                "limits.budget_usd",
                25.0,
                2.56,
                chosen,
                "Budget $25 does not bind: the plan needs $2.56.",
                binds=False,
            ),
            WhatIf(
                "limits.latency_ms",
                800.0,
                900.0,
                frontier[23],
                "P95 800 ms binds. 100 ms more (900 ms) buys accuracy +0.004.",
            ),
        ),
    )


def make_corpus() -> Corpus:
    return Corpus(
        task="mahjong",
        strategy="injection",
        path="corpus.jsonl",
        n_items=24_000,
        n_by_slice={"general": 14_000, "full_flush": 10_000},
        refused={"duplicate": 1_912, "held_out": 3_377, "unverified": 0},
        answer_sizes={
            "general": {"1": 5_210, "2": 5_902, "3": 2_201, "4": 402, "5": 201, "6": 84},
            "full_flush": {
                "1": 1_204,
                "2": 2_630,
                "3": 3_012,
                "4": 1_820,
                "5": 840,
                "6": 391,
                "7": 78,
                "8": 22,
                "9": 3,
            },
        },
        items_per_s=3_140.0,
        sha256="5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef",
        seconds=9.2,
        cpu_seconds=9.0,
    )


def make_student(n_points: int = 1400) -> Student:
    generator = random.Random(3)
    curve = []
    for index in range(n_points):
        done = (index + 1) / n_points
        loss = 0.012 + 2.6 * math.exp(-done * 14) + 0.25 * math.exp(-done * 4)
        exact = None
        if index % 140 == 139:
            exact = round(128 * (1 / (1 + math.exp(-(done - 0.35) * 12))) * 0.99) / 128
        curve.append(
            CurvePoint(
                step=(index + 1) * 2,
                tokens=(index + 1) * 2 * 8192,
                loss=loss * math.exp(generator.gauss(0, 0.12)),
                exact=exact,
            )
        )
    return Student(
        name="llama-1m",
        path="student",
        untouched_path="untouched",
        n_params=862_208,
        steps=2 * n_points,
        train_tokens=2 * n_points * 8192,
        best_step=2 * n_points,
        validation_exact=0.984,
        curve=tuple(curve),
        weights_sha256="9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
        seconds=512.0,
        cpu_seconds=1_003.0,
        n_resumed=1,
        n_validation_items=500,
        n_validation_reused=0,
        n_choosing_items=128,
        best_exact=126 / 128,
    )


def make_scorecard(run_dir: Path, examples: list[dict[str, Any]] | None = None) -> Scorecard:
    def score(role: str, name: str, general: int, flush: int, n: int, **more: Any) -> ModelScore:
        rows = (("all", general + flush, 2 * n), ("general", general, n), ("full_flush", flush, n))
        slices = tuple(
            SliceScore(slice, total, share(right, total), f1=min(1.0, right / total + 0.01),
                       choice=more.get("choice"))
            for slice, right, total in rows
        )  # fmt: skip
        rest = {key: value for key, value in more.items() if key != "choice"}
        return ModelScore(role, name, slices, **rest)

    path = run_dir / "evaluate" / "examples.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in examples or make_examples()))
    return Scorecard(
        task="mahjong",
        metric="Exact match of the set of tiles",
        scores=(
            score("student", "llama-1m", 482, 497, 500, output_tokens=268_000, seconds=94.0,
                  cpu_seconds=180.0, usd_per_1000=0.0027),
            score("untouched", "llama-1m, random weights", 0, 0, 500, output_tokens=768_000,
                  seconds=88.0),
            score("teacher", TEACHER, 1, 0, 64, output_tokens=3_301, seconds=142.0, choice=0.23,
                  usd_per_1000=0.0412),
            score("lookup", "nearest of 24,000 training items", 71, 58, 500),
            score("chance", "two random tiles", 4, 7, 500, choice=0.25),
        ),
        comparison=Comparison(
            128, share(126, 128), share(1, 128), 126.0, 21.7, 125, 0, 1e-37, 26.4, 870.0
        ),
        examples_path=str(path),
        seconds=331.0,
        against=(),
        earlier_reads=EarlierReads(0, 0, 1000),
        answers_path="evaluate/answers.jsonl",
    )  # fmt: skip


def make_examples() -> list[dict[str, Any]]:
    rows = []
    path = "\n".join(
        f"try {tile}s: pair {pair}s, 123s 456s 789s {'ok' if (tile + pair) % 3 == 0 else 'no'}"
        for tile in range(1, 10)
        for pair in range(1, 4)
    )
    for index in range(40):
        flush = index % 2 == 1
        right = index % 13 != 5
        gold = "3s 6s 9s" if flush else "2p 5p"
        rows.append(
            {
                "question": "1112345678999s" if flush else "123m456p789s1122z",
                "gold": gold,
                "slice": "full_flush" if flush else "general",
                "student": f"{path}\n{gold if right else '3s 6s'}",
                "teacher": "The tiles that complete the hand are 1s, 2s and 3s."
                if index % 4
                else None,
                "untouched": "z z z 9m try",
                "scores": {"student": float(right), "teacher": 0.0, "untouched": 0.0},
            }
        )
    return rows


def make_deployment() -> Deployment:
    return Deployment(
        bundle_path="bundle",
        server="transformers serve --force-model bundle --port 8000 --device cpu",
        n_requests=32,
        n_equal=32,
        latency_p50_ms=611.0,
        latency_p95_ms=742.0,
        tokens_per_s=438.0,
        service_path="bundle/stratos-mahjong.service",
        bundle_bytes=3_618_402,
        seconds=38.0,
        run=ServingSetting("transformers"),
        meets_latency_limit=True,
    )


def make_records(run_dir: Path) -> dict[str, Any]:
    return {
        "probe": make_probe(),
        "plan": make_plan(),
        "synthesize": make_corpus(),
        "distill": make_student(),
        "evaluate": make_scorecard(run_dir),
        "deploy": make_deployment(),
    }


def change(records: dict[str, Any], stage: str, **fields: Any) -> None:
    """Change fields of the record of a stage."""
    records[stage] = replace(records[stage], **fields)


def write_hydra(run_dir: Path, overrides: list[str], stages: list[str] | None = None) -> None:
    import yaml

    folder = run_dir / ".hydra"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "overrides.yaml").write_text(yaml.safe_dump(overrides))
    (folder / "config.yaml").write_text(
        yaml.safe_dump({"stages": stages or list(schema.STAGES), "deploy": {"name": "local"}})
    )


def cheaper(plan: Plan, factor: float) -> Plan:
    return replace(plan, usd=plan.usd * factor)
