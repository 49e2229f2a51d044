"""Convert plain values to the field types of a dataclass, with one message per mistake; names.

A key of another tool (Lightning, transformers, TRL) is answered with ours. Names stand in tables,
files and scripts, and catalogs and tasks come from anywhere: a line break in an instance type was a
command in a script.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import re
import types
import typing
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import is_dataclass
from typing import Any, Literal, Protocol, TypeVar, Union, cast

import msgspec

from stratos.core.errors import did_you_mean
from stratos.core.formats import shown, unseen
from stratos.core.reasons import Because, Reason
from stratos.core.trust import find_class

_STEP = "The batch size is in tokens, over all devices: type trainer.batch_tokens=…"
_ACCUMULATE = (
    "Type trainer.accumulate=…, which divides the tokens of a gradient step (trainer.batch_tokens) "
    "and does not multiply them."
)
_RATES = (
    "Type trainer.lr_muon=… for the 2-D weights of the blocks, and trainer.lr_adamw=… for "
    "everything else."
)
_SCHEDULE = "There is one schedule: a linear warm-up (trainer.warmup_steps), then a cosine to 0."

NAMES: dict[str, dict[str, str]] = {
    "trainer": {
        "accumulate_grad_batches": _ACCUMULATE,
        "batch_size": _STEP,
        "bf16": "Type trainer.precision=bf16",
        "epochs": "max_epochs",
        "gpus": "devices",
        "gradient_accumulation_steps": _ACCUMULATE,
        "gradient_checkpointing": "checkpointing",
        "gradient_clip_val": "clip_norm",
        "learning_rate": _RATES,
        "load_in_4bit": "Type trainer=qlora",
        "lora_r": "lora_rank",
        "lr": _RATES,
        "lr_scheduler_type": _SCHEDULE,
        "max_grad_norm": "clip_norm",
        "max_seq_length": "Type student.context_length=…",
        "max_steps": (
            "Tokens and epochs set the length of a training: type trainer.max_tokens=… or "
            "trainer.max_epochs=…"
        ),
        "nnodes": "num_nodes",
        "num_epochs": "max_epochs",
        "num_train_epochs": "max_epochs",
        "optim": "optimizer",
        "output_dir": "Type hydra.run.dir=<folder>",
        "packing": "Rows are always packed: leave it out.",
        "per_device_train_batch_size": _STEP,
        "report_to": "Type logger=<name>, several as logger=[wandb,csv], or logger=none",
        "save_steps": "Type callbacks.checkpoint_every_steps=…",
        "seed": "Type seed=…",
        "use_peft": "Type trainer=lora",
        "val_check_interval": "Type callbacks.validate_every_steps=…",
        "warmup_ratio": "The warm-up is counted in steps: type trainer.warmup_steps=…",
    },
    "cloud": {"use_spot": "spot"},
    "strategy": {
        "lambda": "lmbda",
        "loss": "objective",
        "loss_type": "objective",
        "num_generations": "n_samples",
    },
    "student": {
        "max_position_embeddings": "context_length",
        "max_seq_length": "context_length",
        "model_name_or_path": "path",
        "num_attention_heads": "n_heads",
        "num_hidden_layers": "n_layers",
    },
}
"""Group to the names of other tools, each with our key, or with a sentence where none is alike."""


def our_name(group: str, name: str) -> str:
    """Return our key for a name of another tool; the name itself where we have none."""
    ours = NAMES.get(group, {}).get(name, name)
    return name if " " in ours else ours


def hint(where: str, name: str, value: str, known: Collection[str]) -> str:
    """Return what to type in place of another tool's name, or an empty string.

    Args:
        where: the node that has no such key, as it is typed.
        name: the key that was asked for.
        value: what it was to be.
        known: the keys that the node has.
    """
    ours = NAMES.get(where.partition(".")[0], {}).get(name, "")
    if " " in ours:
        return f" {ours}"
    return f" Here it is {ours}: type {where}.{ours}={value}" if ours in known else ""


@dataclasses.dataclass(frozen=True)
class OneOf:
    """Of a text: it is a key of a table, as that is when a value is read."""

    table: Mapping[str, Any]

    def __hash__(self) -> int:
        """Tell tables apart: two `Annotated` types are compared by it."""
        return id(self.table)


def is_key(field: dataclasses.Field[Any]) -> bool:
    """Return whether a field is set by a key: those that begin with _ are of the code's own use."""
    return field.init and not field.name.startswith("_")


def read_dataclass(node: Any, cls: type, where: str, problems: list[str]) -> Any:
    """Make an instance of a dataclass, or report every key that does not fit and return None."""
    fields = {field.name: field for field in dataclasses.fields(cls) if is_key(field)}
    if not isinstance(node, Mapping):
        known = ", ".join(fields)
        problems.append(f"{where}={show(node)}: it takes keys, as {where}.<key>=…. Known: {known}.")
        return None
    hints = typing.get_type_hints(cls, include_extras=True)
    before = len(problems)
    values: dict[str, Any] = {}
    for key, value in node.items():
        if key not in fields:
            near = hint(where, str(key), show(value), fields)
            near = near or did_you_mean(str(key), fields) or f" Known: {', '.join(fields)}."
            problems.append(f"{where}.{key}: there is no such key.{near}")
        elif value is None and fields[key].default == "":
            continue  # a text that may be left out stands in a YAML as null
        else:
            values[key] = read_value(value, hints[key], f"{where}.{key}", problems)
    for name, field in fields.items():
        required = field.default is field.default_factory is dataclasses.MISSING
        is_reported = any(problem.startswith(f"{where}.{name} ") for problem in problems)
        if required and name not in node and not is_reported:
            problems.append(f"{where}.{name} is required: give it with {where}.{name}=…")
    if len(problems) > before or any(p.startswith(f"{where}.") for p in problems):
        return None
    try:
        return cls(**values)
    except (TypeError, ValueError) as error:
        # Some name the key themselves.
        text = str(error)
        problems.append(text if text.startswith(f"{where}.") else f"{where}: {text}")
        return None


def read_value(value: Any, kind: Any, where: str, problems: list[str]) -> Any:
    """Convert one value to the type of its field."""
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    bases = tuple(each for each in (kind, *args) if isinstance(each, type) and is_dataclass(each))
    if isinstance(value, Mapping) and "_target_" in value and bases:
        expected = f"expected a class that is {' or '.join(base.__name__ for base in bases)}."
        return read_target(
            value, where, problems, lambda cls: None if issubclass(cls, bases) else expected
        )
    if origin is tuple and args[-1:] == (Ellipsis,) and isinstance(value, list | tuple | str):
        if isinstance(value, str):  # one where several may stand
            return (read_value(value, args[0], where, problems),)
        return tuple(
            read_value(item, args[0], f"{where}[{index}]", problems)
            for index, item in enumerate(value)
        )
    if origin is dict and (value is None or isinstance(value, Mapping)):
        return {  # a mapping that can be set whole stands in a YAML as null
            read_value(key, args[0], f"{where} has a key", problems): read_value(
                item, args[1], f"{where}.{key}", problems
            )
            for key, item in (value or {}).items()
        }
    is_optional = origin in (Union, types.UnionType) and isinstance(value, Mapping)
    if bases and (bases[0] is kind or (is_optional and len(bases) == 1)):
        return read_dataclass(value, bases[0], where, problems)
    return _read_plain(value, kind, where, problems)


_MOST = 1e12
"""Largest number that any key takes: sums and products of a few stay exact, and count something."""


def _read_plain(value: Any, kind: Any, where: str, problems: list[str]) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        problems.append(f"{where}={value}: expected {in_words(kind)}, and a finite one.")
        return None
    metas = [each for each in getattr(kind, "__metadata__", ()) if isinstance(each, msgspec.Meta)]
    has_own = any(meta.le is not None or meta.lt is not None for meta in metas)
    if not has_own and isinstance(value, int | float) and abs(value) > _MOST:
        problems.append(f"{where}={value}: expected {in_words(kind)}, and {_MOST:g} at most.")
        return None
    tables = [each.table for each in getattr(kind, "__metadata__", ()) if isinstance(each, OneOf)]
    if all(isinstance(value, str) and value in table for table in tables):
        # Hydra reads 2e7 as a float; where a whole number is wanted, it is one.
        whole = isinstance(value, float) and value.is_integer()
        for form in (value, int(value)) if whole else (value,):
            with contextlib.suppress(msgspec.ValidationError):
                return msgspec.convert(form, kind)
    problems.append(f"{where}={show(value)}: expected {in_words(kind)}.")
    return None


def read_target(
    node: Mapping[str, Any],
    where: str,
    problems: list[str],
    why_not: Callable[[type], object],
) -> Any:
    """Make an instance of the class that `_target_` names.

    Args:
        node: the name and the settings.
        where: the node is, as it is typed.
        problems: takes what is wrong.
        why_not: returns why a class may not stand here; None if it may.
    """
    target = node["_target_"]
    cls = find_class(target)
    reason = cls if isinstance(cls, Reason) else why_not(cls)
    if reason is not None:
        problems.append(f"{where}._target_={target}: {reason}")
        return None
    settings = {key: value for key, value in node.items() if key != "_target_"}
    return read_dataclass(settings, cast(type, cls), where, problems)


def in_words(kind: Any) -> str:
    """Return a type in the user's words."""
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if origin is typing.Annotated:
        for each in kind.__metadata__:
            if isinstance(each, OneOf):
                return f"one of {', '.join(each.table)}"
        metas = [each for each in args[1:] if isinstance(each, msgspec.Meta)]
        named = next((meta.description for meta in metas if meta.description), None)
        return (named or in_words(args[0])) + "".join(map(_say_bounds, metas))
    if origin in (Union, types.UnionType):
        return " or ".join(in_words(arg) for arg in args)
    if origin is Literal:
        return "one of " + ", ".join(str(arg) for arg in args)
    if dataclasses.is_dataclass(kind):
        return "a mapping of keys to values"
    words = {
        float: "a number",
        int: "a whole number",
        str: "text",
        bool: "true or false",
        type(None): "null",
        tuple: "a list",
        list: "a list",
        dict: "a mapping",
    }
    return words.get(origin or kind, getattr(kind, "__name__", str(kind)))


def _say_bounds(bound: msgspec.Meta) -> str:
    if bound.ge is not None:
        if bound.le is not None:
            return f" from {bound.ge} to {bound.le}"
        if bound.lt is not None:
            return f" from {bound.ge} to below {bound.lt}"
        return f" of at least {bound.ge}"
    ends = (("above", bound.gt), ("below", bound.lt), ("up to", bound.le))
    text = " and ".join(f"{word} {end}" for word, end in ends if end is not None)
    return f" {text}" if text else ""


_PLAIN = re.compile(r"[\w./:@~+-]+", re.ASCII)
"""A value that Hydra takes without quotes."""


def uninterpolated(text: str) -> str:
    """Return a text as a config says it where `${` in it stands for itself."""
    return re.sub(r"(\\*)\$\{", r"\1\1\\${", text)


def override(key: str, value: str) -> str:
    """Return an override of Hydra that gives a key a text, whatever is in it."""
    if _PLAIN.fullmatch(value):
        return f"{key}={value}"
    # Hydra takes a backslash for an escape in front of a quote alone, or of another one there.
    escaped = re.sub(r'(\\*)"', r'\1\1\\"', uninterpolated(value))
    tail = len(escaped) - len(escaped.rstrip("\\"))
    return f'{key}="{escaped}{escaped[len(escaped) - tail :]}"'


def show(value: Any) -> str:
    """Return a value as the user would type it."""
    return value if isinstance(value, str) else json.dumps(value, default=str)


LONGEST_NAME = 200
"""Characters of a name; an instance type has 30, the name of a model on the hub at most 96."""

_NAMED = {
    "name", "model", "license", "providers", "regions", "slices", "labels", "project", "entity",
    "group",
}  # fmt: skip
"""Keys of the config whose values are names."""
_KEYED = {"candidates", "quotas"}
"""Keys whose own keys are names."""
_PATHS = {"path", "catalog", "records_from", "base_url"}
_FREE = {"extra_body", "verifier"}
"""Keys below which nothing is ours."""


def why_no_name(text: str) -> Reason | None:
    """Return why a text may not be a name, as the end of a sentence; None if it may."""
    if text.strip() and len(text) > LONGEST_NAME:
        return Because(f"a name has at most {LONGEST_NAME} characters, this one has {len(text):,}")
    return _why_no_path(text, "name")


def wrong_names(node: Any, key: str = "") -> Iterator[str]:
    """Yield a problem for every name and path of a config that may be none."""
    if isinstance(node, Mapping):
        for name, value in node.items():
            if name in _FREE:
                continue
            inner = f"{key}.{name}" if key else str(name)
            if name in _KEYED and isinstance(value, Mapping):
                yield from (
                    f"{inner} has a key '{shown(name)}': {reason}."
                    for name in value
                    if (reason := why_no_name(str(name)))
                )
            yield from wrong_names(value, inner)
    elif isinstance(node, list | tuple):
        for item in node:
            yield from wrong_names(item, key)
    elif isinstance(node, str):
        last = key.rpartition(".")[2]
        if last in _NAMED:
            reason = why_no_name(node)
            if last == "name" and ("/" in node or "\\" in node or node in (".", "..")):
                reason = reason or Because("a name cannot have a slash: folders are named after it")
        elif last in _PATHS or last.endswith(("_path", "_file", "_dir")):
            reason = _why_no_path(node, "URL" if last == "base_url" else "path")
        else:
            reason = None
        if reason is not None:
            yield f"{key}='{shown(node, 60)}': {reason}."


def _why_no_path(text: str, what: str) -> Reason | None:
    if not text.strip():
        return Because(f"a {what} cannot be empty")
    character = unseen(text)
    if not character:
        return None
    return Because(f"a {what} cannot have the character {character}, which is invisible")


class HasName(Protocol):
    """What is looked up."""

    @property
    def name(self) -> str:
        """By which it is known; no other of its kind has it."""
        ...


N = TypeVar("N", bound=HasName)


def find(ones: Iterable[N], name: str) -> N | None:
    """Return the one that has a name; None if there is none."""
    return {each.name: each for each in ones}.get(name)


def named(ones: Iterable[N], name: str) -> N:
    """Return the one that has a name, where it is known that there is one.

    Raises:
        KeyError: there is none.
    """
    return {each.name: each for each in ones}[name]
