"""A small corpus of the Mahjong task and what the distill stage is handed."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from stratos.config import CallbacksConfig, EvaluateConfig, StudentConfig, TrainerConfig
from stratos.context import Context
from stratos.ledger import Ledger
from stratos.tasks.mahjong import MahjongTask

TINY = StudentConfig("tiny", hidden_size=32, n_layers=2, n_heads=2, intermediate_size=64)


@pytest.fixture(scope="session")
def corpus_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    task = MahjongTask()
    items = list(task.reverse(200))
    path = tmp_path_factory.mktemp("corpus") / "train.parquet"
    table = {
        "question": [item.question for item in items],
        "completion": [task.completion(item) for item in items],
    }
    pq.write_table(pa.table(table), path)
    return path


@pytest.fixture
def run_distill(corpus_path: Path) -> Callable[..., Any]:
    """Return a function that runs the stage in a folder."""

    def run(
        folder: Path, fingerprint: str = "f", warnings: list[str] | None = None, **trainer: Any
    ) -> Any:
        from stratos.distill import distill

        settings = {"max_tokens": 30_000, "batch_tokens": 2000, "warmup_steps": 3, **trainer}
        config = SimpleNamespace(
            students=(TINY,),
            task=MahjongTask(),
            trainer=TrainerConfig(**settings),
            callbacks=CallbacksConfig(
                checkpoint_every_steps=4, validate_every_steps=0, n_validation_items=2
            ),
            evaluate=EvaluateConfig(max_new_tokens=8, batch_size=2),
            seed=3,
        )
        context = Context(
            folder,
            folder,
            Ledger(folder / "ledger.jsonl"),
            warn=(warnings if warnings is not None else []).append,
            fingerprint=fingerprint,
        )
        plan, corpus = SimpleNamespace(student="tiny"), SimpleNamespace(path=str(corpus_path))
        return distill(config, plan, corpus, context)  # type: ignore[arg-type]

    return run
