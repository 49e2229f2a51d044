"""What no single field can say: settings that exclude each other, and files that are not there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from stratos.config import Config

_FILE_SUFFIXES = (".csv", ".parquet", ".jsonl", ".json", ".gguf", ".txt")


def impossible(config: Config) -> list[str]:
    """Return every combination of settings that cannot be run together."""
    problems: list[str] = []
    if not config.stages:
        problems.append("stages=[]: there is nothing to do.")
    trainer, probe, evaluate = config.trainer, config.probe, config.evaluate
    if probe.n_trial_items > probe.n_items:
        problems.append(
            f"probe.n_trial_items={probe.n_trial_items} is more than "
            f"probe.n_items={probe.n_items}, of which they are the first."
        )
    if evaluate.n_teacher_items > evaluate.n_items:
        problems.append(
            f"evaluate.n_teacher_items={evaluate.n_teacher_items} is more than "
            f"evaluate.n_items={evaluate.n_items}, of which they are a part."
        )
    for student in config.students:
        if student.path is not None:
            continue
        if student.hidden_size % student.n_heads:
            problems.append(
                f"student {student.name}: hidden_size={student.hidden_size} is no multiple of "
                f"n_heads={student.n_heads}."
            )
        if student.context_length > trainer.batch_tokens:
            problems.append(
                f"trainer.batch_tokens={trainer.batch_tokens} is less than one document of student "
                f"{student.name} may have (context_length={student.context_length})."
            )
    names = [strategy.name for strategy in config.strategies]
    if names == ["injection"] and not config.task.can_reverse:
        problems.append(
            f"strategy=injection: the task {config.task.name} cannot build a question from an "
            "answer. Type strategy=alignment, or strategy=auto."
        )
    weights = config.objective
    if weights.name == "balanced" and not (
        weights.weight_accuracy + weights.weight_latency + weights.weight_time + weights.weight_cost
    ):
        problems.append("objective=balanced: at least one of the four weights must be above 0.")
    for field, group in (("teachers", "teacher"), ("students", "student")):
        seen = [one.name for one in getattr(config, field)]
        for name in sorted({name for name in seen if seen.count(name) > 1}):
            problems.append(f"{group}: two candidates are named {name}; names must differ.")
    return problems


def local_files(node: Any, key: str = "") -> Iterator[tuple[str, Path]]:
    """Yield (key, path) of every value that names a file of this machine to be read."""
    if isinstance(node, Mapping):
        for name, value in node.items():
            inner = f"{key}.{name}" if key else str(name)
            # Below `paths` lie the folders that a run writes to; those need not be there.
            if not inner.startswith("paths.") or inner == "paths.records_from":
                yield from local_files(value, inner)
    elif isinstance(node, list | tuple):
        for value in node:
            yield from local_files(value, key)
    elif isinstance(node, str) and _names_a_file(key.rpartition(".")[2], node):
        yield key, Path(node.removeprefix("file://")).expanduser()


def missing_files(plain: Mapping[str, Any]) -> list[str]:
    """Return a problem for every local file that the config names and that is not there."""
    return [
        f"{key}={path}: there is no such file or folder."
        for key, path in local_files(plain)
        if not path.exists()
    ]


def _names_a_file(key: str, value: str) -> bool:
    """Tell a path from a hub name ("org/model") and from a URL of another file system."""
    if not (key in ("path", "catalog", "records_from") or key.endswith(("_path", "_file"))):
        return False
    if value.startswith("file://"):
        return True
    if "://" in value:
        return False
    return (
        key == "records_from" or value.startswith((".", "/", "~")) or value.endswith(_FILE_SUFFIXES)
    )
