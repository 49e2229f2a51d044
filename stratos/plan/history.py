"""Past runs of this machine: what came of the same training when it was really done.

A run folder speaks for a pair if its scorecard is newer than the records that it rests on, and if
the run had the same task, student, strategy and optimizer settings as the one that is planned; its
training tokens and its seed may differ. Accuracies are those of past test splits: facts about
finished runs. Nothing of the planned run's own test split is read.
"""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import date
from functools import lru_cache
from pathlib import Path
from typing import Any

import msgspec
import yaml

from stratos import records
from stratos.config import Config, StudentConfig
from stratos.declared import with_declared
from stratos.records import CardRun, Interval, Plan

FOLDERS = (Path("outputs"), Path("sweeps"))
"""Where runs lie, relative to where the command is given."""
MAX_RUNS = 50
"""Newest runs that are kept of each student and strategy."""
_DEEPEST = 6
"""Levels below a folder at which a run may lie."""
_LEARNING = ("batch_tokens", "lr_muon", "lr_adamw", "weight_decay", "clip_norm")
"""Keys of `trainer` that shape what is learnt from the same tokens."""
_BLOCK = re.compile(
    r"^(?:task|complexity|student|strategy|trainer|seed):.*\n(?:[ -].*\n)*", re.MULTILINE
)
"""Top-level blocks of a composed config; the rest need not be parsed."""


def history_for(config: Config, run_dir: Path) -> tuple[CardRun, ...]:
    """Return the past runs that a plan rests on.

    A plan that is made again in its folder sees the runs that its record names, so that what was
    finished in between does not change it.
    """
    if not config.plan.history:
        return ()
    try:
        before = records.load(run_dir / "plan.json", None, Plan)
    except (msgspec.DecodeError, UnicodeDecodeError):
        before = None
    if before is not None and before.history:
        return before.history
    return read_history(FOLDERS, config, run_dir)


def read_history(
    folders: Iterable[Path], config: Config, exclude: Path | None = None
) -> tuple[CardRun, ...]:
    """Return the runs in some folders that were trained as this config would train.

    Args:
        folders: where to look; one that is not there holds no runs.
        config: the run that is planned.
        exclude: folder of that run, which is left out.
    """
    wanted = {student.name: _wanted(config, student) for student in config.students}
    itself = None if exclude is None else exclude.resolve()
    found: dict[tuple[str, str], list[tuple[str, str, CardRun]]] = defaultdict(list)
    for folder in (path for root in folders for path in _run_folders(root)):
        try:
            run = _read(folder)
            if run.task != config.task.name or run.student not in wanted:
                continue
            past, seed = _recipe(folder, run.student)
        except (OSError, UnicodeDecodeError, msgspec.MsgspecError, yaml.YAMLError, ValueError):
            continue
        same = past.same_but_strategy(wanted[run.student]) and (
            past.strategies.get(run.strategy) == wanted[run.student].strategies.get(run.strategy)
        )
        if same and folder.resolve() != itself:
            found[run.student, run.strategy].append(
                (run.date, str(folder), replace(run, seed=seed))
            )
    return tuple(run for pair in sorted(found) for *_, run in sorted(found[pair])[-MAX_RUNS:])


def _run_folders(root: Path, depth: int = 0) -> Iterator[Path]:
    """Yield the folders of runs that were evaluated, and look into no run any deeper."""
    try:
        with os.scandir(root) as entries:
            found = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]
    except OSError:
        return
    names = {name for name, _ in found}
    if "evaluate.json" in names:
        yield root
    elif ".hydra" not in names and depth < _DEEPEST:
        for name, is_folder in found:
            if is_folder:
                yield from _run_folders(root / name, depth + 1)


# --- the records, as far as they matter here ------------------------------------------------------


@dataclass(frozen=True)
class _Plan:
    student: str
    strategy: str


@dataclass(frozen=True)
class _Student:
    name: str
    train_tokens: int
    cpu_seconds: float


@dataclass(frozen=True)
class _Slice:
    slice: str
    n_items: int
    exact: Interval


@dataclass(frozen=True)
class _Score:
    role: str
    name: str
    slices: tuple[_Slice, ...]
    output_tokens: int = 0


@dataclass(frozen=True)
class _Scorecard:
    task: str
    scores: tuple[_Score, ...]


@dataclass(frozen=True)
class _Deployment:
    latency_p50_ms: float


def _read(folder: Path) -> CardRun:
    """Return what a run came to.

    Raises:
        OSError, UnicodeDecodeError, msgspec.MsgspecError, ValueError: the folder holds no whole
            run, or records of different ones.
    """
    scored = folder / "evaluate.json"
    when = scored.stat().st_mtime_ns
    if any((folder / name).stat().st_mtime_ns > when for name in ("plan.json", "distill.json")):
        raise ValueError("the scorecard is older than what it would have to rest on")
    scorecard = _load(scored, _Scorecard)
    plan = _load(folder / "plan.json", _Plan)
    student = _load(folder / "distill.json", _Student)
    score = next((one for one in scorecard.scores if one.role == "student"), None)
    whole = next((one for one in score.slices if one.slice == "all"), None) if score else None
    if score is None or whole is None or not plan.student == student.name == score.name:
        raise ValueError("the records are not of one student")
    if not (0 <= whole.exact.mean <= 1 and whole.n_items > 0 and student.train_tokens > 0):
        raise ValueError("the numbers cannot be those of a run")
    try:
        latency = _load(folder / "deploy.json", _Deployment).latency_p50_ms
    except (OSError, msgspec.MsgspecError):
        latency = 0.0
    return CardRun(
        task=scorecard.task,
        strategy=plan.strategy,
        accuracy=whole.exact.mean,
        n_items=whole.n_items,
        train_tokens=student.train_tokens,
        tokens_per_answer=score.output_tokens / whole.n_items,
        ms_per_answer=latency,
        train_cpu_seconds=student.cpu_seconds,
        seed=0,
        date=date.fromtimestamp(when / 1e9).isoformat(),
        machine="this machine",
        accuracy_by_slice={one.slice: one.exact.mean for one in score.slices if one.slice != "all"},
        student=student.name,
    )


def _load(path: Path, kind: type[Any]) -> Any:
    """Read the record in an envelope; fields that `kind` does not name are passed over."""
    envelope = msgspec.json.decode(path.read_bytes(), type=records.Envelope)
    return msgspec.json.decode(envelope.record, type=kind)


# --- how a run was trained ------------------------------------------------------------------------


@dataclass(frozen=True)
class _Recipe:
    """What has to be equal for one run to speak for another."""

    task: Any
    student: StudentConfig
    strategies: dict[str, Any]
    learning: dict[str, Any]

    def same_but_strategy(self, other: _Recipe) -> bool:
        """Return whether all is equal but the strategies, of which a plan takes one."""
        return (self.task, self.student, self.learning) == (
            other.task,
            other.student,
            other.learning,
        )


def _wanted(config: Config, student: StudentConfig) -> _Recipe:
    plain = config.plain
    return _Recipe(
        task=plain.get("task"),
        student=_shape(student),
        strategies=_by_name(plain.get("strategy")),
        learning={key: getattr(config.trainer, key) for key in _LEARNING},
    )


def _recipe(folder: Path, student: str) -> tuple[_Recipe, int]:
    """Return how a run was trained, and its seed, from the config that Hydra kept.

    Raises:
        OSError, UnicodeDecodeError, yaml.YAMLError, msgspec.MsgspecError, ValueError: there is
            none, or it cannot be understood.
    """
    text = (folder / ".hydra" / "config.yaml").read_text(encoding="utf-8")
    blocks: dict[str, Any] = {}
    for block in _BLOCK.findall(text):
        blocks |= _parse(block)
    blocks = with_declared(blocks)
    nodes = _by_name(blocks.get("student"))
    if student not in nodes or not isinstance(blocks.get("seed"), int):
        raise ValueError("no such student, or no seed")
    trainer = blocks.get("trainer") or {}
    recipe = _Recipe(
        task=blocks.get("task"),
        student=_shape(msgspec.convert(nodes[student], StudentConfig)),
        strategies=_by_name(blocks.get("strategy")),
        learning={key: trainer.get(key) for key in _LEARNING},
    )
    return recipe, blocks["seed"]


@lru_cache(maxsize=1024)
def _parse(block: str) -> dict[str, Any]:
    """Parse a block of YAML; the runs of a sweep share most of theirs."""
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    parsed = yaml.load(block, Loader=loader)
    if not isinstance(parsed, dict):
        raise ValueError("no block of a config")
    return parsed


def _by_name(node: Any) -> dict[str, Any]:
    """Return the choices of a group by their names: one, or several under `candidates`."""
    if not isinstance(node, dict):
        return {}
    several = node.get("candidates")
    choices = list(several.values()) if isinstance(several, dict) else [node]
    return {str(one.get("name")): one for one in choices if isinstance(one, dict)}


def _shape(student: StudentConfig) -> StudentConfig:
    """Return a student without what does not change what it learns from the same tokens."""
    return replace(student, runs=(), license="", train_tokens=1)
