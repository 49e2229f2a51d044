"""Entries of reasoning-gym: made by number, so that each is made again wherever it is needed."""

from __future__ import annotations

import json
import os
import random
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import fields
from functools import cache, lru_cache
from importlib.util import find_spec
from typing import Any

from stratos.core import extras
from stratos.core.errors import StratosError, did_you_mean

BLOCK = 2000
"""Entries that are made from one seed of the package."""
SEEDS_APART = 10_000_000
"""Between the first seeds of two seeds of ours: the package adds an entry's number to the seed."""
_N_SEEDS = 400
"""Seeds of ours that differ: some generators take none of more than 32 bits."""
NEED_HASH_SEED = frozenset(
    ("isomorphic_strings", "polynomial_multiplication", "ransom_note", "word_ladder")
)
"""Generators that go through sets, and so make others in a process that hashes otherwise."""
WITHOUT_GOLD = frozenset(
    ("boxnet", "graph_color", "propositional_logic", "rubiks_cube", "rush_hour")
)
"""Generators that can check an answer and give none."""
_NO_TASK = frozenset(("composite", "knight_swap"))
"""A mixture of others, and one that never makes the same question twice."""
_LIMITS = ("seed", "size")
"""Settings of a generator that are ours."""


def names() -> tuple[str, ...]:
    """Return the names of all generators.

    Raises:
        StratosError: the package is not installed.
    """
    return tuple(sorted(_registry()[0].keys() - _NO_TASK))


def has_levels(name: str) -> bool:
    """Return whether a generator has a curriculum."""
    return name in _registry()[1]


def not_installed() -> str:
    """Return what to type where the package is missing."""
    return f"task=reasoning_gym needs the package reasoning-gym. Type: {extras.install('gym')}"


def check(name: str, parameters: Mapping[str, Any], level: int | None) -> None:
    """Check that there is such a generator with such settings.

    Raises:
        ValueError: there is none; the message says what to type.
    """
    if find_spec("reasoning_gym") is None:
        raise ValueError(not_installed())
    known = names()
    if name not in known:
        raise ValueError(
            f"name={name}: there is no such generator.{did_you_mean(name, known)} "
            "docs/contrib/gym.md lists them."
        )
    if name in NEED_HASH_SEED and not (os.environ.get("PYTHONHASHSEED") or "random").isdigit():
        raise ValueError(
            f"name={name}: this generator makes other questions in each process, unless Python "
            "hashes alike. Type PYTHONHASHSEED=0 before the command."
        )
    settings = [field.name for field in fields(_registry()[0][name][1])]
    settings = [setting for setting in settings if setting not in _LIMITS]
    for setting in parameters:
        if setting not in settings:
            raise ValueError(
                f"parameters.{setting}: {name} has no such setting."
                f"{did_you_mean(setting, settings)} Known: {', '.join(settings)}."
            )
    if level is not None and not has_levels(name):
        raise ValueError(f"level={level}: {name} has no levels. Type task.level=null.")
    try:
        generator(name, frozen(parameters), level, 0)
    except (AssertionError, ValueError, TypeError) as error:
        raise ValueError(f"parameters: {name} refuses them ({error}).") from error


def frozen(parameters: Mapping[str, Any]) -> str:
    """Return settings as what a generator is found by."""
    return json.dumps(parameters, sort_keys=True)


@lru_cache(maxsize=8)
def generator(name: str, parameters: str, level: int | None, seed: int) -> Any:
    """Return a block of entries of the package.

    Args:
        name: of the generator.
        parameters: its settings, as `frozen` gives them.
        level: of its curriculum; None for the settings alone.
        seed: of the block.
    """
    classes, curricula = _registry()
    cls, config_cls = classes[name]
    known = {field.name for field in fields(config_cls)}
    settings: dict[str, Any] = {}
    if level is not None:
        curriculum = curricula[name]()
        for attribute in curriculum.attributes.values():
            curriculum.set_attr_level(attribute.name, min(level, len(attribute.levels) - 1))
        made = curriculum.generate_configuration({})
        settings = {field.name: getattr(made, field.name) for field in fields(made)}
    settings |= json.loads(parameters)
    settings |= {key: value for key, value in (("seed", seed), ("size", BLOCK)) if key in known}
    config = config_cls(**settings)
    if hasattr(config, "validate"):
        config.validate()
    return cls(config=config)


def entries(
    name: str, parameters: str, level: int | None, seed: int
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the entries of a seed with the place of each: without end."""
    block = 0
    while True:
        source = generator(name, parameters, level, first_of(seed, block))
        for number in range(min(BLOCK, len(source))):
            yield f"{seed}.{block}.{number}", _made(source, number)
        block += 1


def entry_at(
    name: str, parameters: str, level: int | None, origin: str
) -> tuple[Any, dict[str, Any]]:
    """Make the entry of a place again; return it behind its generator, which checks answers.

    Raises:
        StratosError: it is no place.
    """
    try:
        seed, block, number = map(int, origin.split("."))
    except ValueError:
        raise StratosError(f"{origin!r} is no place of an entry of {name}.") from None
    source = generator(name, parameters, level, first_of(seed, block))
    return source, _made(source, number)


def _made(source: Any, number: int) -> dict[str, Any]:
    """Make an entry, the same each time: some generators draw from Python's own randomness."""
    state = random.getstate()
    random.seed(number)
    try:
        return source[number]
    finally:
        random.setstate(state)


def first_of(seed: int, block: int) -> int:
    """Return the package's seed of a block."""
    return seed % _N_SEEDS * SEEDS_APART + block * BLOCK


@cache
def _registry() -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the generators and the curricula of the package, by name."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of its plotting packages
        try:
            import reasoning_gym
            from reasoning_gym.factory import CURRICULA, DATASETS
        except ImportError as error:
            raise StratosError(not_installed()) from error
    assert reasoning_gym is not None
    return DATASETS, CURRICULA
