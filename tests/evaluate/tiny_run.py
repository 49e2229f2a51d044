"""Records of a run on the tiny task, as the stages before `evaluate` would have made them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from tiny_student import Larger

from stratos import config as c
from stratos import records as r
from stratos.core.context import Context
from stratos.ledger import Ledger
from stratos.tasks.base import Message
from stratos.teachers.base import Answer, Keep, Teacher, Tick

SERVER = r.Offer(
    cloud="aws",
    region="us-east-1",
    instance_type="c7i.large",
    accelerator=None,
    accelerator_count=0,
    vcpus=2,
    memory_gib=4,
    vram_gib=0,
    usd_per_hour=0.09,
    price_date="2026-05-01",
    source="test",
)
CARD = r.ModelCard(
    name="second",
    n_params=100_000,
    n_layers=2,
    hidden_size=64,
    n_heads=4,
    n_kv_heads=4,
    intermediate_size=128,
    vocab_size=100,
    context_length=1024,
    license="MIT",
)


@dataclass
class SecondNumber(Teacher):
    """A teacher that takes the second number for the larger one, and is right where it is."""

    name: str = "second"
    usd_per_million: float | None = None
    n_asked: int = field(default=0, init=False)
    closed: bool = field(default=False, init=False)

    def card(self) -> r.ModelCard:
        return replace(
            CARD,
            usd_per_million_input_tokens=self.usd_per_million,
            usd_per_million_output_tokens=self.usd_per_million,
        )

    def identity(self) -> str:
        return "second number"

    def ask(
        self,
        chats: Sequence[list[Message]],
        max_tokens: int,
        tick: Tick | None = None,
        keep: Keep | None = None,
    ) -> list[Answer]:
        answers = [Answer(chat[-1]["content"].split()[1], 4, 1, 0.5) for chat in chats]
        for index, answer in enumerate(answers):
            self.n_asked += 1
            if keep is not None:
                keep(index, answer)
        return answers

    def close(self) -> None:
        self.closed = True


def tiny_config(folder: Path, **changes) -> c.Config:
    """A config of the tiny task whose run folder is `folder`."""
    options = {
        "task": Larger(),
        "teachers": (SecondNumber(),),
        "students": (c.StudentConfig(name="tiny", license="Apache-2.0"),),
        "strategies": (),
        "cloud": c.CloudConfig(),
        "complexity": c.ComplexityConfig(),
        "limits": c.LimitsConfig(),
        "objective": c.ObjectiveConfig(),
        "trainer": c.TrainerConfig(),
        "callbacks": c.CallbacksConfig(),
        "logger": c.LoggerConfig(),
        "deploy": c.DeployConfig(n_requests=12, load_seconds=3.0),
        "paths": c.PathsConfig(run_dir=str(folder), cache_dir=str(folder / "cache")),
        "probe": c.ProbeConfig(),
        "evaluate": c.EvaluateConfig(
            n_items=60, n_teacher_items=40, batch_size=16, max_new_tokens=30
        ),
        "synthesize": c.SynthesizeConfig(),
        "traffic": c.TrafficConfig(),
        "plan": c.PlanConfig(),
        "stages": c.STAGES,
        "seed": 0,
    }
    return c.Config(**{**options, **changes})


def tiny_context(folder: Path, **changes) -> Context:
    """A context in `folder`."""
    options = {
        "run_dir": folder,
        "cache_dir": folder / "cache",
        "ledger": Ledger(folder / "ledger.jsonl"),
    }
    return Context(**{**options, **changes})


def tiny_probe(task: Larger, teacher: SecondNumber) -> r.Probe:
    """A probe that reached one teacher."""
    half = r.Interval(0.5, 0.3, 0.7, "20 validation items, Wilson")
    probed = r.TeacherProbe(
        teacher=teacher.name,
        card=teacher.card(),
        prompt="default",
        n_items=20,
        exact=half,
        choice=replace(half, mean=0.625),
        exact_by_slice={},
        parsable=1.0,
        echoes=0.0,
        input_tokens=80,
        output_tokens=20,
        seconds=1.0,
        cpu_seconds=1.0,
        usd=0.0,
        n_cached=0,
    )
    return r.Probe(
        task=task.name,
        teachers=(probed,),
        unreachable={},
        complexity=r.Complexity("low", declared=True),
        answers_path="",
        seconds=1.0,
    )


def tiny_plan(server: r.Offer | None = SERVER, **changes) -> r.Plan:
    """A plan that serves on `server` and rents nothing else."""
    options = {
        "status": "optimal",
        "solver": "HiGHS",
        "teacher": "second",
        "student": "tiny",
        "strategy": "injection",
        "roles": (
            r.RoleChoice("teacher", None, 0, False, 0.0, 0.0),
            r.RoleChoice("train", None, 0, False, 0.0, 0.0),
            r.RoleChoice("serve", server, 1, False, 24.0, 2.16),
        ),
        "accuracy": r.Interval(0.9, 0.8, 1.0),
        "usd": 2.16,
        "hours": 0.1,
        "latency_ms": 20.0,
        "objective": "balanced",
        "frontier": (),
        "n_frontier": 0,
        "alternatives": {},
        "reasons": (),
        "left_out": {},
        "warnings": (),
        "n_offers": 1,
        "price_dates": ("2026-05-01", "2026-05-01"),
        "seconds": 0.1,
        "net_usd": 0.0,
    }
    return r.Plan(**{**options, **changes})


def tiny_corpus(folder: Path, task: Larger) -> r.Corpus:
    """The training items as a corpus file in `folder`."""
    items = task.items("train", 100)
    rows = [{**asdict(item), "completion": task.completion(item)} for item in items]
    path = folder / "corpus.jsonl"
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return r.Corpus(
        task=task.name,
        strategy="injection",
        path=str(path),
        n_items=len(items),
        n_by_slice={"near": 15, "far": 25},
        refused={"duplicate": 3},
        answer_sizes={},
        items_per_s=1000.0,
        sha256="0" * 64,
        seconds=0.1,
        cpu_seconds=0.1,
    )


def tiny_trained(folders: tuple[Path, Path]) -> r.Student:
    """The student that lies in the folders of `make_students`."""
    return r.Student(
        name="tiny",
        path=str(folders[0]),
        untouched_path=str(folders[1]),
        n_params=20_000,
        steps=150,
        train_tokens=150_000,
        best_step=150,
        validation_exact=1.0,
        n_validation_items=20,
        n_validation_reused=0,
        n_choosing_items=20,
        best_exact=1.0,
        curve=(),
        weights_sha256="0" * 64,
        seconds=1.0,
        cpu_seconds=1.0,
    )
