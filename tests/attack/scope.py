"""How much of the attack runs: a part in the suite, all of it with `make attack`."""

from __future__ import annotations

import os
import random
from collections.abc import Sequence
from typing import TypeVar

from tests.whole import IS_WHOLE

T = TypeVar("T")

SEED = int(os.environ.get("STRATOS_ATTACK_SEED", "0"))
"""Of whatever is drawn: which part, and when something is killed."""
N_FILES = int(os.environ.get("STRATOS_ATTACK_FILES", "10000"))
"""Files of a finished run that each kind of damage is done to, where everything runs."""
N_KILLS = int(os.environ.get("STRATOS_ATTACK_KILLS", "25"))
"""Times that one run is killed."""


def part_of(cases: Sequence[T], every: int) -> list[T]:
    """Return all cases, or a part of them that is drawn with the seed."""
    if IS_WHOLE:
        return list(cases)
    drawn = random.Random(SEED).sample(range(len(cases)), len(cases) // every)
    return [cases[i] for i in sorted(drawn)]
