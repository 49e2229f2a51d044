"""Translate Hydra's override errors into messages that say what to type."""

from __future__ import annotations

import dataclasses
import warnings
from typing import TYPE_CHECKING, Any, get_args, get_origin, get_type_hints

from omegaconf import DictConfig, OmegaConf

from stratos.cli.build import CANDIDATES, GROUPS, any_of, of_each, schema_of
from stratos.cli.words import IsMapping, IsOfCandidate, IsValue, NoFileSetsKey, NoKey, NothingToFit
from stratos.core.errors import did_you_mean
from stratos.core.reasons import Reason
from stratos.core.values import hint, our_name

if TYPE_CHECKING:
    from hydra._internal.hydra import Hydra
    from hydra.core.override_parser.types import Override

_IN_WORDS = {
    "Cannot merge DictConfig with ListConfig": "expected a list.",
    "Invalid loaded object type": "its file is no mapping of keys to values.",
    "Could not delete": "nothing is chosen that could be left out.",
}
"""How what Hydra says begins, and what is said in its place."""


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
    if not key:
        return f"{text}: name a group or a key before the =."
    if is_group(key, hydra):
        is_set = base is not None and key in base
        return f"{text}: {_explain_choice(override, text, reason, is_set, hydra)}"
    if "/" in key:
        return (
            f"{text}: there is no group {key}.{did_you_mean(key, hydra.list_all_config_groups())}"
        )
    if base is None:
        return f"{text}: {_in_words(reason, key)}"
    if "." not in key and key not in base:
        known = {*hydra.list_all_config_groups(), *(str(name) for name in base if name != "hydra")}
        near = _of_a_trainer(key, text) or did_you_mean(key, known)
        return f"{text}: there is no group or key {key}.{near}"
    return f"{text}: {_explain_key(key, text, base, hydra) or _in_words(reason, key)}"


def is_group(key: str, hydra: Hydra) -> bool:
    """Tell a config group from a key."""
    from hydra._internal.config_loader_impl import ConfigLoaderImpl

    loader = hydra.config_loader
    assert isinstance(loader, ConfigLoaderImpl)
    # Not of the loader: it copies all that it knows for each answer, 4 ms an override.
    return "." not in key and bool(loader.repository.get_group_options(key))


def _explain_choice(override: Override, text: str, reason: str, is_set: bool, hydra: Hydra) -> str:
    from hydra.core.object_type import ObjectType

    group, choice = override.key_or_group, override.value()
    known = sorted(hydra.config_loader.get_group_options(group, ObjectType.CONFIG))
    for name in choice if isinstance(choice, list) else [choice]:
        if name is not None and str(name) not in known:
            near = did_you_mean(str(name), known)
            if group == "objective" and _is_divergence(str(name)):
                typed = f"strategy=alignment_logits strategy.objective={name}"
                return (
                    f"there is no {group} {name}. Known: {', '.join(known)}. For the loss, type "
                    f"{typed}"
                )
            return f"there is no {group} {name}.{near} Known: {', '.join(known)}.{_extra(text)}"
    if "appears more than once" in reason:
        twice = reason.partition(" ")[0]
        if group == twice:
            return f"the {twice} is named already. Leave {text} out, or write {text.lstrip('+')}"
        return f"it names the {twice} itself. Leave +{twice}=… out, or write {twice}=…"
    if override.is_add() and is_set:
        return f"{group} is set already. Write it without the +: {text.lstrip('+')}"
    if "Could not override" in reason:
        return f"{group} is not set yet. Write it with a +: +{text}"
    return f"{_in_words(reason, group)}{_extra(reason)}"


def _in_words(reason: str, key: str) -> str:
    """Return what Hydra says as users of Stratos read it."""
    problem = reason.removeprefix(f"{key}: ")
    return next((words for begin, words in _IN_WORDS.items() if problem.startswith(begin)), problem)


def _extra(text: str) -> str:
    """Return what stands in for a plug-in that is not there."""
    if "hydra/sweeper" in text and "optuna" in text:
        return " Optuna's is hydra/sweeper=study."
    return ""


def _type_of(base: DictConfig, where: str) -> Any:
    """Return the type of a key, as its schema has it; None where it has none."""
    owner, _, name = where.rpartition(".")
    schema = schema_of(base, owner) if owner else None
    return None if schema is None else get_type_hints(schema).get(name)


def _takes_any_key(base: DictConfig, where: str) -> bool:
    """Return whether a node is a mapping whose keys the user makes up."""
    return get_origin(_type_of(base, where)) is dict


def _is_mapping(base: DictConfig, where: str) -> bool:
    """Return whether a node takes a mapping, though it may be null."""
    kinds = get_args(_type_of(base, where))
    return _takes_any_key(base, where) or any(map(dataclasses.is_dataclass, kinds))


def _explain_key(key: str, text: str, base: DictConfig, hydra: Hydra) -> Reason | None:
    """Walk along a dotted key to the first part that is not there."""
    node: Any = base
    walked: list[str] = []
    is_fit = key.startswith("student.fit.") and OmegaConf.select(base, key) is None
    is_lm = OmegaConf.select(base, "student.kind", default="lm") == "lm"
    if is_fit and not (is_lm and OmegaConf.select(base, "student.path")):
        return NothingToFit(key, text)
    for part in key.split("."):
        owner = ".".join(walked)
        if not isinstance(node, DictConfig):
            if node is None and (entry := _candidate_with(base, f"{owner}s", part)) is not None:
                rest = ".".join(key.split(".")[len(walked) :])
                typed = f"{owner}s.{entry}.{rest}={text.partition('=')[2]}"
                return IsOfCandidate(owner, typed)
            if node is None and _is_mapping(base, owner):
                return IsMapping(owner, _entry(key, len(walked), text), None)
            return IsValue(owner, _beside(walked, key, text, base))
        if part not in node:
            schema = schema_of(base, owner) if owner else None
            fields = [] if schema is None else [field.name for field in dataclasses.fields(schema)]
            if part in fields:
                return NoFileSetsKey(key, text)
            if _takes_any_key(base, owner):
                return IsMapping(owner, _entry(key, len(walked), text), len(node))
            known = list(dict.fromkeys([*map(str, node), *fields]))
            near = _hint(key, owner, text, base, known, hydra)
            near = near or did_you_mean(part, known) or f" Known: {', '.join(known)}."
            return NoKey(owner, part, near)
        walked.append(part)
        if OmegaConf.is_missing(node, part) or OmegaConf.is_interpolation(node, part):
            return None
        node = node[part]
    if isinstance(node, DictConfig) and _takes_any_key(base, key):
        return IsMapping(key, text.partition("=")[2], len(node), is_entry=False)
    return None


def _candidate_with(base: DictConfig, candidates: str, key: str) -> str | None:
    """Return the first candidate that has a key, of those from which the plan takes one."""
    nodes = OmegaConf.select(base, candidates)
    if not isinstance(nodes, DictConfig):
        return None
    return next((str(name) for name, node in nodes.items() if key in node), None)


def _beside(walked: list[str], key: str, text: str, base: DictConfig) -> str:
    """Return the key as it is typed where it stands beside a value that was taken for its owner."""
    *above, _ = walked
    node = OmegaConf.select(base, ".".join(above)) if above else base
    rest = key.split(".")[len(walked) :]
    if isinstance(node, DictConfig) and rest[0] in node:
        return f"{'.'.join([*above, *rest])}={text.partition('=')[2]}"
    return ""


def _entry(key: str, n_walked: int, text: str) -> str:
    """Return the mapping of one entry that an override means."""
    entry = ".".join(key.split(".")[n_walked:])
    return f"{{{entry}: {text.partition('=')[2]}}}"


def _hint(key: str, owner: str, text: str, base: DictConfig, known: list[str], hydra: Hydra) -> str:
    """Say where a key is set that a node does not have, or return an empty string."""
    part, _, rest = key.removeprefix(f"{owner}.").partition(".")
    if not owner:
        return _of_a_trainer(part, text)
    value = _value(text)
    if advice := hint(owner, part, value, known):
        return advice
    group = owner.partition(".")[0]
    name, deeper = our_name(group, part), f".{rest}" if rest else ""
    several = _candidates(group, base)
    places = [f"{base}{deeper}={value}" for base in of_each(group, several, name)]
    if places:
        return f" Each candidate has its own keys: type {any_of(places)}"
    return _other_strategies(name, value, bool(several), hydra) if group == "strategy" else ""


def _of_a_trainer(name: str, text: str) -> str:
    """Say what another tool's name of a setting of its trainer is here, or return ""."""
    fields = [field.name for field in dataclasses.fields(GROUPS["trainer"])]
    return hint("trainer", name, _value(text), fields)


def _other_strategies(name: str, value: str, is_auto: bool, hydra: Hydra) -> str:
    """Name the strategies that have a key, or return an empty string.

    Args:
        name: the key.
        value: what it was to be.
        is_auto: several candidates were asked for: so it can be with those that have the key.
        hydra: knows the strategies, the user's own among them.
    """
    from hydra.types import RunMode

    alone: list[str] = []
    among: list[str] = []
    for choice in sorted(hydra.config_loader.get_group_options("strategy")):
        try:
            with warnings.catch_warnings():  # of files that were written as parts of a config
                warnings.simplefilter("ignore")
                composed = hydra.compose_config(  # alone: all groups take four times as long
                    f"strategy/{choice}", [], RunMode.RUN, with_log_configuration=False
                )
        except Exception:  # a broken file of the user's is told of when it is asked for
            continue
        schema = schema_of(composed, "strategy")
        if schema is not None and name in {field.name for field in dataclasses.fields(schema)}:
            alone.append(choice)
        places = of_each("strategy", _candidates("strategy", composed), name)
        among += [f"strategy={choice} {path}={value}" for path in places[:1]]
    if not alone:
        return ""
    plural = "strategies" if len(alone) > 1 else "strategy"
    typed = [f"strategy={alone[0]} strategy.{name}={value}", *(among[:1] if is_auto else [])]
    verb = "have" if len(alone) > 1 else "has"
    return f" The {plural} {', '.join(alone)} {verb} it: type {' or '.join(typed)}"


def _candidates(group: str, base: DictConfig) -> dict[Any, Any]:
    """Return the candidates of a group as plain dicts; none where it is one choice."""
    node = OmegaConf.select(base, f"{group}.candidates") if group in CANDIDATES else None
    candidates = OmegaConf.to_container(node) if isinstance(node, DictConfig) else {}
    assert isinstance(candidates, dict)
    return candidates


def _is_divergence(name: str) -> bool:
    from stratos.distill.divergences import DIVERGENCES

    return name in DIVERGENCES


def _value(text: str) -> str:
    return text.partition("=")[2] or "…"
