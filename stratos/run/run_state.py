"""What the stages of a run share: its config, its money, its warnings, and the records by now."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from stratos.config import Config
from stratos.core.atomic_files import write_atomically
from stratos.executors import submission
from stratos.executors.submission import Submission
from stratos.ledger import Ledger
from stratos.records import Plan, from_json, to_json
from stratos.run import resume
from stratos.run.console import Console
from stratos.run.held_folder import HeldFolder
from stratos.run.resume import Stage
from stratos.tracking.tracker import Tracker


def asked_stages(config: Config, stages: Sequence[Stage[Any]]) -> frozenset[str]:
    """Return the stages that are asked for, and those that come with one of them."""
    parts = {one.name for one in stages if one.is_part_of in config.stages}
    return frozenset({*config.stages, *parts} - _switched_off(config, stages))


def needed_stages(config: Config, stages: Sequence[Stage[Any]]) -> frozenset[str]:
    """Return the stages that are asked for, and those whose records they take."""
    needed = set(asked_stages(config, stages))
    for stage in reversed(stages):
        if stage.name in needed:
            needed |= {*stage.after, *stage.uses}
    return frozenset(needed - _switched_off(config, stages))


def _switched_off(config: Config, stages: Sequence[Stage[Any]]) -> frozenset[str]:
    return frozenset(stage.name for stage in stages if not stage.is_on(config))


class Warnings:
    """What the user should read: said once, and kept by stage for the report and a resumed run."""

    def __init__(
        self, path: Path, say: Callable[[str], None], held: HeldFolder | None = None
    ) -> None:
        """Go on with the warnings that an earlier run left at `path`.

        Args:
            path: of the file.
            say: shows a warning.
            held: the run folder; nothing is written once it is gone.
        """
        self.path = path
        self._held = held
        self.stage = "start"
        self._say = say
        self._by_stage: dict[str, list[str]] = {}
        # A file that was cut short holds nothing worth stopping for.
        with contextlib.suppress(FileNotFoundError, msgspec.DecodeError):
            self._by_stage = from_json(path.read_bytes(), dict[str, list[str]])
        self._by_stage.pop("start", None)

    def begin(self, stage: str) -> None:
        """Forget what the last run of a stage warned of."""
        self.stage = stage
        self._by_stage.pop(stage, None)

    def add(self, text: str) -> None:
        """Say a warning, unless this stage said it already."""
        said = self._by_stage.setdefault(self.stage, [])
        if text not in said:
            said.append(text)
            self._say(text)
            if self._held is not None and self._held.is_gone():
                return
            write_atomically(self.path, to_json(self._by_stage))

    def all(self) -> list[str]:
        """Return every warning of the run, each once."""
        return list(dict.fromkeys(text for said in self._by_stage.values() for text in said))


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
    job: Submission | None = None
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
        is_alone = self.job is None and not submission.has_any(folder)
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
