"""Build a typed `Config` from the composed groups, and report all errors at once.

Each key of each group is compared with the field of its dataclass: a known name, the right type,
inside its bounds. Groups whose choices differ in code name a class of their own with `_target_`;
config is code, so such a class must lie under an allowed prefix.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from stratos import config as schema
from stratos.cli.rules import impossible, missing_files
from stratos.config import STAGES, Config, StudentConfig
from stratos.core.errors import ConfigError, did_you_mean
from stratos.core.extensions import room_configs
from stratos.core.foreign import beside, why_unreadable
from stratos.core.reasons import Reason
from stratos.core.redact import learn, redact, resolved
from stratos.core.trust import find_class, untrusted
from stratos.core.values import read_dataclass, read_target, read_value, show, wrong_names
from stratos.executors.job import why_no_executor
from stratos.models.kinds.student_kinds import KINDS
from stratos.plan.payback import with_horizon
from stratos.synthesize.choice import with_declared
from stratos.tasks.base import Task, why_no_task
from stratos.tasks.file_report import LEAST, with_labels
from stratos.teachers.base import Nobody, Teacher, on_task, why_no_teacher


def suited(config: Config) -> Config:
    """Return the config with the teachers and students that its task takes."""
    students = _students(config.students, config.task)
    students = tuple(each for student in students for each in student.offered)
    return replace(config, students=students, teachers=_teachers(config))


def _students(students: Sequence[StudentConfig], task: Task) -> tuple[StudentConfig, ...]:
    if len(students) == 1:
        return tuple(students)
    able = tuple(
        student
        for student in students
        if KINDS[student.kind].does(task) and not (student.is_lm and task.has_labels)
    )
    if task.has_rows and task.vocabulary() is None:
        able = tuple(student for student in able if not student.is_lm or student.path is not None)
    return able or tuple(students)


def _teachers(config: Config) -> tuple[Teacher, ...]:
    """Return the teachers of a run: none that nobody named, where rows have their answers."""
    from stratos.synthesize.choice import supervises  # with its package: it takes time

    teachers, task = on_task(config.teachers, config.task), config.task
    learns_rows = task.has_rows and supervises(config.strategies, config.complexity)
    if len(config.teachers) == 1 or not learns_rows:
        return teachers
    if task.takes_unlabelled:
        return (*teachers, Nobody())  # where no teacher labels rows well enough, none is asked more
    return (Nobody(), *(teacher for teacher in teachers if teacher.is_measured))


# A field of `Config` that is a dataclass of `stratos.config` is the group of its name.
GROUPS: dict[str, type] = {
    field.name: getattr(schema, str(field.type))
    for field in dataclasses.fields(Config)
    if str(field.type).endswith("Config")
} | dict(room_configs())
CANDIDATES = {"teacher": "teachers", "student": "students", "strategy": "strategies"}
"""Groups of which a run takes one or several, and the field of `Config` that they become."""
NO_TASK = "Pick a task: +task=<name>."
_MOST_SHOWN = 3
"""Alternatives that a message lists."""
_LABELS = "pseudo_labels"
"""Strategy by which a teacher labels rows."""
_NO_DEFAULT = object()
_MOST_INSTRUCTION_BYTES = 1_000_000
_MISSING = "???"
"""What stands for a value that has to be given."""
TARGETS = ("task", "executor")
"""Groups of which a run takes one, and whose choices name a class of their own."""
KEYS = (*TARGETS, *CANDIDATES, *GROUPS, "stages", "seed")


def build(composed: DictConfig) -> Config:
    """Return the typed config of a run.

    Raises:
        ConfigError: something is wrong with it; the message lists everything that is.
    """
    config, problems = read(composed)
    if config is None:
        raise ConfigError(listing(problems))
    return config


def listing(problems: list[str]) -> str:
    """Return the problems of a config as one message."""
    if len(problems) == 1:
        return problems[0]
    return "\n".join(
        [f"{len(problems)} problems in the configuration:"] + [f"  {p}" for p in problems]
    )


def read(composed: DictConfig) -> tuple[Config | None, list[str]]:
    """Return the typed config, or None and everything that is wrong with the composed one."""
    problems: list[str] = []
    _watch_environment()
    plain = _resolve(composed, problems)
    learn(plain)
    problems += untrusted({**plain, "hydra": _of_hydra(composed)})
    problems += wrong_names(plain)
    values: dict[str, Any] = {}
    rooms: dict[str, Any] = {group: cls() for group, cls in room_configs().items()}
    if read_dataclass(plain.get("complexity"), schema.ComplexityConfig, "complexity", []):
        plain = with_declared(plain)
    plain = _with_labels(_with_instruction(plain, problems), problems)
    for key, node in plain.items():
        if key not in KEYS:
            problems.append(f"{key}: there is no such key.{did_you_mean(key, KEYS)}")
        elif key in room_configs():
            rooms[key] = read_dataclass(node, GROUPS[key], key, problems)
        elif key in GROUPS:
            values[key] = read_dataclass(node, GROUPS[key], key, problems)
        elif key in CANDIDATES:
            values[CANDIDATES[key]] = _read_candidates(node, key, problems)
        elif key in TARGETS:
            node = _without_path(node) if key == "task" else node
            values[key] = _read_target(node, key, problems)
    if plain.get("seed") is None:
        plain = {**plain, "seed": 0}
    values["seed"] = read_value(plain["seed"], schema.Seed, "seed", problems)
    values["stages"] = _read_stages(plain.get("stages", STAGES), problems)
    for key in (*TARGETS, *CANDIDATES, *GROUPS):
        is_reported = any(
            problem.startswith((f"{key}.", f"{key}:", f"{key} ")) for problem in problems
        )
        # A run that was made without a room has no group of its; the defaults are what it did.
        node = plain.get(key, {} if key in room_configs() else None)
        if node is None and not is_reported:
            problems.append(NO_TASK if key == "task" else f"{key} is missing.")
    told_of = "\n".join(problems)
    problems += [
        missing for missing in missing_files(plain) if missing.partition("=")[2] not in told_of
    ]
    if problems:
        return None, list(dict.fromkeys(problems))
    config = Config(**values, rooms=rooms, plain=redact(_with_name(plain, values["teachers"])))
    config = with_horizon(suited(config))
    problems += impossible(config)
    return (None, problems) if problems else (config, [])


def _with_labels(plain: dict[str, Any], problems: list[str]) -> dict[str, Any]:
    """Return the plain config; a file without answers takes the labels in the table beside it."""
    task, strategy, teacher = (plain.get(key) or {} for key in ("task", "strategy", "teacher"))
    if not all(isinstance(node, Mapping) for node in (task, strategy, teacher)):
        return plain
    key, labelling = "strategy", strategy
    if (candidates := strategy.get("candidates")) is not None:
        key, labelling = f"strategy.candidates.{_LABELS}", candidates.get(_LABELS, {})
    least = labelling.get("min_coverage")
    least = LEAST if least is None else least
    is_taught = "candidates" not in teacher
    try:
        labelled = with_labels(task, least, f"{key}.min_coverage", is_taught=is_taught)
        return {**plain, "task": labelled} if task else plain
    except ConfigError as error:
        problems.append(f"task: {error}")
        return {key: node for key, node in plain.items() if key != "task"}


def _with_instruction(plain: dict[str, Any], problems: list[str]) -> dict[str, Any]:
    """Return the plain config with the text of `task.instruction_path` as the instruction."""
    node = plain.get("task")
    if not isinstance(node, Mapping) or "instruction_path" not in node:
        return plain
    path = node["instruction_path"]
    if path is None:
        return {**plain, "task": _without_path(node)}
    key = f"task.instruction_path={path}"
    text = ""
    try:
        file = Path(path).expanduser()
        if reason := why_unreadable(file):
            problems.append(f"{key}: {reason}.{beside(file)}")
        elif (n := file.stat().st_size) > _MOST_INSTRUCTION_BYTES:
            problems.append(
                f"{key}: the file has {n / 1e6:,.3g} MB, and an instruction has at most "
                f"{_MOST_INSTRUCTION_BYTES / 1e6:g}. Rows are named with task.path."
            )
        elif not (text := file.read_text(encoding="utf-8-sig").strip()):
            problems.append(f"{key}: the file is empty.")
        elif "\0" in text:
            problems.append(f"{key}: expected a file of UTF-8 text (it has NUL bytes).")
    except (OSError, TypeError, UnicodeDecodeError) as error:
        problems.append(f"{key}: expected a file of UTF-8 text ({error}).")
    # The path of what was read stays: a job on another machine reads it, too.
    return {**plain, "task": {**(node if text else _without_path(node)), "instruction": text}}


def _without_path(node: Any) -> Any:
    """Return a task without what is read here, and no field of its class."""
    if not isinstance(node, Mapping):
        return node
    return {key: value for key, value in node.items() if key != "instruction_path"}


def _with_name(plain: dict[str, Any], teachers: Sequence[Teacher]) -> dict[str, Any]:
    """Return the plain config with the name of a teacher that takes its model's: trackers read it.

    Args:
        plain: the config.
        teachers: made of it.
    """
    node = plain["teacher"]
    if "candidates" in node or node.get("name") is not None or len(teachers) != 1:
        return plain
    return {**plain, "teacher": {**node, "name": teachers[0].name}}


def schema_of(composed: DictConfig, where: str) -> type | None:
    """Return the dataclass whose fields are the keys of a node, if it has one."""
    group = where.partition(".")[0]
    if where in GROUPS:
        return GROUPS[where]
    return _class_of(group, OmegaConf.select(composed, where))


def of_each(group: str, candidates: Mapping[Any, Any], key: str) -> list[str]:
    """Return where a key is set of each of several candidates that have it, as it is typed."""
    classes = []
    for name, node in candidates.items():
        made_as = _class_of(group, node)
        if made_as is not None and key in {field.name for field in dataclasses.fields(made_as)}:
            plus = "" if key in node else "+"
            classes.append(f"{plus}{group}.candidates.{name}.{key}")
    return classes


def any_of(typed: list[str]) -> str:
    """Return alternatives of what to type; of many candidates' keys, the first few."""
    more = " (or the same key of another candidate)" if len(typed) > _MOST_SHOWN else ""
    return " or ".join(typed[:_MOST_SHOWN]) + more


def _class_of(group: str, node: Any) -> type | None:
    """Return the dataclass that one choice of a group becomes, if it is one."""
    if not isinstance(node, Mapping | DictConfig):
        return None
    if group == "student":
        return schema.StudentConfig if "name" in node else None
    target = node.get("_target_")
    target_class = find_class(target) if target is not None else None
    return target_class if isinstance(target_class, type) else None


def _resolve(composed: DictConfig, problems: list[str]) -> dict[str, Any]:
    """Return plain dicts and lists, with required keys and dead interpolations reported."""
    plain: dict[str, Any] = {}
    for key in composed:
        if key == "hydra" or OmegaConf.is_missing(composed, key):
            continue
        try:
            node = composed[key]
            plain[str(key)] = (
                OmegaConf.to_container(node, resolve=True) if OmegaConf.is_config(node) else node
            )
        except OmegaConfBaseException as error:
            where = str(error.full_key or key)
            problems.append(f"{where}: {str(error).splitlines()[0]}")
    return _without_missing(plain, "", problems)


def _watch_environment() -> None:
    """Let the redaction know which variables of the environment a config takes values from."""

    def env(variable: str, default: Any = _NO_DEFAULT, *, _node_: Any) -> Any:
        if variable in os.environ:
            value = os.environ[variable]
            resolved(variable, value, str(_node_._get_full_key(None)))
            return value
        if default is _NO_DEFAULT:
            raise KeyError(f"Environment variable '{variable}' not found")
        return None if default is None else str(default)

    OmegaConf.register_new_resolver("oc.env", env, replace=True)


def _of_hydra(composed: DictConfig) -> Any:
    """Return Hydra's own part of the config, as far as it can be resolved: jobs have more of it."""
    if "hydra" not in composed:
        return {}
    plain = OmegaConf.to_container(composed.hydra, resolve=False)

    def resolved(node: Any, where: str) -> Any:
        if isinstance(node, dict):
            return {key: resolved(value, f"{where}.{key}") for key, value in node.items()}
        if isinstance(node, list):
            return [resolved(item, f"{where}[{index}]") for index, item in enumerate(node)]
        if isinstance(node, str) and "${" in node:
            with contextlib.suppress(Exception):  # a missing value, a name that is none
                return OmegaConf.select(composed, where)
        return node

    return resolved(plain, "hydra")


def _without_missing(node: dict[str, Any], where: str, problems: list[str]) -> dict[str, Any]:
    """Drop keys that still have to be given, and report each as that."""
    present = {}
    for key, value in node.items():
        if value == _MISSING:
            problems.append(f"{where}{key} is required: give it with {where}{key}=…")
        elif isinstance(value, dict):
            present[key] = _without_missing(value, f"{where}{key}.", problems)
        else:
            present[key] = value
    return present


def _read_stages(value: Any, problems: list[str]) -> tuple[str, ...]:
    stages = read_value(value, tuple[str, ...], "stages", problems) or ()
    for stage in filter(None, stages):
        if stage not in STAGES:
            problems.append(
                f"stages: there is no stage {show(stage)}.{did_you_mean(stage, STAGES)} "
                f"Known: {', '.join(STAGES)}."
            )
    return tuple(stage for stage in STAGES if stage in stages)


def _read_candidates(node: Any, group: str, problems: list[str]) -> tuple[Any, ...]:
    """Read a group of which a run takes one choice, or several under `candidates`."""
    if not isinstance(node, Mapping):
        problems.append(f"{group}={show(node)}: expected a choice of this group.")
        return ()
    nodes = {group: node}
    if "candidates" in node:
        if not isinstance(node["candidates"], Mapping):
            problems.append(
                f"{group}.candidates={show(node['candidates'])}: expected a mapping of names to "
                f"choices of {group}."
            )
            return ()
        for key in (key for key in node if key != "candidates"):
            places = of_each(group, node["candidates"], key)
            typed = any_of([f"{path}={show(node[key])}" for path in places])
            problems.append(
                f"{group}.{key}: there is no such key next to {group}.candidates."
                + (f" Type {typed}" if typed else "")
            )
        nodes = {
            f"{group}.candidates.{name}": candidate
            for name, candidate in node["candidates"].items()
        }
        if not nodes:
            problems.append(f"{group}.candidates is empty.")
    if group == "student":
        made = [read_dataclass(n, schema.StudentConfig, w, problems) for w, n in nodes.items()]
    else:
        made = [_read_target(n, w, problems) for w, n in nodes.items()]
    return tuple(built for built in made if built is not None)


def _read_target(node: Any, where: str, problems: list[str]) -> Any:
    """Make an instance of the class that `_target_` names."""
    group = where.partition(".")[0]
    if not isinstance(node, Mapping) or "_target_" not in node:
        problems.append(f"{where}._target_ is required: the class of this {group}.")
        return None
    from stratos.synthesize.strategy import why_no_strategy  # with its package: it takes time

    why_not: dict[str, Callable[[type], Reason | None]] = {
        "task": why_no_task,
        "teacher": why_no_teacher,
        "executor": why_no_executor,
        "strategy": why_no_strategy,
    }
    made = read_target(node, where, problems, why_not[group])
    if isinstance(made, Task) and not made.name:
        problems.append(f"{where}.name: give the task a name, for tables and records.")
    return made
