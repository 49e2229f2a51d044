"""What the stages of a run share: its config, its money, and the records that there are by now."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from stratos.config import Config
from stratos.executors import handed
from stratos.executors.handed import Handed
from stratos.ledger import Ledger
from stratos.records import Plan
from stratos.run import resume
from stratos.run.console import Console
from stratos.run.kept_warnings import Warnings
from stratos.run.resume import Stage
from stratos.run.selected_stages import asked_stages
from stratos.tracking.tracker import Tracker


@dataclass
class RunState:
    """A run in this process."""

    config: Config
    stages: Sequence[Stage[Any]]
    """All that there are, in order."""
    console: Console
    """Says what happens."""
    tracker: Tracker
    """Keeps metrics."""
    warnings: Warnings
    """Keeps what the user should read."""
    job: Handed | None = None
    """What this process was handed, where another one holds the run."""
    asked: frozenset[str] = field(init=False)
    """Stages that are asked for, and those that come with one of them."""
    ledger: Ledger = field(init=False)
    records: dict[str, Any] = field(default_factory=dict)
    """By stage: made now, or read."""
    marks: dict[str, str] = field(default_factory=dict)
    """Fingerprints of the records, by stage."""

    def __post_init__(self) -> None:
        folder = self.config.run_dir
        self.asked = asked_stages(self.config, self.stages)
        is_alone = self.job is None and not handed.is_any(folder)
        budget_usd = self.config.limits.budget_usd
        self.ledger = Ledger(folder / "ledger.jsonl", budget_usd, is_alone=is_alone)

    @property
    def plan(self) -> Plan | None:
        """The plan, once there is one."""
        return self.records.get("plan")

    def fingerprint(self, stage: Stage[Any], own: Any) -> str:
        """Return the fingerprint of all that a stage's record rests on.

        Args:
            stage: whose record it is.
            own: that record, where there is one.
        """
        return resume.fingerprint(stage, self.config, self.records, self.marks, own)

    def inputs(self, stage: Stage[Any], own: Any) -> dict[str, str]:
        """Return the same by key, so that a difference can be named."""
        return resume.named(resume.inputs_of(stage, self.config, self.records, self.marks, own))

    def inputs_now(self, stage: Stage[Any]) -> dict[str, str]:
        """Return them for the record that lies in the run folder."""
        kept = resume.find(stage, self.config.run_dir)
        return self.inputs(stage, None if kept is None else kept.record)
