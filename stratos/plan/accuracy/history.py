"""Past runs on this machine as evidence for predicted accuracy.

A run folder speaks for a pair if its scorecard is newer than the records that it rests on, and if
the run had the same task, student, strategy and optimizer settings as the one that is planned, and
the same rows in the task's files; its training tokens and its seed may differ. What it speaks with
is the validation accuracy of its kept weights: a plan that rested on test scores would choose by
the items that it is then measured on.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from datetime import date
from functools import lru_cache
from pathlib import Path
from typing import Any

import msgspec
import yaml

from stratos import records
from stratos.config import Config, StudentConfig, TrainerConfig
from stratos.distill.trainer import learning_rates
from stratos.models.students import content_of
from stratos.plan.accuracy.learning_curve import without_optimism
from stratos.records import CardRun, CurvePoint, Interval, Plan, Student
from stratos.synthesize.choice import with_declared

FOLDERS = (Path("outputs"), Path("sweeps"))
"""Where runs lie, relative to where the command is given."""
MAX_RUNS = 50
"""Newest runs that are kept of each student and strategy."""
_DEEPEST = 6
"""Levels below a folder at which a run may lie."""
_LEARNING = (
    "batch_tokens", "optimizer", "lr_muon", "lr_adamw", "weight_decay", "clip_norm", "adapter",
)  # fmt: skip
"""Keys of `trainer` that shape what is learnt from the same tokens."""
_BLOCK = re.compile(
    r"^(?:task|complexity|student|strategy|trainer|seed):.*\n(?:[ -].*\n)*", re.MULTILINE
)
"""Top-level blocks of a composed config; the rest need not be parsed."""


def history_for(config: Config, run_dir: Path) -> tuple[CardRun, ...]:
    """Return the past runs that a plan rests on.

    A plan that is made again in its folder sees the runs that its record names, so that what was
    finished in between does not change it; unless it is for another task, student, strategy or
    training now, or for other rows.
    """
    if not config.plan.history:
        return ()
    try:
        before = records.load(run_dir / "plan.json", None, Plan)
    except (msgspec.DecodeError, UnicodeDecodeError):
        before = None
    if before is not None and before.history and before.history_recipe == recipe_of(config):
        return before.history
    return read_history(FOLDERS, config, run_dir)


def recipe_of(config: Config) -> str:
    """Return a digest of what a past run must share with this config to speak for it."""
    recipes = [_wanted(config, student) for student in config.students]
    return hashlib.sha256(repr([asdict(recipe) for recipe in recipes]).encode()).hexdigest()


def read_history(
    folders: Iterable[Path], config: Config, exclude: Path | None = None
) -> tuple[CardRun, ...]:
    """Return the runs in some folders that were trained as this config would train.

    Args:
        folders: where to look; one that is not there holds no runs.
        config: the run that is planned.
        exclude: folder of that run, which is left out.
    """
    recipes = {student.name: _wanted(config, student) for student in config.students}
    itself = None if exclude is None else exclude.resolve()
    runs: dict[tuple[str, str], list[tuple[str, str, CardRun]]] = defaultdict(list)
    for folder in (path for root in folders for path in _run_folders(root)):
        try:
            run, content = _read(folder)
            if run.task != config.task.name or run.student not in recipes:
                continue
            past, seed = _recipe(folder, run.student, content)
        except (OSError, UnicodeDecodeError, msgspec.MsgspecError, yaml.YAMLError, ValueError):
            continue
        if folder.resolve() == itself or not past.same_but_strategy(recipes[run.student]):
            continue
        for label in past.labels_of(run.strategy, recipes[run.student]):
            made = replace(run, strategy=label, seed=seed, task_version=config.task.version)
            runs[run.student, label].append((run.date, str(folder), made))
    return tuple(run for pair in sorted(runs) for *_, run in sorted(runs[pair])[-MAX_RUNS:])


def _run_folders(root: Path, depth: int = 0) -> Iterator[Path]:
    """Yield the folders of runs that were evaluated, and look into no run any deeper."""
    try:
        with os.scandir(root) as entries:
            children = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]
    except OSError:
        return
    names = {name for name, _ in children}
    if "evaluate.json" in names:
        yield root
    elif ".hydra" not in names and depth < _DEEPEST:
        for name, is_folder in children:
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
    validation_exact: float
    n_validation_items: int
    content: dict[str, str]
    n_validation_reused: int = 0
    n_choosing_items: int = 0
    curve: tuple[CurvePoint, ...] = ()
    computed: float = 1.0


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


def _read(folder: Path) -> tuple[CardRun, dict[str, str]]:
    """Return what a run came to, and the digests of what its student was trained with.

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
    score = next((score for score in scorecard.scores if score.role == "student"), None)
    whole = next((part for part in score.slices if part.slice == "all"), None) if score else None
    if score is None or whole is None or not plan.student == student.name == score.name:
        raise ValueError("the records are not of one student")
    shares = (whole.exact.mean, student.validation_exact)
    counts = (whole.n_items, student.n_validation_items, student.train_tokens)
    if not (all(0 <= share <= 1 for share in shares) and min(*counts, student.computed) > 0):
        raise ValueError("the numbers cannot be those of a run")
    try:
        latency = _load(folder / "deploy.json", _Deployment).latency_p50_ms
    except (OSError, msgspec.MsgspecError):
        latency = 0.0
    run = CardRun(
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
        accuracy_by_slice={
            part.slice: part.exact.mean for part in score.slices if part.slice != "all"
        },
        student=student.name,
        validation_accuracy=unbiased(student),
        n_validation_items=student.n_validation_items,
        computed=student.computed,
    )
    return run, student.content


def unbiased(student: Student | _Student) -> float:
    """Return the validation accuracy of a student without the optimism of its best weights."""
    tried = [point.exact for point in student.curve if point.exact is not None]
    reused = student.n_validation_reused / max(1, student.n_validation_items)
    return without_optimism(student.validation_exact, reused, tried, student.n_choosing_items)


def _load(path: Path, kind: type[Any]) -> Any:
    """Read the record in an envelope; fields that `kind` does not name are passed over."""
    envelope = records.opened(path.read_bytes())
    return msgspec.json.decode(envelope.record, type=kind)


# --- how a run was trained ------------------------------------------------------------------------


@dataclass(frozen=True)
class _Recipe:
    """What has to be equal for one run to speak for another."""

    task: Any
    student: StudentConfig
    strategies: dict[str, Any]
    """Label to the settings of a strategy, its label left out: that changes nothing."""
    learning: dict[str, Any]
    content: dict[str, str]
    """Digests of what the names in the config stand for."""

    def same_but_strategy(self, recipe: _Recipe) -> bool:
        """Return whether all is equal but the strategies, of which a plan takes one."""
        return replace(self, strategies={}) == replace(recipe, strategies={})

    def labels_of(self, label: str, recipe: _Recipe) -> list[str]:
        """Return what another recipe calls a strategy of this one; it may have several labels."""
        settings = self.strategies.get(label)
        return [name for name, strategy in recipe.strategies.items() if strategy == settings]


def _wanted(config: Config, student: StudentConfig) -> _Recipe:
    plain = config.plain
    return _Recipe(
        task=plain.get("task"),
        student=_shape(student),
        strategies=_without_labels(plain.get("strategy")),
        learning=_learning(config.trainer, student),
        content=content_of(config, student),
    )


def _recipe(folder: Path, student: str, content: dict[str, str]) -> tuple[_Recipe, int]:
    """Return how a run was trained, and its seed, from the config that Hydra kept.

    Args:
        folder: of the run.
        student: its name.
        content: digests of what the student was trained with, by its record.

    Raises:
        OSError, UnicodeDecodeError, yaml.YAMLError, msgspec.MsgspecError, ValueError: there is
            none, or it cannot be understood.
    """
    text = (folder / ".hydra" / "config.yaml").read_text(encoding="utf-8")
    blocks: dict[str, Any] = {}
    for block in _BLOCK.findall(text):
        blocks |= _parse(block)
    blocks = with_declared(blocks)
    own = _student_of(blocks.get("student"), student)
    if own is None or not isinstance(blocks.get("seed"), int):
        raise ValueError("no such student, or no seed")
    trainer = blocks.get("trainer") or {}
    known = {key: trainer[key] for key in _LEARNING if key in trainer}
    recipe = _Recipe(
        task=blocks.get("task"),
        student=_shape(own),
        strategies=_without_labels(blocks.get("strategy")),
        learning=_learning(msgspec.convert(known, TrainerConfig), own),
        content=content,
    )
    return recipe, blocks["seed"]


def _student_of(node: Any, name: str) -> StudentConfig | None:
    """Return a student of a config by its name: a choice, or one that a choice offers."""
    for choice, settings in _by_name(node).items():
        if name.startswith(choice):
            for student in msgspec.convert(settings, StudentConfig).offered:
                if student.name == name:
                    return student
    return None


def _learning(trainer: TrainerConfig, student: StudentConfig) -> dict[str, Any]:
    """Return what shapes what is learnt from the same tokens, the rule's numbers for open ones."""
    rates = learning_rates(trainer, student.path is None, student.hidden_size)
    return {**{key: getattr(trainer, key) for key in _LEARNING}, **asdict(rates)}


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
    return {str(choice.get("name")): choice for choice in choices if isinstance(choice, dict)}


def _without_labels(node: Any) -> dict[str, Any]:
    """Return the strategies by their labels, each without its own."""
    return {
        label: {key: value for key, value in strategy.items() if key != "name"}
        for label, strategy in _by_name(node).items()
    }


def _shape(student: StudentConfig) -> StudentConfig:
    """Return a student without what does not change what it learns from the same tokens."""
    return replace(student, runs=(), license="", train_tokens=1)
