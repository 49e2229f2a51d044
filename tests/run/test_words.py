"""What a run says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from stratos.core.intervals import wilson
from stratos.run.words import (
    AsksOverNetwork,
    FileMissing,
    FolderMissing,
    FolderReplaced,
    LimitMissed,
    MoreMoney,
    NoServer,
    NothingDeployed,
    OtherTask,
)


def test_reasons_in_words(snapshot: Any) -> None:
    reasons = (
        OtherTask(Path("outputs/a"), "classify", "rows.csv", "hydra.run.dir"),
        OtherTask(Path("outputs/a"), "", "", "hydra.sweep.dir"),
        FolderMissing(), FolderReplaced(), FileMissing("plan.json"),
        AsksOverNetwork(("big", "small")), NothingDeployed(), NoServer(),
        MoreMoney(2.0, 20.0), MoreMoney(2.0, None),
        LimitMissed(0.9, wilson(89, 100), "", 0.89),
        LimitMissed(0.9, wilson(89, 100), "q4_k_m", 0.91),
        LimitMissed(0.9, wilson(89, 100), "q4_k_m", 0.8),
    )  # fmt: skip
    assert [f"{type(reason).__name__}: {reason}" for reason in reasons] == snapshot
