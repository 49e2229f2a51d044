"""What a stage gets besides config and records: folders, ledger, progress and warnings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stratos.core.chunk_engine import Engine, Here

if TYPE_CHECKING:
    from stratos.ledger import Ledger


def unsaid(*values: Any, **named: Any) -> None:
    """Say nothing."""


@dataclass(frozen=True)
class Context:
    """Handed to every stage by the pipeline."""

    run_dir: Path
    """Folder of the run; a stage writes its big files here."""
    cache_dir: Path
    """Folder shared by runs; content-addressed."""
    ledger: Ledger
    """What was spent so far; every paid call is reserved and settled here."""
    tick: Callable[..., None] = field(default=unsaid)
    """Progress of the stage: tick(done, total, text="")."""
    warn: Callable[[str], None] = field(default=unsaid)
    """Say something that the user should read; kept and shown at the end too."""
    log: Callable[..., None] = field(default=unsaid)
    """Metrics for the tracker: log({"name": value}, step=None)."""
    fingerprint: str = ""
    """What the stage's inputs are: a checkpoint made from others must not be gone on from."""
    note: Callable[[str], None] = field(default=unsaid)
    """Say something that explains what happens next; shown and not kept."""
    spent_seconds: float = 0.0
    """What the stages before this one took: `limits.deadline_hours` is for all of them."""
    answers_dir: Path | None = None
    """Where answers of hosted teachers are kept beside the cache; None where the folder of the run
    has no copy."""
    engine: Engine = field(default_factory=Here)
    """Where work is done that is the same wherever it is done."""
