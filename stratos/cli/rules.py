"""Cross-field config rules: settings that exclude each other, and missing files."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from glob import glob
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stratos.catalog.table import LOCAL
from stratos.cli.words import KindTwice, KindUnsuited, NoRunFolder
from stratos.config import (
    MIN_CONTEXT,
    CloudConfig,
    Config,
    EvaluateConfig,
    LimitsConfig,
    ProbeConfig,
    StudentConfig,
)
from stratos.core.context import engine_of
from stratos.core.errors import ConfigError, did_you_mean
from stratos.core.foreign import beside, why_unreadable
from stratos.core.formats import listed, shown
from stratos.core.reasons import Reason
from stratos.distill.tokenizer import SPECIAL
from stratos.distill.trainer import loses_layers, unusable
from stratos.models.kinds.student_kinds import KINDS, kinds_for
from stratos.plan.payback import MAX_SERVE_HOURS
from stratos.synthesize.choice import contradictions
from stratos.tasks.files import ROW_SUFFIXES, name_of
from stratos.teachers.base import FACTS
from stratos.tracking import sink

if TYPE_CHECKING:
    from stratos.synthesize.strategy import Strategy
    from stratos.teachers.base import Teacher

MAX_REQUESTS_PER_S = 1_000_000
"""More than all of the world's largest services answer with a model."""

MAX_PARAMS = 1e13
"""Parameters above which a size is a slip of the pen."""

LEAST_VOCABULARY = 256 + len(SPECIAL)
"""Tokens of a byte-level tokenizer that has learnt nothing."""

_OF_CLOUDS = ("regions", "residency", "marketplaces", "spot", "quotas", "catalog")
"""Keys of `cloud` that say something of rented servers alone."""

_FILE_SUFFIXES = (*ROW_SUFFIXES, ".gguf", ".txt")


def impossible(config: Config) -> list[str]:
    """Return every combination of settings that cannot be run together."""
    problems: list[str] = []
    if not config.stages:
        problems.append("stages=[]: there is nothing to do.")
    trainer, probe, evaluate = config.trainer, config.probe, config.evaluate
    if probe.n_trial_items > probe.n_items:
        problems.append(
            f"probe.n_trial_items={probe.n_trial_items} is more than "
            f"probe.n_items={probe.n_items}: the trial items are a part of them."
        )
    # The default is a ceiling for whoever asks few items; another value is somebody's word.
    if probe.n_items > probe.max_items != ProbeConfig.max_items:
        problems.append(
            f"probe.max_items={probe.max_items} is less than probe.n_items={probe.n_items}: the "
            "probe starts with these."
        )
    # The default is a ceiling, which fewer test items lower by themselves.
    if evaluate.n_items < evaluate.n_teacher_items != EvaluateConfig.n_teacher_items:
        problems.append(
            f"evaluate.n_teacher_items={evaluate.n_teacher_items} is more than "
            f"evaluate.n_items={evaluate.n_items}: the teacher's items are a part of them."
        )
    for student in config.students:
        unknown = [name for name in student.facts if name not in (*FACTS, "head_size")]
        if unknown:
            problems.append(
                f"student {student.name}: facts.{unknown[0]}: there is no such fact. Known: "
                f"{', '.join(FACTS)}, head_size."
            )
        if student.path is not None:
            continue
        problems += _own_size(student, config)
        if student.hidden_size % student.n_heads:
            problems.append(
                f"student {student.name}: hidden_size={student.hidden_size} is not a multiple of "
                f"n_heads={student.n_heads}."
            )
    problems += map(str, _kinds(config))
    problems += _too_long(config)
    problems += [*_limits(config), *_cloud(config), *_traffic(config)]
    declared = contradictions(config.task, config.strategies, config.complexity)
    problems += [*unusable(trainer), *declared, *_engine(config)]
    problems += [*_fits(config), *_signals(config), *_teachers(config), *_executor(config)]
    problems += _server(config)
    problems += [
        str(problem) for room in config.rooms.values() for problem in room.problems(config)
    ]
    problems += map(str, sink.unusable(config.logger))
    only = config.strategies[0] if len(config.strategies) == 1 else None
    if only is not None and only.makes_questions and not config.task.can_reverse:
        problems.append(
            f"strategy={only.kind}: the task {config.task.name} cannot build a question from an "
            "answer. Type strategy=alignment, or strategy=auto."
        )
    if only is not None and only.words_questions and not config.task.n_worded:
        problems.append(
            f"strategy.wording=teacher: the task {config.task.name} makes no questions that a "
            "teacher can word. Type strategy.wording=task."
        )
    if only is not None and only.learns_rows and not config.task.has_rows:
        problems.append(
            f"strategy={only.kind}: the task {config.task.name} has no labelled rows. Type "
            "strategy=auto."
        )
    elif only is not None and only.labels_rows and not config.task.n_unlabelled:
        problems.append(
            f"strategy={only.kind}: the task {config.task.name} has no rows without answers. "
            f"{config.task.how_to_label}, or type strategy=supervised."
        )
    groups: dict[str, tuple[Teacher | StudentConfig | Strategy, ...]] = {
        "teacher": config.teachers,
        "student": config.students,
        "strategy": config.strategies,
    }
    for group, ones in groups.items():
        seen = [candidate.name for candidate in ones]
        for name in sorted({name for name in seen if seen.count(name) > 1}):
            problems.append(f"{group}: two candidates are named {name}; names must differ.")
    return problems


def _kinds(config: Config) -> Iterator[Reason]:
    """Yield students of a kind that does not do the task, or of which there are two."""
    kinds = [student.kind for student in config.students if not student.is_lm]
    able = kinds_for(config.task) if kinds else ()
    for student in config.students if config.task.is_here else ():
        if not (named := KINDS[student.kind]).does(config.task):
            yield KindUnsuited(student.name, named.name, named.answers, config.task.name, able)
    for kind in sorted({kind for kind in kinds if kinds.count(kind) > 1}):
        yield KindTwice(kind)


def _teachers(config: Config) -> Iterator[str]:
    """Yield hosted teachers that cannot be paid or asked; of several, retired ones are left out."""
    if not {"probe", "plan", "synthesize"} & set(config.stages):
        return
    from stratos.teachers.openai import OpenAITeacher
    from stratos.teachers.openai_settings import no_price, retired

    hosted = [teacher for teacher in config.teachers if isinstance(teacher, OpenAITeacher)]
    for teacher in hosted:
        reasons = [no_price(teacher), retired(teacher) if len(config.teachers) == 1 else None]
        yield from (f"teacher {teacher.name}: {reason}" for reason in reasons if reason)


def _own_size(student: StudentConfig, config: Config) -> Iterator[str]:
    """Yield sizes of a student of random weights that no machine or tokenizer can have."""
    width = student.hidden_size
    block = 4 * width * width + 3 * width * student.intermediate_size
    n_params = student.n_layers * block + student.vocab_size * width
    if n_params > MAX_PARAMS:
        yield (
            f"student {student.name}: n_layers={student.n_layers:,} of hidden_size={width:,} are "
            f"about {n_params:.3g} parameters; no model has more than {MAX_PARAMS:.0g}."
        )
    if config.task.vocabulary() is None and student.vocab_size < LEAST_VOCABULARY:
        yield (
            f"student {student.name}: vocab_size={student.vocab_size} is less than the "
            f"{LEAST_VOCABULARY} tokens that every text needs: one for each byte, and the special "
            "tokens of a chat."
        )


def _fits(config: Config) -> Iterator[str]:
    """Yield the students that are to be cut, and start from nothing that can be."""
    for student in config.students:
        if student.fit.vocabulary == "auto":
            yield (
                f"student {student.name}: fit.vocabulary=auto has the plan choose between a "
                "language model as it is and with its vocabulary cut, and this is none that starts "
                "from one. Leave it out"
                f"{', or type true' if student.has_vocabulary else ''}."
            )
        wrong = {
            "vocabulary": student.fit.share is not None and not student.has_vocabulary,
            "depth": bool(student.fit.depth) and not (student.is_lm and student.path is not None),
        }
        for key in (key for key, is_wrong in wrong.items() if is_wrong):
            yield (
                f"student {student.name}: fit.{key} cuts a model that a student starts from, and "
                "it starts from none that can be. Leave it out, or type student=local "
                "student.path=<folder>."
            )
        if student.fit.depth and not wrong["depth"] and not loses_layers(config.trainer, student):
            yield (
                f"student {student.name}: fit.depth removes layers once the student is trained, "
                "which is built for one process and weights that are not in 4 bits. Type "
                "student.fit.depth=false, or trainer.devices=1 trainer.num_nodes=1 and another "
                "trainer.adapter than qlora."
            )


def _signals(config: Config) -> Iterator[str]:
    """Yield what a strategy may not ask of a teacher's signal."""
    for strategy in config.strategies:
        if (signal := strategy.signal) is None:
            continue
        try:
            signal.check()
        except ConfigError as error:
            yield str(error)
        # The whole one of both that `fit.vocabulary=auto` offers has them.
        cut = [] if any(s.fit.share is None for s in config.students) else [*config.students]
        if cut and len(config.strategies) == 1 and not signal.reads_any_tokens:
            yield (
                f"strategy={strategy.name}: the student {cut[0].name} has no token for all of its "
                "teacher's once its vocabulary is cut. Type student.fit.vocabulary=false, or "
                "strategy=alignment."
            )


def _too_long(config: Config) -> list[str]:
    """Say whose documents may be longer than a step: all of them at once."""
    n = config.trainer.batch_tokens
    own = [student for student in config.students if student.path is None]
    long = {student.name: student.context_length for student in own if student.context_length > n}
    if not long:
        return []
    whose = f"student{'s' if len(long) > 1 else ''} {', '.join(long)}"
    most = f"context_length={max(long.values())}"
    return [
        f"trainer.batch_tokens={n} is less than one document of {whose} may have ({most}"
        f"{' at most' if len(set(long.values())) > 1 else ''}). {_room(config)}"
    ]


def _room(config: Config) -> str:
    """Say what gives every student's longest document room in a gradient step."""
    batch_tokens = config.trainer.batch_tokens
    own = [student for student in config.students if student.path is None]
    typed = f"trainer.batch_tokens={max(student.context_length for student in own)}"
    is_one = "candidates" not in config.plain.get("student", {})
    if is_one and batch_tokens >= MIN_CONTEXT:
        return f"Type {typed}, or student.context_length={batch_tokens}."
    return f"Type {typed}."


_TAKEN = {
    "deadline_hours": "hours",
    "latency_ms": "milliseconds",
    "model_mb": "megabytes",
    "server_memory_gb": "gigabytes",
}
"""Limits that no run keeps at 0, and their units."""


def _limits(config: Config) -> Iterator[str]:
    """Yield limits that contradict each other, or that no plan of any catalog could meet."""
    limits = config.limits
    for key, what in _TAKEN.items():
        if getattr(limits, key) == 0:
            yield (
                f"limits.{key}=0: every run takes more. Give {what} above 0, or null for no limit."
            )
    budget, probe = limits.budget_usd, limits.probe_usd
    # The default is a ceiling for whoever has paid teachers, which the budget lowers by itself;
    # another value is somebody's word.
    if budget is not None and probe > budget and probe != LimitsConfig.probe_usd:
        yield (
            f"limits.probe_usd={probe:g} is more than limits.budget_usd={budget:g}: the probe's "
            f"money is a part of the budget. Type limits.probe_usd={budget:g} or less, or a larger "
            "budget."
        )
    if limits.serve_hours > MAX_SERVE_HOURS:
        yield (
            f"limits.serve_hours={limits.serve_hours:g} is more than ten years "
            f"({MAX_SERVE_HOURS} hours), longer than any price is valid."
        )


def _cloud(config: Config) -> Iterator[str]:
    """Yield caps and quotas that leave nothing, and quotas of nothing."""
    cloud, rented = config.cloud, CloudConfig()
    unread = [f"cloud.{key}" for key in _OF_CLOUDS if getattr(cloud, key) != getattr(rented, key)]
    if unread and cloud.providers == (LOCAL,):
        yield (
            f"{listed(unread)}: cloud.providers=[{LOCAL}] rents nothing, so there is nothing that "
            "this limits. Type cloud=multi, or the name of a cloud, beside it."
        )
        return
    if cloud.max_usd_per_hour == 0 and LOCAL not in cloud.providers:
        yield (
            "cloud.max_usd_per_hour=0: only this machine costs nothing. Type cloud=local, or a cap "
            "above 0."
        )
    for key, quota in cloud.quotas.items():
        parts = key.split("/", 2)
        if not all(part.strip() for part in parts):
            yield (
                f"cloud.quotas.{key}: a quota is for cloud, cloud/region or "
                "cloud/region/instance_type; * matches any."
            )
        elif cloud.providers and "*" not in parts[0] and parts[0] not in cloud.providers:
            yield (
                f"cloud.quotas.{key}: {parts[0]} is not among the clouds of this run "
                f"({', '.join(cloud.providers)}).{did_you_mean(parts[0], cloud.providers)}"
            )
        if quota < 1:
            yield (
                f"cloud.quotas.{key}={quota}: a quota is at least 1. To exclude servers, use"
                " cloud.providers=[…] or cloud.regions=[…]."
            )


def _traffic(config: Config) -> Iterator[str]:
    """Yield rates and sizes of requests that no student can answer."""
    traffic = config.traffic
    if traffic.requests_per_s is not None and traffic.requests_per_s > MAX_REQUESTS_PER_S:
        typed, grown = f"traffic.requests_per_s={traffic.requests_per_s:g} is", ""
        if traffic.requests_per_day is not None:
            typed = f"traffic.requests_per_day={traffic.requests_per_day:g} comes to"
            grown = f", after {traffic.months:g} months of growth"
        yield (
            f"{typed} more than {MAX_REQUESTS_PER_S:,} requests a second{grown}, too many for one "
            "student."
        )
    longest = max((student.context_length for student in config.students), default=0)
    sizes = [(bucket.prompt_tokens, bucket.answer_tokens) for bucket in traffic.buckets]
    for i, (prompt, answer) in enumerate(sizes):
        if longest and prompt + answer > longest:
            yield (
                f"traffic.buckets[{i}]: {prompt} + {answer} tokens are more than any student's "
                f"context_length (at most {longest})."
            )
        if (prompt, answer) in sizes[:i]:
            yield (
                f"traffic.buckets[{i}]: {prompt} + {answer} tokens appear twice; add up their "
                "shares."
            )


def _engine(config: Config) -> Iterator[str]:
    """Yield what the engine of a stage lacks."""
    synthesize = config.synthesize
    if (reason := engine_of(synthesize.engine).unusable()) is not None:
        yield str(reason)
    if synthesize.engine != "ray" and synthesize.ray_address is not None:
        yield (
            f"synthesize.ray_address={synthesize.ray_address} needs synthesize.engine=ray. Add it, "
            "or leave the address out."
        )


def _executor(config: Config) -> Iterator[str]:
    """Yield what keeps stages from running as jobs."""
    executor, trainer = config.executor, config.trainer
    if not set(executor.stages) & set(config.stages):
        return
    reason = executor.unusable() or executor.no_node_takes()
    if reason is not None:
        yield str(reason)
    if "distill" in executor.stages and trainer.num_nodes > 1 and not executor.takes_nodes:
        yield (
            f"trainer.num_nodes={trainer.num_nodes}: executor={executor.kind} runs a stage on one "
            "node. Type trainer.num_nodes=1, or executor=here, which writes a script for each node."
        )


def _server(config: Config) -> Iterator[str]:
    """Yield what keeps the serving engine from being started here."""
    deploy, executor = config.deploy, config.executor
    if deploy.push_to is not None and deploy.is_off:
        yield f"deploy.push_to={deploy.push_to}: deploy=none makes no bundle. Leave that out."
    if deploy.keep and deploy.is_off:
        yield "deploy.keep=true: deploy=none makes no bundle to host. Leave one of them out."
    elif deploy.keep and not executor.runs_here:
        yield (
            f"deploy.keep=true hosts the student on this machine, and executor={executor.kind} is "
            "for others, which end with their stage. Leave deploy.keep out. When the run has "
            f"ended, type: {executor.serve_command}, or: stratos serve outputs/<run> (on this "
            "machine)."
        )
    if deploy.engine is None or deploy.is_off or "deploy" not in config.stages:
        return
    is_elsewhere = "deploy" in executor.stages and not executor.runs_here
    if not is_elsewhere and (why := deploy.engine.unusable()) is not None:
        yield str(why)
    from stratos.estimate.cards import card_of_student  # with numpy, which takes its time

    # Students in folders are not opened: the stage tells.
    cards = [
        card_of_student(student, config.task) for student in config.students if not student.path
    ]
    refused = {
        card.name: why for card in cards if (why := deploy.engine.cannot_serve(card)) is not None
    }
    if len(refused) == len(config.students):
        reasons = "; ".join(f"{name}: {why}" for name, why in refused.items())
        yield (
            f"{deploy.engine.title} serves none of the students ({reasons}). Take another "
            "student, or "
            "deploy=auto."
        )


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
    missing = ((key, path, _why_missing(key, path)) for key, path in local_files(plain))
    return [
        f"{key}={shown(path)}: {reason}.{beside(path)}"
        for key, path, reason in missing
        if reason is not None
    ]


def _why_missing(key: str, path: Path) -> Reason | None:
    reason = why_unreadable(path, or_folder=True)
    if reason is not None:
        is_pattern = not os.path.lexists(path) and bool(glob(str(path), recursive=True))
        return None if is_pattern else reason
    if key == "paths.records_from" and not path.is_dir():
        return NoRunFolder()
    return None


def _names_a_file(key: str, value: str) -> bool:
    """Tell a path from a hub name ("org/model") and from a URL of another file system."""
    if not (
        key in ("path", "catalog", "records_from", "schema", "database")
        or key.endswith(("_path", "_file"))
    ):
        return False
    if value.startswith("file://"):
        return True
    if "://" in value or not value.strip():
        return False
    return (
        key in ("records_from", "gpu_file", "database")
        or value.startswith((".", "/", "~"))
        or name_of(value).endswith(_FILE_SUFFIXES)
    )


def check_rows(config: Config) -> None:
    """Refuse a file of which nothing can be learnt or measured, before anything is asked or paid.

    Raises:
        ConfigError: there is too little in it.
    """
    if refusals := config.task.refusals():
        raise ConfigError(" ".join(map(str, refusals)))
