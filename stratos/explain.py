"""Why Hydra refuses an override, in words that say what to type instead."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, get_origin, get_type_hints

from omegaconf import DictConfig, OmegaConf

from stratos.build import schema_of
from stratos.errors import did_you_mean

if TYPE_CHECKING:
    from hydra._internal.hydra import Hydra
    from hydra.core.override_parser.types import Override


def explain(override: Override, base: DictConfig | None, reason: str, hydra: Hydra) -> str:
    """Say why an override cannot be used, and what could be.

    Args:
        override: what was asked for.
        base: what all other overrides compose to, if they do.
        reason: the first line of Hydra's own message.
        hydra: knows the groups and their choices.
    """
    key = override.key_or_group
    text = override.input_line or key
    if is_group(key, hydra):
        return f"{text}: {_explain_choice(override, text, reason, hydra)}"
    groups = hydra.list_all_config_groups()
    if "/" in key:
        return f"{text}: there is no group {key}.{did_you_mean(key, groups)}"
    if base is None:
        return f"{text}: {reason}"
    known = {*groups, *(str(name) for name in base if name != "hydra")}
    if "." not in key and key not in known:
        return f"{text}: there is no group or key {key}.{did_you_mean(key, known)}"
    return f"{text}: {_explain_key(key, text, base) or reason}"


def is_group(key: str, hydra: Hydra) -> bool:
    """Tell a config group from a key."""
    return "." not in key and bool(hydra.config_loader.get_group_options(key))


def _explain_choice(override: Override, text: str, reason: str, hydra: Hydra) -> str:
    from hydra.core.object_type import ObjectType

    group, choice = override.key_or_group, override.value()
    known = sorted(hydra.config_loader.get_group_options(group, ObjectType.CONFIG))
    for name in choice if isinstance(choice, list) else [choice]:
        if name is not None and str(name) not in known:
            near = did_you_mean(str(name), known)
            return f"there is no {group} {name}.{near} Known: {', '.join(known)}.{_extra(text)}"
    if "appears more than once" in reason:
        twice = reason.partition(" ")[0]
        return f"it names the {twice} itself. Leave +{twice}=… out, or write {twice}=…"
    if override.is_add():
        return f"{group} is set already. Write it without the +: {text.lstrip('+')}"
    if "Could not override" in reason:
        return f"{group} is not set yet. Write it with a +: +{text}"
    return f"{reason}{_extra(reason)}"


def _extra(text: str) -> str:
    """Return the command that installs a plug-in which an extra brings."""
    if "hydra/sweeper" in text and "optuna" in text:
        return " It comes with: pip install 'stratos-llm[sweep]'"
    return ""


def _takes_any_key(base: DictConfig, where: str) -> bool:
    """Return whether a node is a mapping whose keys the user makes up."""
    owner, _, name = where.rpartition(".")
    schema = schema_of(base, owner) if owner else None
    return schema is not None and get_origin(get_type_hints(schema).get(name)) is dict


def _explain_key(key: str, text: str, base: DictConfig) -> str | None:
    """Walk along a dotted key to the first part that is not there."""
    node: Any = base
    walked: list[str] = []
    for part in key.split("."):
        owner = ".".join(walked)
        if not isinstance(node, DictConfig):
            return f"{owner} is a value and has no keys."
        if part not in node:
            schema = schema_of(base, owner) if owner else None
            fields = [] if schema is None else [field.name for field in dataclasses.fields(schema)]
            if part in fields:
                return f"no file sets {key} so far. Write it with a +: +{text}"
            if _takes_any_key(base, owner):
                value = text.partition("=")[2]
                entry = ".".join(key.split(".")[len(walked) :])
                return f"to add an entry, type '+{owner}={{{entry}: {value}}}'"
            known = list(dict.fromkeys([*map(str, node), *fields]))
            near = did_you_mean(part, known) or f" Known: {', '.join(known)}."
            return f"{owner or 'the config'} has no key {part}.{near}"
        walked.append(part)
        if OmegaConf.is_missing(node, part) or OmegaConf.is_interpolation(node, part):
            return None
        node = node[part]
    return None
